// Reads Prometheus' exposition text, as far as the checks need it: values by name and labels.

export type Sample = { readonly labels: Readonly<Record<string, string>>; readonly value: number };

export class MetricsText {
  readonly #samples: ReadonlyMap<string, readonly Sample[]>;

  constructor(text: string) {
    const samples = new Map<string, Sample[]>();
    for (const line of text.split("\n")) {
      const [, name, labels, value] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$/.exec(line) ?? [];
      if (name === undefined) continue;
      const list = samples.get(name) ?? [];
      list.push({ labels: readLabels(labels ?? ""), value: Number(value) });
      samples.set(name, list);
    }
    this.#samples = samples;
  }

  all(name: string): readonly Sample[] {
    return this.#samples.get(name) ?? [];
  }

  /** Of all series of that name whose labels are wanted; null where the server has no such metric. */
  sum(name: string, wanted: (labels: Sample["labels"]) => boolean = () => true): number | null {
    const series = this.#samples.get(name);
    if (series === undefined) return null;
    return series.reduce((sum, { labels, value }) => sum + (wanted(labels) ? value : 0), 0);
  }
}

function readLabels(text: string): Record<string, string> {
  const pairs = text.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g);
  return Object.fromEntries([...pairs].map(([, name, value]) => [name!, value!.replace(/\\(.)/g, "$1")]));
}
