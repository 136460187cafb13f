// What is sent, as plain data, and the requests that follow from it. Both are pure: every worker process derives
// the same requests from the same workload and sends its share of them. Knows no HTTP.

import { type Arrivals, arrivalTimesMs } from "./arrivals.ts";
import { drawLength, type Lengths } from "./lengths.ts";
import { chooser, type Popularity } from "./popularity.ts";
import { Random } from "./random.ts";

/** Requests of one tenant with one character. */
export type Stream = {
  readonly tenant: string; // a label; never the key
  readonly key: string | null;
  readonly arrivals: Arrivals;
  readonly models: readonly string[];
  readonly popularity: Popularity;
  readonly prompt: Lengths;
  readonly output: Lengths;
  readonly cancelShare: number; // of the requests; the client leaves at a random moment
  readonly requestsPerClient: number | null; // closed loop: after so many a client stops; null = never
};

export type Workload = {
  readonly seed: number;
  readonly durationMs: number; // no request is sent later
  readonly streams: readonly Stream[];
};

export type PlannedRequest = {
  readonly model: string;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly seed: number; // of the prompt's words, and of the server's sampling
  readonly cancelAfterMs: number | null;
};

export type TimedRequest = PlannedRequest & { readonly atMs: number };

// Draws of different things come from different streams, so that another rate leaves the requests as they were.
const uses = { arrivals: 1, requests: 2 };

const cancelMs = { from: 30, to: 2000 }; // log-uniform: in the queue, in the prompt, in the answer

/** Open loop: all requests of a stream in the order of their times. */
export function* scheduledRequests(workload: Workload, index: number): Generator<TimedRequest> {
  const { arrivals } = workload.streams[index]!;
  if (arrivals.kind === "closed") return;
  const requests = endlessRequests(workload, index);
  for (const atMs of arrivalTimesMs(
    arrivals,
    new Random(workload.seed, index, uses.arrivals),
    workload.durationMs,
  )) {
    yield { ...requests.next().value, atMs };
  }
}

/** @param client of a closed loop; each has requests of its own */
export function* endlessRequests(
  { seed, streams }: Workload,
  index: number,
  client = 0,
): Generator<PlannedRequest, never> {
  const { models, popularity, prompt, output, cancelShare } = streams[index]!;
  const random = new Random(seed, index, uses.requests, client);
  const choose = chooser(popularity, models.length);
  for (let turn = 0; turn < client; turn++) choose(random); // clients of `distinct` start at different adapters
  for (;;) {
    const willCancel = random.uniform() < cancelShare;
    const cancelAfterMs = cancelMs.from * (cancelMs.to / cancelMs.from) ** random.uniform();
    yield {
      model: models[choose(random)]!,
      promptTokens: drawLength(prompt, random),
      outputTokens: drawLength(output, random),
      seed: random.below(2 ** 31),
      cancelAfterMs: willCancel ? cancelAfterMs : null,
    };
  }
}
