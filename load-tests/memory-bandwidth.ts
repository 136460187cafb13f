// How fast this machine reads memory: what bounds whoever reads a model's weights once for each token. Each thread
// sums up one number of every cache line of an array that no cache holds.

import { once } from "node:events";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

const arrayBytes = 256 << 20; // for each thread
const lineNumbers = 8; // float64 in a line of 64 bytes
const measuredMs = 1500;

/** @returns bytes per second, of all threads together */
export async function readBandwidth(threads: number): Promise<number> {
  const shared = new Int32Array(new SharedArrayBuffer(4)); // how many are ready
  const workers = Array.from({ length: threads }, () => {
    return new Worker(new URL(import.meta.url), { workerData: { shared, threads } });
  });
  const speeds = await Promise.all(
    workers.map(async (worker): Promise<number> => (await once(worker, "message"))[0]),
  );
  await Promise.all(workers.map((worker) => worker.terminate()));
  return speeds.reduce((sum, speed) => sum + speed, 0);
}

if (!isMainThread && parentPort !== null) {
  const { shared, threads } = workerData as { readonly shared: Int32Array; readonly threads: number };
  const numbers = new Float64Array(arrayBytes / 8).fill(1); // touched, or all of it would be one page of zeros
  readLines(numbers);
  if (Atomics.add(shared, 0, 1) + 1 === threads) Atomics.notify(shared, 0);
  for (let ready = Atomics.load(shared, 0); ready < threads; ready = Atomics.load(shared, 0))
    Atomics.wait(shared, 0, ready);
  const start = performance.now();
  let passes = 0;
  while (performance.now() - start < measuredMs) {
    readLines(numbers);
    passes++;
  }
  parentPort.postMessage((passes * arrayBytes * 1000) / (performance.now() - start));
}

function readLines(numbers: Float64Array): number {
  let [even, odd] = [0, 0];
  for (let at = 0; at < numbers.length; at += 2 * lineNumbers) {
    even += numbers[at]!;
    odd += numbers[at + lineNumbers]!;
  }
  return even + odd;
}
