// A server of this checkout that is measured: what it served and trained in a window of time.

import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Quantization } from "../../scheduler/protocol.ts";
import { withEmbeddedServer } from "../../scripts/embedded-server.ts";
import { baseModel } from "../held-out.ts";
import type { Arrivals } from "../load/arrivals.ts";
import { clockShows } from "../load/clock-shows.ts";
import { FinetuningJob } from "../load/finetuning-job.ts";
import { HttpClient } from "../load/http-client.ts";
import { fixedLength } from "../load/lengths.ts";
import { MetricsText } from "../load/metrics-text.ts";
import type { RequestRecord } from "../load/request-record.ts";
import { clientBounds, runWorkload } from "../load/run-workload.ts";
import { calibrate } from "../load/served-models.ts";
import type { Slo, Window } from "../load/summary.ts";
import { type UnitCounts, unitCounts, unitsBetween } from "../load/training-work.ts";

export type Setting = {
  readonly model: string; // its directory
  readonly quantize: Quantization;
  readonly rows: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly slo: Slo;
};

/** What was measured once. */
export type Measured = {
  readonly spent: Counters;
  readonly records: readonly RequestRecord[];
  readonly window: Window;
};

export type Counters = {
  readonly seconds: number;
  readonly tokens: number; // trained
  readonly busySeconds: number; // in steps of serving
  readonly units: UnitCounts; // of training
};

/** The job beside requests. Tokens of an example are about so many: the chat template adds its own. */
export const jobSizes = { examples: 256, promptTokens: 64, answerTokens: 32, batchSize: 4 };

export function withHost(setting: Setting, use: (host: MeasuredHost) => Promise<void>): Promise<void> {
  const { model, rows, quantize } = setting;
  const flags = ["--model", model, "--max-rows", `${rows}`, "--quantize", quantize, "--log-level", "warn"];
  const cache = ["--cache", join(tmpdir(), "cotenant-bench-cache")]; // one for all, and for the next run
  return withEmbeddedServer([...flags, ...cache], async (url) => {
    await using client = new HttpClient(url);
    const base = await baseModel(url);
    const models = { base, adapters: [], contextTokens: 2048 };
    const tokensPerWord = await calibrate(client, models, { key: null, endpoint: "completions" });
    await use(new MeasuredHost({ setting, url, client, base, tokensPerWord }));
  });
}

type Server = {
  readonly setting: Setting;
  readonly url: string;
  readonly client: HttpClient;
  readonly base: string;
  readonly tokensPerWord: number;
};

export class MeasuredHost {
  readonly #server: Server;

  constructor(server: Server) {
    this.#server = server;
  }

  get client(): HttpClient {
    return this.#server.client;
  }

  /**
   * @param arrivals null = nobody asks
   * @param options `seconds` from when answers end as fast as they begin; `trainer` is the server whose training counts
   */
  async measure(
    arrivals: Arrivals | null,
    {
      seed,
      seconds,
      trainer,
    }: { readonly seed: number; readonly seconds: number; readonly trainer: MeasuredHost },
  ): Promise<Measured> {
    const { outputTokens, slo } = this.#server.setting;
    const fromMs = arrivals === null ? 0 : outputTokens * slo.tpotMs; // before that requests come and none goes
    const window = { fromMs, toMs: fromMs + seconds * 1000 };
    const startMs = performance.now();
    const scrape = async (ms: number) => {
      await clockShows(startMs + ms);
      return await this.#counters(trainer);
    };
    const scrapes = Promise.all([scrape(window.fromMs), scrape(window.toMs)]);
    const records = arrivals === null ? [] : await this.#serve(arrivals, { seed, window });
    const [before, after] = await scrapes;
    const spent = {
      seconds: after.seconds - before.seconds,
      tokens: after.tokens - before.tokens,
      busySeconds: after.busySeconds - before.busySeconds,
      units: unitsBetween(before.units, after.units),
    };
    return { spent, records, window };
  }

  /** While a finetuning job runs that has done its first step, in which the kernel opens. */
  async besideJob<Result>(work: () => Promise<Result>): Promise<Result> {
    const { client, base, tokensPerWord } = this.#server;
    const { tokens } = await this.#counters(this);
    const { batchSize, ...conversations } = jobSizes;
    const job = await FinetuningJob.start({
      client,
      key: null,
      model: base,
      tokensPerWord,
      seed: 1,
      epochs: 1000,
      hyperparameters: { batch_size: batchSize },
      ...conversations,
    });
    try {
      while ((await this.#counters(this)).tokens === tokens) {
        await stillRuns(job);
        await delay(100);
      }
      const result = await work();
      await stillRuns(job);
      return result;
    } finally {
      await job.end();
    }
  }

  async #serve(
    arrivals: Arrivals,
    { seed, window }: { readonly seed: number; readonly window: Window },
  ): Promise<readonly RequestRecord[]> {
    const { setting, url, base, tokensPerWord } = this.#server;
    const stream = {
      tenant: "default",
      key: null,
      arrivals,
      models: [base],
      popularity: { kind: "uniform" as const },
      prompt: fixedLength(setting.promptTokens),
      output: fixedLength(setting.outputTokens),
      cancelShare: 0,
      requestsPerClient: null,
    };
    const { records, client } = await runWorkload(
      {
        url,
        shape: { endpoint: "completions", vllmFields: true, tokensPerWord },
        workload: { seed: seed + 1, durationMs: window.toMs, streams: [stream] },
        workers: 1,
        drainMs: 60_000,
      },
      () => {},
    );
    if (client.sendLagP99Ms > clientBounds.sendLagP99Ms || client.cpuShare > clientBounds.cpuShare)
      console.log(`the client was a bottleneck: ${client.bottleneck}`); // its loop's delay has the stops in it
    return records;
  }

  async #counters(trainer: MeasuredHost): Promise<Counters> {
    const seconds = performance.now() / 1000;
    const [own, others] = await Promise.all([this.#metrics(), trainer.#metrics()]);
    return {
      seconds,
      tokens: others.sum("cotenant_training_tokens_total")!,
      busySeconds: own.sum("cotenant_engine_step_seconds_total")!,
      units: unitCounts(others),
    };
  }

  async #metrics(): Promise<MetricsText> {
    return new MetricsText((await this.client.text({ method: "GET", path: "/metrics", key: null })).text);
  }
}

async function stillRuns(job: FinetuningJob): Promise<void> {
  const status = await job.status();
  if (status !== "running") throw new Error(`the job was ${status}, not running, during a measurement`);
}
