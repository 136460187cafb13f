// Several async streams as one, each item with the number of its stream, in the order in which they arrive.

type Outcome<T> =
  | { readonly item: readonly [source: number, value: T] }
  | { readonly error: unknown }
  | "ended";

/**
 * Streams are read as fast as they come. The first failure ends the whole; the caller then aborts what they were
 * reading from.
 * @param onUnread gets how many items wait to be taken with the next one; what it throws ends that one's stream
 */
export async function* merge<T>(
  sources: readonly AsyncIterable<T>[],
  onUnread: (items: number) => void = () => {},
): AsyncGenerator<readonly [number, T]> {
  const outcomes: Outcome<T>[] = [];
  let unread = 0;
  let wake = () => {};
  const report = (outcome: Outcome<T>) => {
    outcomes.push(outcome);
    wake();
  };
  const take = async (source: number, values: AsyncIterable<T>) => {
    try {
      for await (const value of values) {
        onUnread(++unread);
        report({ item: [source, value] });
      }
      report("ended");
    } catch (error) {
      report({ error });
    }
  };
  for (const [source, values] of sources.entries()) void take(source, values);
  let running = sources.length;
  while (running > 0) {
    if (outcomes.length === 0) await new Promise<void>((resolve) => (wake = resolve));
    for (const outcome of outcomes.splice(0)) {
      if (outcome === "ended") running--;
      else if ("error" in outcome) throw outcome.error;
      else {
        unread--;
        yield outcome.item;
      }
    }
  }
}
