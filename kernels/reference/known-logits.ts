// What a device tells of a row of logits, computed from the whole row in the plainest way.

import type { KnownLogits, LogitsQuery } from "../sampling/logits-query.ts";
import { logSumExp, topIndices } from "../sampling/logprobs.ts";
import { changedLogit } from "../sampling/sampler.ts";

/** @param blockTokens where the device cuts its blocks; null where no count of its most likely tokens suffices */
export function knownLogits(row: Float32Array, query: LogitsQuery, blockTokens: number): KnownLogits | null {
  const { draw, temperature, reported } = query;
  const changed = row.slice();
  for (const change of query.changes) changed[change.tokenId] = changedLogit(row[change.tokenId]!, change);
  const largest = Math.max(...changed);
  const weights = Array.from(changed, (logit) => Math.exp((logit - largest) / temperature));
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const top = topIndices(row, reported ?? 0);
  const common = {
    largest,
    total: sum(weights),
    unchanged: new Map(query.changes.map(({ tokenId }) => [tokenId, row[tokenId]!])),
    report:
      reported === null
        ? null
        : { logSumExp: logSumExp(row), tokenIds: top, logits: Float32Array.from(top, (id) => row[id]!) },
  };
  const of = (tokenIds: number[], before: number): KnownLogits => ({
    ...common,
    tokenIds,
    logits: Float32Array.from(tokenIds, (id) => changed[id]!),
    before,
  });
  if (draw.kind === "scored") return of([draw.tokenId], 0);
  if (draw.kind === "ranked") {
    const answers = draw.counts.map((count) => of(topIndices(changed, count), 0));
    return answers.find((known) => known.tokenIds.length === row.length || draw.suffices(known)) ?? null;
  }
  const ids = [...row.keys()];
  for (let start = 0; ; start += blockTokens) {
    const [before, end] = [sum(weights.slice(0, start)), start + blockTokens];
    const isLast = end >= row.length;
    if (isLast || sum(weights.slice(0, end)) > draw.random * common.total)
      return of(ids.slice(start, end), before);
  }
}
