// Clients that ask many names while churn.ts changes them, and the judgement of every answer: the solo answer of a
// version that the name may have meant when the request was accepted, or a refusal that there may be.

import type { AdapterFiles } from "../load/generated-adapters.ts";
import { HttpClient } from "../load/http-client.ts";
import { MetricsText } from "../load/metrics-text.ts";
import { Random } from "../load/random.ts";
import {
  type Answer,
  answerTokens,
  ask,
  distance,
  logprobTolerance,
  type Outcome,
  prompts,
  type SoloAnswers,
} from "./answers.ts";
import { Churn, type NamePair } from "./churn.ts";
import type { Meaning } from "./name-history.ts";
import { StoreCalls } from "./store-calls.ts";

export type SwapSetting = {
  readonly url: string;
  readonly slots: number; // of the server
  readonly seconds: number;
  readonly clients: number;
  readonly churners: number;
  readonly seed: number;
  readonly contents: readonly AdapterFiles[];
  readonly solos: SoloAnswers;
  readonly onProgress?: (report: SwapReport) => void;
};

export type SwapReport = {
  right: number; // adapters' answers that equal the solo run of the version that was current
  rightWhileMoving: number; // of these, where a change was under way: one of two versions, or more
  rightBase: number;
  sameBits: number; // of the right ones
  largestDifference: number; // of a right answer's log-probabilities
  readonly refused: Record<string, number>; // rightly, by code
  readonly changes: Readonly<Record<string, number>>;
  readonly wrong: string[];
  readonly problems: readonly string[]; // changes that were answered otherwise than they may be
  readonly metrics: Record<string, number>; // of the server, over the run
};

/** Of the run's parts; working sets of slots + 1 and of 10 times slots take turns. */
const partSeconds = 4;
const setFactor = 10;
const aliasShare = 0.2;
const baseShare = 0.1;
const churnPauseMs = 100;

/** Memory is short for a moment where everything in it is leased; the others are for whoever is being deleted. */
const refusalsOfMemory = ["adapter_cache_busy", "adapter_cache_pinned"];
const refusalsOfName = ["model_not_found", "adapter_not_found"];

const watched = [
  "cotenant_adapter_loads_total",
  "cotenant_adapter_evictions_total",
  "cotenant_adapter_slot_moves_total",
  "vllm:prefix_cache_hits_total",
] as const;

export async function runSwapSafety(setting: SwapSetting): Promise<SwapReport> {
  await using client = new HttpClient(setting.url);
  const run = new SwapRun(setting, client);
  await run.run();
  return run.report;
}

/** What a report says against the server. Empty: it passed. */
export function complaints({ right, wrong, problems, changes, metrics }: SwapReport): string[] {
  const missing = ["upload", "update", "move to a version", "alias", "force-delete", "pin", "unpin"].filter(
    (what) => !(what in changes),
  );
  return [
    ...wrong,
    ...problems,
    ...(right === 0 ? ["no request was answered"] : []),
    ...missing.map((what) => `nothing of the kind was done: ${what}`),
    ...watched.filter((name) => !(metrics[name]! > 0)).map((name) => `${name} did not grow`),
  ];
}

class SwapRun {
  readonly report: SwapReport;
  readonly #setting: SwapSetting;
  readonly #client: HttpClient;
  readonly #churn: Churn;
  #startedMs = 0;

