// What one request experienced, on the clock of its phase. Made by the workers, read by the reports.

export type Outcome =
  | "finished"
  | "cancelled" // by the client, as planned
  | "failed" // refused or broken; `error` says how
  | "unfinished"; // still open when the drain ended

export type RequestRecord = {
  readonly stream: number; // index in the workload
  readonly tenant: string;
  readonly model: string;
  readonly dueMs: number; // open loop: when the schedule wanted it sent; latencies count from here
  readonly sentMs: number;
  readonly endedMs: number;
  readonly chunkMs: Float64Array; // arrival of every piece of text; usually a token each
  readonly promptTokens: number | null; // by the server's count
  readonly outputTokens: number; // by the server's count, else the number of chunks
  readonly outcome: Outcome;
  readonly error: string | null; // status and code, such as "429 rate_limit_exceeded"
};

export function timeToFirstTokenMs({ chunkMs, dueMs }: RequestRecord): number | null {
  return chunkMs.length === 0 ? null : chunkMs[0]! - dueMs;
}

/** Mean time per token after the first; null where there were fewer than two. */
export function timePerOutputTokenMs({ chunkMs, outputTokens }: RequestRecord): number | null {
  if (chunkMs.length < 2 || outputTokens < 2) return null;
  return (chunkMs.at(-1)! - chunkMs[0]!) / (outputTokens - 1);
}
