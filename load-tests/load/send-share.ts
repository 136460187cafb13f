// One worker's share of a workload: every request or client whose number falls to it, sent on the phase's clock.

import { setTimeout as delay } from "node:timers/promises";
import { clockShows } from "./clock-shows.ts";
import { HttpClient } from "./http-client.ts";
import type { RequestRecord } from "./request-record.ts";
import { type Sender, type SentAs, sendRequest } from "./send-request.ts";
import type { Progress, WorkerJob } from "./worker-protocol.ts";
import { endlessRequests, type PlannedRequest, scheduledRequests } from "./workload.ts";

const pauseAfterFailureMs = 100; // a closed loop on a server that refuses must not spin

export class Share {
  readonly #job: WorkerJob;
  readonly #nowMs: () => number;
  readonly #drained = new AbortController();
  readonly #onRecord: (record: RequestRecord) => void;
  #sent = 0;
  #open = 0;
  #chunks = 0;

  constructor(job: WorkerJob, nowMs: () => number, onRecord: (record: RequestRecord) => void) {
    this.#job = job;
    this.#nowMs = nowMs;
    this.#onRecord = onRecord;
  }

  get progress(): Progress {
    return { sent: this.#sent, open: this.#open, chunks: this.#chunks };
  }

  /** Resolves when every request has ended, at the latest at the end of the drain. */
  async send(): Promise<void> {
    const { url, shape, workload, drainMs } = this.#job;
    await using client = new HttpClient(url);
    const sender: Sender = {
      client,
      shape,
      nowMs: this.#nowMs,
      signal: this.#drained.signal,
      onChunk: () => {
        this.#chunks++;
      },
    };
    const done = new AbortController();
    clockShows(workload.durationMs + drainMs, this.#nowMs, done.signal).then(
      () => this.#drained.abort(),
      () => undefined, // every request has ended before
    );
    await Promise.all(workload.streams.map((_, index) => this.#sendStream(index, sender)));
    done.abort();
  }

  async #sendStream(index: number, sender: Sender): Promise<void> {
    const { arrivals } = this.#job.workload.streams[index]!;
    if (arrivals.kind !== "closed") return this.#openLoop(index, sender);
    const clients = Array.from({ length: arrivals.clients }, (_, client) => client);
    const own = clients.filter((client) => this.#isOwn(client));
    await Promise.all(own.map((client) => this.#closedLoop(index, client, sender)));
  }

  async #openLoop(index: number, sender: Sender): Promise<void> {
    const open: Promise<unknown>[] = [];
    let number = 0;
    for (const request of scheduledRequests(this.#job.workload, index)) {
      if (!this.#isOwn(number++)) continue;
      await clockShows(request.atMs, this.#nowMs);
      open.push(this.#one(request, { index, dueMs: request.atMs }, sender));
    }
    await Promise.all(open);
  }

  async #closedLoop(index: number, client: number, sender: Sender): Promise<void> {
    const { durationMs, streams } = this.#job.workload;
    const requests = endlessRequests(this.#job.workload, index, client);
    await clockShows(0, this.#nowMs);
    for (let left = streams[index]!.requestsPerClient ?? Number.POSITIVE_INFINITY; left > 0; left--) {
      if (this.#nowMs() >= durationMs) return;
      const record = await this.#one(requests.next().value, { index, dueMs: this.#nowMs() }, sender);
      if (record.outcome === "failed") await delay(pauseAfterFailureMs);
    }
  }

  async #one(
    request: PlannedRequest,
    { index, dueMs }: { readonly index: number; readonly dueMs: number },
    sender: Sender,
  ): Promise<RequestRecord> {
    const { tenant, key } = this.#job.workload.streams[index]!;
    const as: SentAs = { tenant, key, stream: index, dueMs };
    this.#sent++;
    this.#open++;
    const record = await sendRequest(request, as, sender);
    this.#open--;
    this.#onRecord(record);
    return record;
  }

  #isOwn(number: number): boolean {
    return number % this.#job.workers === this.#job.worker;
  }
}
