// A stage whose server is a rule: each request's wait and gap by what it asks for. Scenarios run on it within
// milliseconds of real time. The routes beside generation are a real little server's (finetuning, chores, metrics).

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { HttpClient } from "./http-client.ts";
import { readOptions } from "./options.ts";
import type { RequestRecord } from "./request-record.ts";
import type { WorkloadRun } from "./run-workload.ts";
import { Stage } from "./stage.ts";
import { endlessRequests, type PlannedRequest, scheduledRequests, type Workload } from "./workload.ts";

/** What a request is to the rule: who sends it, which one of the phase's it is, and of which phase. */
export type Asked = {
  readonly tenant: string;
  readonly model: string;
  readonly number: number;
  readonly phase: number;
  readonly streams: number; // in the phase
  readonly isAskedAgain: boolean; // by the phase's request before
};

export type Answered = {
  readonly waitMs: number;
  readonly gapMs: number;
  readonly error: string | null;
  readonly isFromDisk: boolean;
};

export type Rule = {
  readonly answer?: (asked: Asked) => Partial<Answered>;
  readonly jobStatus?: string;
  readonly probeText?: (number: number) => string;
  readonly lostRequests?: number; // that the engine was given and never ended
};

const swift: Answered = { waitMs: 40, gapMs: 10, error: null, isFromDisk: false };
const mostOutputTokens = 40; // keeps records short

/** @param args of `npm run load`, but the URL */
export async function withSimulatedStage<Result>(
  args: readonly string[],
  rule: Rule,
  use: (stage: Stage) => Promise<Result>,
): Promise<Result> {
  const counts = { finished: 0, cancelled: 0, refused: 0, fromDisk: 0, lost: 0, probes: 0 };
  const server = createServer(async (request, response) => {
    const body = await text(request);
    if (request.url === "/metrics") return response.end(metricsText(counts));
    const isMissing = body.includes("no-such-model");
    if (isMissing) counts.refused++;
    else if (request.url === "/v1/completions") counts.finished++;
    response.statusCode = isMissing ? 404 : 200;
    const choices = [{ text: rule.probeText?.(counts.probes++) ?? "and then" }];
    return response.end(JSON.stringify({ id: "one", status: rule.jobStatus ?? "running", choices }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await using client = new HttpClient(url);
  const options = readOptions(["--url", url, "--scenario", "simulated", ...args])!;

  class SimulatedStage extends Stage {
    protected override async send(workload: Workload): Promise<WorkloadRun> {
      const phase = this.phases.length;
      const records = recordsOf(workload, (asked) => {
        const answered = { ...swift, ...rule.answer?.({ ...asked, phase }) };
        if (answered.isFromDisk) counts.fromDisk++;
        return answered;
      });
      for (const { outcome } of records) {
        if (outcome === "finished") counts.finished++;
        if (outcome === "cancelled") counts.cancelled++;
      }
      if (phase > 0) counts.lost += rule.lostRequests ?? 0;
      const client = { workers: 1, eventLoopDelayP99Ms: 0, cpuShare: 0, sendLagP99Ms: 0, bottleneck: null };
      return { records, client };
    }
  }

  try {
    const adapters = Array.from({ length: 40 }, (_, index) => `adapter-${index}`);
    const stage = new SimulatedStage({
      options,
      client,
      models: { base: "base", adapters, contextTokens: 4096 },
      shape: { endpoint: "completions", vllmFields: true, tokensPerWord: 1 },
      onProgress: () => undefined,
      onCount: () => undefined,
      note: () => undefined,
    });
    return await use(stage);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

type Answer = (asked: Omit<Asked, "phase">) => Answered;

/** Without queues: a request's times depend on the rule alone. */
function recordsOf(workload: Workload, answer: Answer): RequestRecord[] {
  const { streams, durationMs } = workload;
  let number = 0;
  const lastModel = new Map<string, string>(); // by tenant
  const recordOf = (stream: number, dueMs: number, planned: PlannedRequest): RequestRecord => {
    const { tenant } = streams[stream]!;
    const { model, cancelAfterMs } = planned;
    const isAskedAgain = lastModel.get(tenant) === model;
    lastModel.set(tenant, model);
    const asked = { tenant, model, number: number++, streams: streams.length, isAskedAgain };
    const { waitMs, gapMs, error } = answer(asked);
    const outputTokens = Math.min(planned.outputTokens, mostOutputTokens);
    const chunkMs = Float64Array.from({ length: outputTokens }, (_, token) => dueMs + waitMs + token * gapMs);
    const outcome = error !== null ? "failed" : cancelAfterMs !== null ? "cancelled" : "finished";
    return {
      ...{ stream, tenant, model, dueMs, sentMs: dueMs, endedMs: chunkMs.at(-1)! },
      ...{ chunkMs, promptTokens: planned.promptTokens, outputTokens, outcome, error },
    };
  };
  return streams.flatMap(({ arrivals, requestsPerClient }, stream) => {
    if (arrivals.kind !== "closed")
      return [...scheduledRequests(workload, stream)].map((planned) =>
        recordOf(stream, planned.atMs, planned),
      );
    return Array.from({ length: arrivals.clients }, (_, client) => {
      const requests = endlessRequests(workload, stream, client);
      const records: RequestRecord[] = [];
      for (let atMs = 0; atMs < durationMs && records.length !== requestsPerClient; ) {
        const record = recordOf(stream, atMs, requests.next().value);
        records.push(record);
        atMs = record.endedMs;
      }
      return records;
    }).flat();
  });
}

type Counts = Readonly<Record<"finished" | "cancelled" | "refused" | "fromDisk" | "lost", number>>;

function metricsText({ finished, cancelled, refused, fromDisk, lost }: Counts): string {
  const series = {
    'cotenant_adapter_hits_total{tier="store"}': fromDisk,
    'cotenant_requests_submitted_total{model_name="m"}': finished + cancelled + lost,
    'cotenant_requests_cancelled_total{model_name="m"}': cancelled,
    'vllm:request_success_total{finished_reason="length"}': finished,
    'cotenant_http_requests_total{route="/v1/completions",status="200"}': finished,
    'cotenant_http_requests_total{route="/v1/completions",status="404"}': refused,
    'cotenant_http_requests_total{route="/v1/completions",status="499"}': cancelled,
    'vllm:lora_requests_info{max_lora="4"}': 1,
    "vllm:num_requests_running": 0,
    "vllm:num_requests_waiting": 0,
  };
  return Object.entries(series)
    .map(([name, value]) => `${name} ${value}\n`)
    .join("");
}
