// Runs of the device, each measured for the latency model. Knows sequences as what a run is made of, no plan.

import type { BlendPart, Logits, ModelRunner } from "../kernels/model-runner.ts";
import { blendLogits, type Divergence, divergence } from "../kernels/sampling/blend.ts";
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
      sequence.members.map(({ rowId }, index) => ({
        sequence: rowId,
        tokenId: sequence.nextTokenId,
        query: () => sequence.query(),
        blend: partOf(sequence, index),
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
    if (logits.isBlended) return rows;
    return sequences.map(({ members }) => {
      const own = rows.splice(0, members.length);
      return members.length === 1 ? own[0]! : blended(members, own as Float32Array[]); // they are whole
    });
  }

  /** The sequence's next chunk; returns how long it was and the logits that the sequence wanted of it. */
  async prefill(sequence: Sequence): Promise<PrefilledChunk> {
    const { members, request } = sequence;
    const promptLength = request.promptTokenIds.length;
    const query = (wanted: number) => sequence.promptQuery(wanted);
    const chunk = sequence.nextChunk();
    const tokens = chunk.tokenIds.length;
    const ofMembers: Logits[] = [];
    for (const [index, { rowId, adapterVersion }] of members.entries()) {
      const adapterBytes = adapterVersion === null ? 0 : this.#adapters.bytesOf(adapterVersion);
      const work = { tokens, pastTokens: sequence.contextTokens, adapterBytes };
      const startMs = performance.now();
      const blend = partOf(sequence, index);
      const logits = await this.#runner.prefill({ sequence: rowId, promptLength, ...chunk, query, blend });
      this.latency.chunkTook(work, performance.now() - startMs);
      const isKept = members.length === 1 || logits.isBlended === true;
      ofMembers.push(isKept ? logits : { ...logits, data: logits.data.slice() });
    }
    const last = ofMembers.at(-1)!;
    if (members.length > 1 && !last.isBlended) return { tokens, ...blendedChunk(sequence, ofMembers) };
    return { tokens, logits: rowsOf(last), divergences: last.divergences ?? [] };
  }
}

/** What a chunk made: logits [vocab] of the wanted tokens, and of a comparison's how far its members are apart. */
export type PrefilledChunk = MadeOfChunk & { readonly tokens: number };

type MadeOfChunk = {
  readonly logits: readonly TokenLogits[];
  readonly divergences: readonly Divergence[];
};

function partOf({ request: { blend }, members }: Sequence, index: number): BlendPart | null {
  if (blend === null || members.length === 1) return null;
  return { type: blend.type, index, count: members.length, weight: members[index]!.weight };
}

/** @param ofMembers whole rows of each */
function blendedChunk({ request, members }: Sequence, ofMembers: readonly Logits[]): MadeOfChunk {
  const rows = ofMembers.map((logits) => rowsOf(logits) as Float32Array[]);
  const [first, second] = rows;
  if (request.blend?.type === "compare") {
    return { logits: [], divergences: first!.map((row, token) => divergence(row, second![token]!)) };
  }
  const ofToken = (token: number) => rows.map((ofMember) => ofMember[token]!);
  return { logits: first!.map((_, token) => blended(members, ofToken(token))), divergences: [] };
}

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
