// Whether this processor's kernels give a row the same bits alone and in a full batch, found out by running both.

import type { AdapterTargets } from "../adapter.ts";
import { CotenantError } from "../errors.ts";
import type { ModelRunner } from "../model-runner.ts";
import { randomAdapter } from "../random-adapter.ts";
import { randomAt } from "../sampling/random.ts";

const adapterRank = 20; // several blocks, the last one not full
const promptTokens = 40;
const steps = 3;
const checkedRows = 4; // one without an adapter, and both of a pair that share one

/**
 * Uses all rows of a runner that nobody uses yet, and leaves it as it was.
 * @throws CotenantError `batch_invariance_unavailable`
 */
export async function checkInvariance(
  runner: ModelRunner,
  model: { readonly targets: AdapterTargets; readonly vocabSize: number },
): Promise<void> {
  const versions = ["invariance-1", "invariance-2"];
  for (const [seed, version] of versions.entries()) {
    runner.addAdapter(version, randomAdapter(model.targets, adapterRank, seed));
  }
  const rows = Array.from({ length: runner.maxRows }, (_, row) => ({
    id: `invariance-${row}`,
    adapterVersion: [null, versions[0]!, versions[1]!, versions[0]!][row % 4]!,
    tokens: Array.from({ length: promptTokens + steps }, (_, index) =>
      Math.floor(randomAt(row, index) * model.vocabSize),
    ),
  }));
  const together = await run(runner, rows);
  for (const [row, request] of rows.slice(0, checkedRows).entries()) {
    const [alone] = await run(runner, [request]);
    if (areEqual(alone!, together[row]!)) continue;
    throw new CotenantError(
      "batch_invariance_unavailable",
      "this processor computes a row's last bits differently alone and in a batch; start without --batch-invariant, or on a processor with AVX-512 VNNI",
    );
  }
  for (const version of versions) runner.removeAdapter(version);
}

type Row = {
  readonly id: string;
  readonly adapterVersion: string | null;
  readonly tokens: readonly number[];
};

/** Logits of all steps of the first rows. */
async function run(runner: ModelRunner, rows: readonly Row[]): Promise<Float32Array[][]> {
  const found: Float32Array[][] = rows.slice(0, checkedRows).map(() => []);
  for (const { id, adapterVersion, tokens } of rows) {
    runner.open(id, { adapterVersion, prefix: null });
    const tokenIds = tokens.slice(0, promptTokens);
    await runner.prefill({ sequence: id, tokenIds, promptLength: promptTokens, logits: "none" });
  }
  for (let step = 0; step < steps; step++) {
    const entries = rows.map(({ id, tokens }) => ({ sequence: id, tokenId: tokens[promptTokens + step]! }));
    const { data, vocabSize } = await runner.decode(entries);
    for (const [row, logits] of found.entries()) {
      logits.push(data.slice(row * vocabSize, (row + 1) * vocabSize));
    }
  }
  for (const { id } of rows) runner.close(id);
  return found;
}

function areEqual(one: readonly Float32Array[], other: readonly Float32Array[]): boolean {
  return one.every((logits, step) => logits.every((value, index) => value === other[step]![index]));
}
