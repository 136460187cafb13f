// Several async streams as one, each item with the number of its stream, in the order in which they arrive.

type Outcome<T> =
  | { readonly item: readonly [source: number, value: T] }
  | { readonly error: unknown }
  | "ended";

/** The first failure ends the whole; the caller then aborts what the streams were reading from. */
export async function* merge<T>(sources: readonly AsyncIterable<T>[]): AsyncGenerator<readonly [number, T]> {
  const outcomes: Outcome<T>[] = [];
  let wake = () => {};
  const report = (outcome: Outcome<T>) => {
    outcomes.push(outcome);
    wake();
  };
  for (const [source, values] of sources.entries()) void pump(source, values, report);
  let running = sources.length;
  while (running > 0) {
    if (outcomes.length === 0) await new Promise<void>((resolve) => (wake = resolve));
    for (const outcome of outcomes.splice(0)) {
      if (outcome === "ended") running--;
      else if ("error" in outcome) throw outcome.error;
      else yield outcome.item;
    }
  }
}

async function pump<T>(source: number, values: AsyncIterable<T>, report: (outcome: Outcome<T>) => void) {
  try {
    for await (const value of values) report({ item: [source, value] });
    report("ended");
  } catch (error) {
    report({ error });
  }
}
