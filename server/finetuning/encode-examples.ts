// A training file as the arrays that a job trains on. Yields to the event loop as it goes.

import { createReadStream } from "node:fs";
import type { TrainingExamples } from "../../finetuning/job.ts";
import type { ServedModel } from "../../scheduler/protocol.ts";
import type { TextModel } from "../text/text-model.ts";
import { type EncodedSequence, ExampleEncoder, ExampleProblem } from "./encode-example.ts";
import type { GiveWay } from "./encoding-turns.ts";
import { type ExampleFormat, parseExample } from "./training-example.ts";
import { InvalidTrainingFileError, LineProblems } from "./training-file-errors.ts";
import { linesOf } from "./training-lines.ts";

export type EncodeOptions = {
  readonly text: TextModel;
  readonly model: Pick<ServedModel, "eosTokenIds" | "vocabSize">;
  readonly maxTokens: number; // of a sequence
  readonly overLength: "refuse" | "truncate"; // truncate: its end is cut off
  readonly trainOnPrompt?: boolean;
  readonly giveWay?: GiveWay; // before each line
};

export type EncodedFile = { readonly examples: TrainingExamples; readonly report: EncodingReport };

export type EncodingReport = {
  readonly examples: number; // lines
  readonly sequences: number; // of a preference two; of a chat more than one where its template rewrites the past
  readonly tokens: number;
  readonly scoredTokens: number;
  readonly truncated: number; // examples
  readonly longestTokens: number; // of a sequence
};

const tokensLimit = 2 ** 23; // 64 MiB of ids and weights

/** Throws InvalidTrainingFileError, TokenizerMissingError, ChatTemplateMissingError, and as `giveWay` does. */
export async function encodeExamples(
  path: string,
  format: ExampleFormat,
  options: EncodeOptions,
): Promise<EncodedFile> {
  const encoder = new ExampleEncoder({ ...options, trainOnPrompt: options.trainOnPrompt ?? false });
  const problems = new LineProblems();
  const arrays = new ExampleArrays();
  const count = { examples: 0, truncated: 0 };
  for await (const line of linesOf(createReadStream(path))) {
    await options.giveWay?.();
    const example = "problem" in line ? line : parseExample(line.text, format);
    try {
      if ("problem" in example) throw new ExampleProblem(example.problem);
      const encoded = await encoder.encode(example);
      const fitted = fit(encoded, { ...options, isPair: format === "preference" });
      for (const sequence of fitted.sequences) arrays.add(sequence);
      count.examples++;
      if (fitted.isCut) count.truncated++;
    } catch (error) {
      if (!(error instanceof ExampleProblem)) throw error;
      problems.add(line.number, error.message);
      problems.refuseMany();
    }
  }
  problems.refuseAny();
  return { examples: arrays.examples(), report: { ...count, ...arrays.totals } };
}

type FitOptions = Pick<EncodeOptions, "maxTokens" | "overLength"> & { readonly isPair: boolean };
type Fitted = { readonly sequences: readonly EncodedSequence[]; readonly isCut: boolean };

/** Throws ExampleProblem where it may not be cut, or where nothing that is scored would be left. */
function fit(sequences: readonly EncodedSequence[], { maxTokens, overLength, isPair }: FitOptions): Fitted {
  const longestTokens = Math.max(...sequences.map(({ tokenIds }) => tokenIds.length));
  const isCut = longestTokens > maxTokens;
  if (isCut && overLength === "refuse") {
    throw new ExampleProblem(
      `reaches ${longestTokens} tokens, more than the ${maxTokens} of a sequence; shorten it, or let the job truncate`,
    );
  }
  const cut = sequences.map(({ tokenIds, weights }) => ({
    tokenIds: tokenIds.slice(0, maxTokens),
    weights: weights.slice(0, maxTokens),
  }));
  const scored = cut.filter(({ weights }) => weights.some((weight) => weight > 0));
  if (scored.length === 0 || (isPair && scored.length < cut.length)) {
    const within = isCut ? ` within ${maxTokens} tokens, where it reaches ${longestTokens}` : "";
    throw new ExampleProblem(`has nothing to learn${within}`);
  }
  return { sequences: scored, isCut };
}

/** Arrays that grow by doubling. */
class ExampleArrays {
  #tokenIds = new Int32Array(4096);
  #weights = new Float32Array(4096);
  readonly #ends: number[] = [];
  #tokens = 0;
  #scoredTokens = 0;
  #longestTokens = 0;

  /** Throws InvalidTrainingFileError. */
  add({ tokenIds, weights }: EncodedSequence): void {
    const end = this.#tokens + tokenIds.length;
    if (end > tokensLimit)
      throw new InvalidTrainingFileError(`the file has more than ${tokensLimit} tokens; split it`);
    while (end > this.#tokenIds.length) {
      this.#tokenIds = lengthened(this.#tokenIds, new Int32Array(2 * this.#tokenIds.length));
      this.#weights = lengthened(this.#weights, new Float32Array(2 * this.#weights.length));
    }
    this.#tokenIds.set(tokenIds, this.#tokens);
    this.#weights.set(weights, this.#tokens);
    this.#ends.push(end);
    this.#tokens = end;
    this.#scoredTokens += weights.filter((weight) => weight > 0).length;
    this.#longestTokens = Math.max(this.#longestTokens, tokenIds.length);
  }

  get totals() {
    return {
      sequences: this.#ends.length,
      tokens: this.#tokens,
      scoredTokens: this.#scoredTokens,
      longestTokens: this.#longestTokens,
    };
  }

  examples(): TrainingExamples {
    return {
      tokenIds: this.#tokenIds.slice(0, this.#tokens),
      weights: this.#weights.slice(0, this.#tokens),
      ends: Int32Array.from(this.#ends),
    };
  }
}

function lengthened<Numbers extends Int32Array | Float32Array>(from: Numbers, to: Numbers): Numbers {
  to.set(from);
  return to;
}
