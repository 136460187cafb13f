// Makes the instruments of one server in a registry of its own. The only file that imports prom-client.

import { Counter, Gauge, Histogram, Registry } from "prom-client";

export type { Counter, Histogram } from "prom-client";

export type Labels = Readonly<Record<string, string>>;
export type Sample = { readonly labels: Labels; readonly value: number };

type Described = { readonly name: string; readonly help: string; readonly labelNames?: readonly string[] };

/** `read` is called by every scrape; a series that it does not give any more is gone. */
export type ReadInstrument = Described & { readonly read: () => Iterable<Sample> };

export class Instruments {
  readonly #registry = new Registry();

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The exposition text. */
  render(): Promise<string> {
    return this.#registry.metrics();
  }

  counter({ name, help, labelNames = [] }: Described): Counter {
    return new Counter({ name, help, labelNames, registers: [this.#registry] });
  }

  histogram({ name, help, labelNames = [] }: Described, buckets: readonly number[]): Histogram {
    return new Histogram({ name, help, labelNames, buckets: [...buckets], registers: [this.#registry] });
  }

  gauge({ name, help, labelNames = [], read }: ReadInstrument): void {
    new Gauge({
      name,
      help,
      labelNames,
      registers: [this.#registry],
      collect() {
        this.reset();
        for (const { labels, value } of read()) this.set(labels, value);
      },
    });
  }

  /** A total that somebody else keeps. */
  total({ name, help, labelNames = [], read }: ReadInstrument): void {
    new Counter({
      name,
      help,
      labelNames,
      registers: [this.#registry],
      collect() {
        this.reset();
        for (const { labels, value } of read()) this.inc(labels, value);
      },
    });
  }
}
