// Log-probabilities of the scored tokens and their gradients by the last hidden states, gathered slice by slice of
// the vocabulary. Keeps per scored token four rows of the hidden width and no logits.

import { floatTensor, freeOutput } from "../session.ts";
import { addNormGradient, type NormParameters, normRow } from "./final-norm.ts";
import type { HeadRows } from "./frozen-weights.ts";
import { lossInputs, lossOutputs } from "./loss-graph.ts";
import type { TokenRange } from "./token-layout.ts";
import type { TrainingSession } from "./training-device.ts";

/** The same product, here in double precision and by the runtime in float32, differs by less. */
const tieLogits = 1e-3;

type Scored = readonly { readonly tokenId: number }[];

export class HeadLoss {
  readonly #scored: Scored;
  readonly #width: number;
  readonly #train: boolean;
  readonly #norm: NormParameters;
  readonly #hidden: Float32Array; // [scored, hidden], before the norm
  readonly #normed: Float32Array; // [scored, hidden]
  readonly #targetRows: Float32Array; // [scored, hidden]
  readonly #targetLogits: Float64Array;
  readonly #mean: Float32Array; // [scored, hidden]
  readonly #maximum: Float32Array;
  readonly #sum: Float32Array;

  /**
   * @param hidden [scored, hidden], each of the token before the scored one
   * @param train whether hiddenGradient() will be asked for
   */
  constructor(
    scored: Scored,
    {
      hidden,
      norm,
      train,
    }: { readonly hidden: Float32Array; readonly norm: NormParameters; readonly train: boolean },
  ) {
    const width = norm.weight.length;
    this.#scored = scored;
    this.#width = width;
    this.#norm = norm;
    this.#hidden = hidden;
    this.#normed = new Float32Array(scored.length * width);
    this.#targetRows = new Float32Array(train ? scored.length * width : 0);
    this.#targetLogits = new Float64Array(scored.length);
    this.#mean = new Float32Array(train ? scored.length * width : 0);
    this.#train = train;
    this.#maximum = new Float32Array(scored.length).fill(Number.NEGATIVE_INFINITY);
    this.#sum = new Float32Array(scored.length);
    for (let index = 0; index < scored.length; index++) {
      normRow(row(hidden, index, width), norm, row(this.#normed, index, width));
    }
  }

  /** @param session of the graph with the mean where this trains, else of the one without */
  async addSlice(session: TrainingSession, slice: HeadRows, range: TokenRange): Promise<void> {
    const { from, to } = range;
    const count = to - from;
    const width = this.#width;
    for (let index = from; index < to; index++) this.#takeTarget(index, slice);
    const rows = (values: Float32Array, columns: number) =>
      floatTensor(values.subarray(from * columns, to * columns), [count, columns]);
    const outputs = await session.run({
      [lossInputs.normed]: rows(this.#normed, width),
      [lossInputs.head]: slice.feed,
      [lossInputs.maximum]: rows(this.#maximum, 1),
      [lossInputs.sum]: rows(this.#sum, 1),
      ...(this.#train ? { [lossInputs.mean]: rows(this.#mean, width) } : {}),
    });
    this.#maximum.set(outputs[lossOutputs.maximum]!, from);
    this.#sum.set(outputs[lossOutputs.sum]!, from);
    if (this.#train) this.#mean.set(outputs[lossOutputs.mean]!, from * width);
    for (const output of Object.values(outputs)) freeOutput(output);
  }

  /** [scored], once all slices are in. */
  logprobs(): Float64Array {
    return this.#targetLogits.map(
      (logit, index) => logit - this.#maximum[index]! - Math.log(this.#sum[index]!),
    );
  }

  /** [scored], 1 where no token is likelier than the target, once all slices are in. */
  hits(): Uint8Array {
    return Uint8Array.from(this.#targetLogits, (logit, index) =>
      Number(logit >= this.#maximum[index]! - tieLogits),
    );
  }

  /**
   * The loss' gradient by the hidden states of some of the scored tokens, [range's tokens, hidden].
   * @param slopes [scored], of the loss by each log-probability
   */
  hiddenGradient(slopes: ArrayLike<number>, { from, to }: TokenRange): Float32Array<ArrayBuffer> {
    const width = this.#width;
    const out = new Float32Array((to - from) * width);
    const gradient = new Float32Array(width);
    for (let index = from; index < to; index++) {
      const target = row(this.#targetRows, index, width);
      const mean = row(this.#mean, index, width);
      const sum = this.#sum[index]!;
      for (let i = 0; i < width; i++) gradient[i] = target[i]! - mean[i]! / sum;
      const x = row(this.#hidden, index, width);
      addNormGradient({ x, gradient, factor: slopes[index]! }, this.#norm, row(out, index - from, width));
    }
    return out;
  }

  #takeTarget(index: number, { firstRow, count, row: rowAt }: HeadRows): void {
    const place = this.#scored[index]!.tokenId - firstRow;
    if (place < 0 || place >= count) return;
    const width = this.#width;
    const target = rowAt(place);
    if (this.#train) row(this.#targetRows, index, width).set(target);
    const normed = row(this.#normed, index, width);
    let logit = 0;
    for (let i = 0; i < width; i++) logit += target[i]! * normed[i]!;
    this.#targetLogits[index] = logit;
  }
}

function row(values: Float32Array, index: number, width: number): Float32Array {
  return values.subarray(index * width, (index + 1) * width);
}
