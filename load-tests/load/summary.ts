// From records to figures: latencies, rates, goodput and errors of a phase, and of each tenant and adapter in it.

import { type RequestRecord, timePerOutputTokenMs, timeToFirstTokenMs } from "./request-record.ts";
import { type Quantiles, Samples } from "./samples.ts";

/** Service-level objective of one request: both must hold. */
export type Slo = { readonly ttftMs: number; readonly tpotMs: number };

/** Figures are of what falls between these two times of the phase's clock: warm-up and drain are not in them. */
export type Window = { readonly fromMs: number; readonly toMs: number };

export type Figures = {
  readonly requests: number; // all, warm-up included, as are the next four
  readonly finished: number;
  readonly cancelled: number;
  readonly unfinished: number;
  readonly errors: Readonly<Record<string, number>>; // how many by status and code
  readonly ttftMs: Quantiles; // of requests due in the window, as are the next three
  readonly tpotMs: Quantiles;
  readonly gapMs: Quantiles; // between two pieces of text of one answer
  readonly endToEndMs: Quantiles;
  readonly outputTokensPerSecond: number; // that arrived in the window
  readonly promptTokensPerSecond: number; // of requests whose first token arrived in the window
  readonly requestsPerSecond: number; // that finished in the window
  readonly goodput: { readonly requestsPerSecond: number; readonly share: number }; // due in the window, within the SLO
};

export type GroupFigures = Figures & { readonly name: string };

const warmUp = { share: 0.1, mostMs: 10_000 };

export function measuringWindow(durationMs: number): Window {
  return { fromMs: Math.min(warmUp.share * durationMs, warmUp.mostMs), toMs: durationMs };
}

/** @param seconds of the window; several rounds' records may be summarized as one with the sum of theirs */
export class Summary {
  readonly #slo: Slo;
  #seconds = 0;
  readonly #counts = { requests: 0, finished: 0, cancelled: 0, unfinished: 0 };
  readonly #errors = new Map<string, number>();
  readonly #ttft = new Samples();
  readonly #tpot = new Samples();
  readonly #gap = new Samples();
  readonly #endToEnd = new Samples();
  #outputTokens = 0;
  #promptTokens = 0;
  #finishedInWindow = 0;
  #judged = 0;
  #good = 0;

  constructor(slo: Slo) {
    this.#slo = slo;
  }

  add(records: Iterable<RequestRecord>, window: Window): this {
    this.#seconds += (window.toMs - window.fromMs) / 1000;
    for (const record of records) this.#add(record, window);
    return this;
  }

  figures(): Figures {
    return {
      ...this.#counts,
      errors: Object.fromEntries([...this.#errors].sort(([a], [b]) => a.localeCompare(b))),
      ttftMs: this.#ttft.quantiles(),
      tpotMs: this.#tpot.quantiles(),
      gapMs: this.#gap.quantiles(),
      endToEndMs: this.#endToEnd.quantiles(),
      outputTokensPerSecond: this.#outputTokens / this.#seconds,
      promptTokensPerSecond: this.#promptTokens / this.#seconds,
      requestsPerSecond: this.#finishedInWindow / this.#seconds,
      goodput: {
        requestsPerSecond: this.#good / this.#seconds,
        share: this.#judged === 0 ? 0 : this.#good / this.#judged,
      },
    };
  }

  #add(record: RequestRecord, { fromMs, toMs }: Window): void {
    const isInside = (ms: number) => ms >= fromMs && ms < toMs;
    const { outcome, chunkMs, dueMs, endedMs, error } = record;
    this.#counts.requests++;
    if (outcome === "failed") this.#errors.set(error!, (this.#errors.get(error!) ?? 0) + 1);
    else this.#counts[outcome]++;

    const inside = chunkMs.reduce((count, ms) => count + (isInside(ms) ? 1 : 0), 0);
    if (inside > 0) this.#outputTokens += (record.outputTokens * inside) / chunkMs.length;
    if (chunkMs.length > 0 && isInside(chunkMs[0]!)) this.#promptTokens += record.promptTokens ?? 0;
    if (outcome === "finished" && isInside(endedMs)) this.#finishedInWindow++;
    if (isInside(dueMs)) this.#addLatencies(record);
  }

  #addLatencies(record: RequestRecord): void {
    const { outcome, chunkMs, dueMs, endedMs } = record;
    const ttftMs = timeToFirstTokenMs(record);
    const tpotMs = outcome === "finished" ? timePerOutputTokenMs(record) : null;
    if (ttftMs !== null) this.#ttft.add(ttftMs);
    if (tpotMs !== null) this.#tpot.add(tpotMs);
    for (let index = 1; index < chunkMs.length; index++) this.#gap.add(chunkMs[index]! - chunkMs[index - 1]!);
    if (outcome === "finished") this.#endToEnd.add(endedMs - dueMs);
    if (outcome === "cancelled") return; // says nothing about the server
    this.#judged++;
    const isGood = (ttftMs ?? endedMs - dueMs) <= this.#slo.ttftMs && (tpotMs ?? 0) <= this.#slo.tpotMs;
    if (outcome === "finished" && isGood) this.#good++;
  }
}

/** Figures of each value of a key, the one with the most requests first. */
export function figuresBy(
  key: "tenant" | "model",
  records: readonly RequestRecord[],
  { slo, window }: { readonly slo: Slo; readonly window: Window },
): GroupFigures[] {
  return [...Map.groupBy(records, (record) => record[key])]
    .map(([name, group]) => ({ name, ...new Summary(slo).add(group, window).figures() }))
    .sort((a, b) => b.requests - a.requests);
}
