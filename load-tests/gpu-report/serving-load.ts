// Requests to an engine as load generators make them, closed and open loop, and what each of them experienced.

import type { Engine } from "../../scheduler/engine.ts";
import type { GenerationRequest } from "../../scheduler/protocol.ts";
import { arrivalTimesMs } from "../load/arrivals.ts";
import { Random } from "../load/random.ts";
import type { RequestRecord } from "../load/request-record.ts";

export class ServingLoad {
  readonly #engine: Pick<Engine, "generate">;
  readonly #requestOf: (index: number) => GenerationRequest;
  #requests = 0;

  constructor(engine: Pick<Engine, "generate">, requestOf: (index: number) => GenerationRequest) {
    this.#engine = engine;
    this.#requestOf = requestOf;
  }

  /** Each client asks again once it has its answer. @returns requests per second */
  async closed(clients: number, requestsPerClient: number): Promise<number> {
    const startMs = performance.now();
    const client = async () => {
      for (let index = 0; index < requestsPerClient; index++) {
        const { error } = await this.#ask(performance.now(), startMs);
        if (error !== null) throw new Error(`a request failed: ${error}`);
      }
    };
    await Promise.all(Array.from({ length: clients }, client));
    return (clients * requestsPerClient * 1000) / (performance.now() - startMs);
  }

  /** Poisson arrivals for as long as `work` takes, whatever the engine does meanwhile; resolves when all have ended. */
  async open<Result>(
    { requestsPerSecond, seed }: { readonly requestsPerSecond: number; readonly seed: number },
    work: () => Promise<Result>,
  ): Promise<{ readonly result: Result; readonly records: readonly RequestRecord[] }> {
    const startMs = performance.now();
    const arrivals = { kind: "poisson", requestsPerSecond } as const;
    const times = arrivalTimesMs(arrivals, new Random(seed), Number.POSITIVE_INFINITY);
    const asked: Promise<RequestRecord>[] = [];
    let timer: NodeJS.Timeout | undefined;
    const wait = () => {
      const dueMs = startMs + times.next().value!;
      const send = () => {
        asked.push(this.#ask(dueMs, startMs));
        wait();
      };
      timer = setTimeout(send, Math.max(0, Math.ceil(dueMs - performance.now())));
    };
    wait();
    try {
      const result = await work();
      clearTimeout(timer);
      return { result, records: await Promise.all(asked) };
    } finally {
      clearTimeout(timer);
    }
  }

  /** Times of the record are of the clock that `zeroMs` starts. */
  async #ask(dueMs: number, zeroMs: number): Promise<RequestRecord> {
    const request = this.#requestOf(this.#requests++);
    const sentMs = performance.now();
    const tokensMs: number[] = [];
    let failure: string | null = null;
    try {
      for await (const { type } of this.#engine.generate(request)) {
        if (type === "token") tokensMs.push(performance.now() - zeroMs);
      }
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error);
    }
    return {
      stream: 0,
      tenant: request.tenant.id,
      model: request.adapterVersion ?? "base",
      dueMs: dueMs - zeroMs,
      sentMs: sentMs - zeroMs,
      endedMs: performance.now() - zeroMs,
      chunkMs: Float64Array.from(tokensMs),
      promptTokens: request.promptTokenIds.length,
      outputTokens: tokensMs.length,
      outcome: failure === null ? "finished" : "failed",
      error: failure,
    };
  }
}
