// What goes on beside the traffic of a soak, one chore after the other: probes whose answer must never change,
// requests that must be refused, and adapters that are uploaded, used and deleted while in use.

import {
  type AdapterFiles,
  deleteAdapter,
  flipSigns,
  generateAdapter,
  uploadAdapter,
} from "./generated-adapters.ts";
import { UnexpectedAnswerError } from "./http-client.ts";
import { Random } from "./random.ts";
import type { Stage } from "./stage.ts";

export type ChoreCounts = {
  readonly probes: number;
  readonly changedAnswers: number;
  readonly uploads: number;
  readonly deletes: number;
  readonly unexpected: readonly string[]; // statuses that no chore allows
};

const pauseMs = 300;
const missingModel = "no-such-model";

export class Chores {
  readonly #stage: Stage;
  readonly #random: Random;
  readonly #generated: AdapterFiles | null;
  readonly #firstAnswers = new Map<string, string>();
  readonly #submitted = { refused: 0, finished: 0 };
  readonly #counts = { probes: 0, changedAnswers: 0, uploads: 0, deletes: 0 };
  readonly #unexpected: string[] = [];
  #canDelete = true;

  constructor(stage: Stage) {
    const { checkpoint, rank, seed } = stage.options;
    this.#stage = stage;
    this.#random = new Random(seed, stage.options.tenants.length);
    this.#generated = checkpoint === null ? null : generateAdapter(checkpoint, rank);
    if (checkpoint === null) stage.note("without --model DIR no adapters are uploaded and deleted");
  }

  get submitted(): { readonly refused: number; readonly finished: number } {
    return { ...this.#submitted };
  }

  get counts(): ChoreCounts {
    return { ...this.#counts, unexpected: this.#unexpected };
  }

  /** First answers, before there is any load. */
  async prepare(): Promise<void> {
    for (const model of this.#probed()) await this.#probe(model);
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const turn = this.#random.uniform();
      if (turn < 0.5) await this.#probe(this.#probed()[this.#random.below(this.#probed().length)]!);
      else if (turn < 0.7) await this.#ask(missingModel, [404]);
      else if (this.#generated !== null && this.#canDelete) await this.#tryPassingAdapter(this.#generated);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  /** The base and one adapter. */
  #probed(): string[] {
    const { base, adapters } = this.#stage.models;
    return [base, ...adapters.slice(0, 1)];
  }

  async #probe(model: string): Promise<void> {
    const text = await this.#ask(model, [200, 429]);
    if (text === null) return;
    this.#counts.probes++;
    const first = this.#firstAnswers.get(model) ?? text;
    this.#firstAnswers.set(model, first);
    if (text !== first) this.#counts.changedAnswers++;
  }

  async #tryPassingAdapter(files: AdapterFiles): Promise<void> {
    try {
      await this.#passingAdapter(files);
    } catch (error) {
      if (!(error instanceof UnexpectedAnswerError)) throw error;
      this.#unexpected.push(error.message);
    }
  }

  async #passingAdapter(files: AdapterFiles): Promise<void> {
    const { client, tenant } = this.#stage;
    const number = this.#counts.uploads++;
    const id = `soak-${process.pid}-${number}`;
    const weights = flipSigns(files.weights, number);
    await uploadAdapter(client, { id, files: { ...files, weights }, key: tenant.key, compress: null });
    const use = this.#ask(id, [200, 404, 429]); // the delete may come first
    await new Promise((resolve) => setTimeout(resolve, this.#random.below(100)));
    this.#canDelete = await deleteAdapter(client, id, tenant.key);
    if (this.#canDelete) this.#counts.deletes++;
    else this.#stage.note(`DELETE /v1/adapters/${id} was refused: no further adapters are uploaded`);
    await use;
  }

  /** @returns the completion's text where there is one */
  async #ask(model: string, allowed: readonly number[]): Promise<string | null> {
    const { client, tenant } = this.#stage;
    const body = { model, prompt: "once more about the river and", max_tokens: 24, temperature: 1, seed: 7 };
    const call = { method: "POST", path: "/v1/completions", key: tenant.key, body } as const;
    const { status, text } = await client.text(call);
    this.#submitted[status >= 400 ? "refused" : "finished"]++;
    if (!allowed.includes(status)) this.#unexpected.push(`${status} for ${model}: ${text.slice(0, 200)}`);
    if (status !== 200) return null;
    const { choices } = JSON.parse(text) as { choices: readonly { readonly text: string }[] };
    return choices[0]!.text;
  }
}
