// What a scenario works with: the options, the server's models, adapters to ask for, and a way to run a phase.

import { loadavg } from "node:os";
import { deleteAdapter, flipSigns, generateAdapter, uploadAdapter } from "./generated-adapters.ts";
import type { HttpClient } from "./http-client.ts";
import type { Lengths } from "./lengths.ts";
import { MetricsText } from "./metrics-text.ts";
import type { Tenant } from "./option-values.ts";
import type { LoadOptions } from "./options.ts";
import type { PhaseProgress } from "./progress-line.ts";
import type { RequestRecord } from "./request-record.ts";
import { type OnProgress, runWorkload, type WorkloadRun } from "./run-workload.ts";
import { type Phase, ScenarioError } from "./scenario.ts";
import type { RequestShape } from "./send-request.ts";
import type { ServedModels } from "./served-models.ts";
import { figuresBy, measuringWindow, Summary, type Window } from "./summary.ts";
import type { Stream, Workload } from "./workload.ts";

export type StageSetting = {
  readonly options: LoadOptions;
  readonly client: HttpClient;
  readonly models: ServedModels;
  readonly shape: RequestShape;
  readonly onProgress: (phase: string, seconds: number, progress: PhaseProgress) => void;
  readonly onCount: (what: string, done: number, of: number) => void;
  readonly note: (text: string) => void;
};

export type Period = { readonly seconds: number; readonly seed?: number };

export class Stage {
  readonly options: LoadOptions;
  readonly client: HttpClient;
  readonly models: ServedModels;
  readonly shape: RequestShape;
  readonly phases: Phase[] = [];
  readonly #setting: StageSetting;
  readonly #uploaded: string[] = [];

  constructor(setting: StageSetting) {
    this.options = setting.options;
    this.client = setting.client;
    this.models = setting.models;
    this.shape = setting.shape;
    this.#setting = setting;
  }

  get tenant(): Tenant {
    return this.options.tenants[0]!;
  }

  /** A stream of a tenant with the command line's lengths and popularity; lengths are cut to the context. */
  stream(tenant: Tenant, own: Pick<Stream, "arrivals"> & Partial<Stream>): Stream {
    const { prompt, output, popularity } = this.options;
    const { adapters, base, contextTokens } = this.models;
    const stream = {
      tenant: tenant.name,
      key: tenant.key,
      models: adapters.length > 0 ? adapters : [base],
      popularity: popularity ?? { kind: "uniform" as const },
      prompt,
      output,
      cancelShare: 0,
      requestsPerClient: null,
      ...own,
    };
    // The prompt's length is only as good as the calibration: hence the room between the two.
    const cut = (lengths: Lengths, share: number) => {
      const most = Math.max(1, Math.floor(contextTokens * share));
      return {
        ...lengths,
        minTokens: Math.min(lengths.minTokens, most),
        maxTokens: Math.min(lengths.maxTokens, most),
      };
    };
    return { ...stream, prompt: cut(stream.prompt, 0.6), output: cut(stream.output, 0.3) };
  }

  async measure(name: string, streams: readonly Stream[], { seconds, seed }: Period): Promise<Phase> {
    const { options, onProgress } = this.#setting;
    const durationMs = seconds * 1000;
    let failed = 0;
    const workload = { seed: seed ?? options.seed, durationMs, streams };
    const run = await this.send(workload, (progress, records) => {
      failed += records.filter(({ outcome }) => outcome === "failed").length;
      onProgress(name, seconds, { ...progress, failed });
    });
    const records = [...run.records].sort((a, b) => a.sentMs - b.sentMs);
    const judging = { slo: options.slo, window: windowOf(streams, { durationMs, records }) };
    const phase: Phase = {
      name,
      records,
      window: judging.window,
      client: run.client,
      loadAverage: loadavg()[0]!,
      figures: new Summary(judging.slo).add(records, judging.window).figures(),
      tenants: figuresBy("tenant", records, judging),
      adapters: figuresBy("model", records, judging),
    };
    if (run.client.bottleneck) this.note(`${name}: the client was a bottleneck: ${run.client.bottleneck}`);
    this.phases.push(phase);
    return phase;
  }

  protected send(workload: Workload, onProgress: OnProgress): Promise<WorkloadRun> {
    const { url, workers, drainSeconds } = this.options;
    const job = { url, shape: this.shape, workload, workers, drainMs: drainSeconds * 1000 };
    return runWorkload(job, onProgress);
  }

  /** So many adapters: the served ones, or with --model generated ones, uploaded as the first tenant's. */
  async adapters(count: number, compress = this.options.compress): Promise<readonly string[]> {
    const { checkpoint, rank, seed } = this.options;
    const served = this.models.adapters;
    if (checkpoint === null) {
      if (served.length >= count) return served.slice(0, count);
      throw new ScenarioError(
        `${count} adapters are needed and ${served.length} are served; --model DIR generates them, --count asks for fewer`,
      );
    }
    const first = generateAdapter(checkpoint, rank);
    const stored = compress === null ? "" : `, compressed by ${compress},`;
    this.note(`${count} generated adapters of rank ${rank}${stored} are uploaded`);
    while (this.#uploaded.length < count) {
      const id = `load-${process.pid}-${this.#uploaded.length}`;
      const weights = flipSigns(first.weights, seed + this.#uploaded.length);
      const files = { ...first, weights };
      await uploadAdapter(this.client, { id, files, key: this.tenant.key, compress });
      this.#uploaded.push(id);
      this.#setting.onCount("adapters uploaded", this.#uploaded.length, count);
    }
    return this.#uploaded.slice(0, count);
  }

  /** The server's own figures, which not every server has. */
  async metrics(): Promise<MetricsText> {
    const key = this.options.adminKey ?? this.tenant.key;
    const { text } = await this.client.text({ method: "GET", path: "/metrics", key });
    return new MetricsText(text);
  }

  note(text: string): void {
    this.#setting.note(text);
  }

  /** For the end of a run; a second call finds nothing to do. */
  async deleteUploads(): Promise<void> {
    const left: string[] = [];
    const uploaded = this.#uploaded.splice(0);
    for (const [index, id] of uploaded.entries()) {
      this.#setting.onCount("adapters deleted", index, uploaded.length);
      const isGone = await deleteAdapter(this.client, id, this.tenant.key).catch(() => false);
      if (!isGone) left.push(id);
    }
    if (left.length > 0)
      this.note(`${left.length} uploaded adapters could not be deleted, such as ${left[0]}`);
  }
}

/** Streams that stop by themselves are measured from their first request to their last answer. */
function windowOf(
  streams: readonly Stream[],
  { durationMs, records }: { readonly durationMs: number; readonly records: readonly RequestRecord[] },
): Window {
  if (streams.some(({ requestsPerClient }) => requestsPerClient === null)) return measuringWindow(durationMs);
  return { fromMs: 0, toMs: records.reduce((last, { endedMs }) => Math.max(last, endedMs), 0) };
}