  constructor(setting: SwapSetting, client: HttpClient) {
    this.#setting = setting;
    this.#client = client;
    this.#churn = new Churn(setFactor * setting.slots, {
      calls: new StoreCalls(client),
      contents: setting.contents,
      versions: setting.solos.versions,
      random: new Random(setting.seed, 0),
      nowMs: () => performance.now(),
    });
    this.report = {
      right: 0,
      rightWhileMoving: 0,
      rightBase: 0,
      sameBits: 0,
      largestDifference: 0,
      refused: {},
      changes: this.#churn.counts,
      wrong: [],
      problems: this.#churn.problems,
      metrics: {},
    };
  }

  async run(): Promise<void> {
    const { clients, churners, seconds, seed, onProgress } = this.#setting;
    await this.#churn.prepare();
    const before = await this.#metrics();
    this.#startedMs = performance.now();
    const endMs = this.#startedMs + seconds * 1000;
    const isOver = () => performance.now() >= endMs || this.report.wrong.length > 20;
    const ticker = onProgress && setInterval(() => onProgress(this.report), 10_000);
    const asking = Array.from({ length: clients }, async (_, index) => {
      const random = new Random(seed, 1, index);
      while (!isOver()) await this.#request(random);
    });
    const changing = Array.from({ length: churners }, async () => {
      while (!isOver()) {
        await this.#churn.change(this.#workingSet);
        await new Promise((resolve) => setTimeout(resolve, churnPauseMs));
      }
    });
    try {
      await Promise.all([...asking, ...changing]);
    } finally {
      clearInterval(ticker);
    }
    const after = await this.#metrics();
    for (const name of watched) this.report.metrics[name] = (after.sum(name) ?? 0) - (before.sum(name) ?? 0);
  }

  /** How many of the names are in use now. */
  get #workingSet(): number {
    const part = Math.floor((performance.now() - this.#startedMs) / (partSeconds * 1000));
    return part % 2 === 0 ? this.#setting.slots + 1 : setFactor * this.#setting.slots;
  }

  async #request(random: Random): Promise<void> {
    const prompt = random.below(prompts.length);
    const maxTokens = random.below(3) === 0 ? answerTokens.long : answerTokens.short;
    const pair = this.#churn.pairs[random.below(this.#workingSet)]!;
    const kind = random.uniform();
    if (kind < baseShare) {
      const outcome = await ask(this.#client, { model: this.#setting.solos.baseName, prompt, maxTokens });
      this.#judgeBase(outcome, prompt, maxTokens);
      return;
    }
    const isAlias = kind < baseShare + aliasShare;
    const model = isAlias ? pair.alias : pair.id;
    const sentMs = performance.now();
    const outcome = await ask(this.#client, { model, prompt, maxTokens });
    const allowed = historyOf(pair, isAlias).during(sentMs, outcome.firstMs);
    this.#judge(outcome, { model, prompt, maxTokens, allowed });
  }

  #judgeBase(outcome: Outcome, prompt: number, maxTokens: number): void {
    const solo = this.#setting.solos.base[prompt]!;
    if (outcome.type === "answered" && this.#isRight(outcome.answer, solo, maxTokens))
      this.report.rightBase++;
    else this.report.wrong.push(`the base, prompt ${prompt}: ${described(outcome)}`);
  }

  #judge(
    outcome: Outcome,
    asked: { model: string; prompt: number; maxTokens: number; allowed: ReadonlySet<Meaning> },
  ): void {
    const { model, prompt, maxTokens, allowed } = asked;
    const { solos } = this.#setting;
    const contents = [...allowed].filter((meaning) => meaning !== null);
    const told = `${model} could be ${[...allowed].join(" or ")}, prompt ${prompt}`;
    if (outcome.type === "refused") {
      const isRight =
        refusalsOfMemory.includes(outcome.code) ||
        (allowed.has(null) && refusalsOfName.includes(outcome.code));
      if (isRight) this.report.refused[outcome.code] = (this.report.refused[outcome.code] ?? 0) + 1;
      else this.report.wrong.push(`${told}: ${described(outcome)}`);
      return;
    }
    const { answer } = outcome;
    if (contents.some((content) => this.#isRight(answer, solos.of(content, prompt), maxTokens))) {
      this.report.right++;
      if (allowed.size > 1) this.report.rightWhileMoving++;
      return;
    }
    const givenBy = solos.givenBy(answer, prompt);
    const what = givenBy.length > 0 ? `the answer of ${givenBy}` : "nobody's answer";
    this.report.wrong.push(`${told}: ${what}, ${described(outcome)}`);
  }

  #isRight(answer: Answer, solo: Answer, maxTokens: number): boolean {
    const difference = distance(answer, solo);
    if (answer.tokens.length !== maxTokens || difference > logprobTolerance) return false;
    if (difference === 0) this.report.sameBits++;
    this.report.largestDifference = Math.max(this.report.largestDifference, difference);
    return true;
  }

  async #metrics(): Promise<MetricsText> {
    const { text } = await this.#client.text({ method: "GET", path: "/metrics", key: null });
    return new MetricsText(text);
  }
}

function historyOf(pair: NamePair, isAlias: boolean) {
  return isAlias ? pair.ofAlias : pair.ofId;
}

function described(outcome: Outcome): string {
  if (outcome.type === "refused") return `${outcome.status} ${outcome.text.slice(0, 300)}`;
  return JSON.stringify(outcome.answer.tokens.join("").slice(0, 120));
}
