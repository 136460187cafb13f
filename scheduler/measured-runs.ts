// Runs of the device, each measured for the latency model. Knows sequences as what a run is made of, no plan.

import type { Logits, ModelRunner } from "../kernels/model-runner.ts";
import { blendLogits } from "../kernels/sampling/blend.ts";
import type { TokenLogits } from "../kernels/sampling/logits-query.ts";
import type { HeldAdapters } from "./held-adapters.ts";
import type { Member } from "./members.ts";
import type { Sequence } from "./sequence.ts";
import { StepLatency } from "./step-latency.ts";

export class MeasuredRuns {
  readonly latency = new StepLatency();
  readonly #runner: ModelRunner;
  readonly #adapters: HeldAdapters;

  constructor(runner: ModelRunner, adapters: HeldAdapters) {
    this.#runner = runner;
    this.#adapters = adapters;
  }

  /** One token for each sequence; returns each one's logits, or as many as it asks for. */
  async decode(sequences: readonly Sequence[]): Promise<TokenLogits[]> {
    const entries = sequences.flatMap((sequence) =>
      sequence.members.map(({ rowId }) => ({
        sequence: rowId,
        tokenId: sequence.nextTokenId,
        query: () => sequence.query(),
      })),
    );
    const work = {
      rows: entries.length,
      pastTokens: sequences.reduce(
        (sum, { contextTokens, members }) => sum + contextTokens * members.length,
        0,
      ),
      adapterBytes: this.#adapters.bytesOfAll(sequences),
    };
    const startMs = performance.now();
    const logits = await this.#runner.decode(entries);
    this.latency.decodeTook(work, performance.now() - startMs);
    const rows = rowsOf(logits);
    return sequences.map(({ members }) => {
      const own = rows.splice(0, members.length);
      return members.length === 1 ? own[0]! : blended(members, own as Float32Array[]); // all logits were asked for
    });
  }

  /** The sequence's next chunk; returns how long it was and the logits that the sequence wanted of it. */
  async prefill(sequence: Sequence): Promise<PrefilledChunk> {
    const { members, request } = sequence;
    const chunk = sequence.nextChunk();
    const tokens = chunk.tokenIds.length;
    const ofMembers: TokenLogits[][] = [];
    for (const { rowId, adapterVersion } of members) {
      const adapterBytes = adapterVersion === null ? 0 : this.#adapters.bytesOf(adapterVersion);
      const work = { tokens, pastTokens: sequence.contextTokens, adapterBytes };
      const startMs = performance.now();
      const promptLength = request.promptTokenIds.length;
      const query = () => sequence.query();
      const logits = await this.#runner.prefill({ sequence: rowId, promptLength, ...chunk, query });
      this.latency.chunkTook(work, performance.now() - startMs);
      ofMembers.push(
        members.length === 1 ? rowsOf(logits) : rowsOf({ ...logits, data: logits.data.slice() }),
      );
    }
    const [first, second] = ofMembers;
    if (request.blend?.type === "compare") {
      return { tokens, logits: first!, others: second! as Float32Array[] }; // all logits were asked for
    }
    if (members.length === 1) return { tokens, logits: first!, others: [] };
    const logits = first!.map((_, row) =>
      blended(
        members,
        ofMembers.map((rows) => rows[row]! as Float32Array),
      ),
    );
    return { tokens, logits, others: [] };
  }
}

/** What a chunk made: logits [vocab] of the wanted tokens, and of a comparison's second member. */
export type PrefilledChunk = {
  readonly tokens: number;
  readonly logits: readonly TokenLogits[];
  readonly others: readonly Float32Array[];
};

/** @param rows of several members */
function blended(members: readonly Member[], rows: readonly Float32Array[]): Float32Array {
  return blendLogits(
    rows,
    members.map(({ weight }) => weight),
  );
}

/** In the order in which they were asked for. */
function rowsOf({ count, vocabSize, data, known }: Logits): TokenLogits[] {
  let row = 0;
  return Array.from({ length: count }, (_, token) => {
    const told = known?.[token] ?? null;
    return told ?? data.subarray(row * vocabSize, ++row * vocabSize);
  });
}
