// At most so many pieces of work at once; the others wait in order of arrival.

export type Limited = <Result>(work: () => Promise<Result>) => Promise<Result>;

export function concurrencyLimit(limit: number): Limited {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (work) => {
    if (running >= limit) await new Promise<void>((resolve) => waiting.push(resolve));
    else running++;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next)
        next(); // it takes over the place
      else running--;
    }
  };
}
