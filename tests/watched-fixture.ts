// For tests: what a thread's other work sees of a long one, its turns and the memory of arrays.

export type Watched = {
  readonly turns: number; // of the event loop
  readonly grownBytes: number; // of array buffers at most, over what there was
};

export async function watched<Result extends object>(work: () => Promise<Result>): Promise<Result & Watched> {
  const arrayBytes = () => process.memoryUsage().arrayBuffers;
  const beforeBytes = arrayBytes();
  let [turns, mostBytes, isOver] = [0, beforeBytes, false];
  const watch = () => {
    turns++;
    mostBytes = Math.max(mostBytes, arrayBytes());
    if (!isOver) setImmediate(watch);
  };
  setImmediate(watch);
  try {
    return { ...(await work()), turns, grownBytes: mostBytes - beforeBytes };
  } finally {
    isOver = true;
  }
}
