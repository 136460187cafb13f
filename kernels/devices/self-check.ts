// Whether a device computes what the CPU computes, found out by running both before anything is served: prompts, and
// rows that decode together, with adapters and without. Which devices, and how much of a model, it does not know.

import type { DecodedAdapter } from "../adapter.ts";
import { CotenantError } from "../errors.ts";
import type { ModelConfig } from "../model-config.ts";
import { adapterTargets } from "../model-family.ts";
import type { Logits, ModelRunner } from "../model-runner.ts";
import { randomAdapter } from "../random-adapter.ts";
import { type KnownLogits, leastQuery, type TokenLogits } from "../sampling/logits-query.ts";
import { logSumExp, maximum } from "../sampling/logprobs.ts";
import { randomAt } from "../sampling/random.ts";

/**
 * How far a logit may be from the CPU's, as a share of the largest of its row. Float32 sums in another order come to
 * 1e-5 (docs/webgpu.md); a row without its adapter is at 1e-2 and beyond.
 */
export const logitTolerance = 1e-3;

/** What the runners of a check are opened with. */
export const checkLimits = { maxRows: 3, maxContext: 128 } as const;

export type CheckedRow = { readonly what: string; readonly logits: TokenLogits };

const adapterRank = 20; // several blocks, the last one not full
const adapterStrength = 16;
const steps = 2;
/** The first is longer than what a product takes at once. */
const sequences = [
  { id: "check-1", adapterVersion: "check-a", promptTokens: 40 },
  { id: "check-2", adapterVersion: null, promptTokens: 5 },
  { id: "check-3", adapterVersion: "check-b", promptTokens: 12 },
] as const;

/** Uses a runner that nobody uses yet, and ends it. */
export async function checkedRows(runner: ModelRunner, config: ModelConfig): Promise<CheckedRow[]> {
  try {
    return await run(runner, config);
  } finally {
    await runner.dispose();
  }
}

async function run(runner: ModelRunner, config: ModelConfig): Promise<CheckedRow[]> {
  const { vocabSize } = config;
  const token = (row: number, place: number) => Math.floor(randomAt(row, place) * vocabSize);
  const rows: CheckedRow[] = [];
  const keep = (what: string, logits: Logits) => {
    for (const row of copiedRows(logits)) rows.push({ what, logits: row });
  };
  for (const [seed, version] of ["check-a", "check-b"].entries()) {
    runner.addAdapter(version, strongAdapter(config, seed));
  }
  for (const [row, { id, adapterVersion, promptTokens }] of sequences.entries()) {
    runner.open(id, { adapterVersion, prefix: null });
    const tokenIds = Array.from({ length: promptTokens }, (_, place) => token(row, place));
    const logits = row === 0 ? "all" : "last";
    const what = `a prompt of ${promptTokens} tokens${adapterVersion === null ? "" : " with an adapter"}`;
    keep(what, await runner.prefill({ sequence: id, tokenIds, promptLength: promptTokens, logits }));
  }
  const entry = (row: number, step: number) => {
    const { id, promptTokens } = sequences[row]!;
    return { sequence: id, tokenId: token(row, promptTokens + step) };
  };
  for (let step = 0; step < steps; step++) {
    const entries = sequences.map((_, row) => entry(row, step));
    keep("rows that decode together, with adapters and without", await runner.decode(entries));
  }
  keep("a row that decodes alone", await runner.decode([entry(0, steps)]));
  keep("a draw", await runner.decode([{ ...entry(1, steps), query: () => leastQuery }]));
  return rows;
}

/** A token's row as it is, or what the device told of it. */
function copiedRows({ count, vocabSize, data, known }: Logits): TokenLogits[] {
  let whole = 0;
  return Array.from({ length: count }, (_, row) => {
    const first = vocabSize * whole;
    const told = known?.[row] ?? null;
    if (told === null) whole++;
    return told ?? data.slice(first, first + vocabSize);
  });
}

/** So strong that logits without it are far beyond the tolerance. */
function strongAdapter(config: ModelConfig, seed: number): DecodedAdapter {
  const { modules } = randomAdapter(adapterTargets(config), adapterRank, seed);
  return {
    modules: modules.map((module) =>
      module.kind === "low-rank"
        ? { ...module, b: module.b.map((value) => value * adapterStrength) }
        : module,
    ),
  };
}

/**
 * @param expected the CPU's, which are whole
 * @throws CotenantError `device_computes_wrong`
 */
export function assertSame(found: readonly CheckedRow[], expected: readonly CheckedRow[]): void {
  for (const [index, { what, logits }] of expected.entries()) {
    const share = distance(found[index]!.logits, logits as Float32Array);
    if (share <= logitTolerance) continue;
    const percent = (value: number) => `${Number((value * 100).toPrecision(2))} %`;
    const how = Number.isFinite(share)
      ? `are off by ${percent(share)} of the largest, and ${percent(logitTolerance)} are allowed`
      : "are no numbers";
    throw new CotenantError(
      "device_computes_wrong",
      `WebGPU computes this model otherwise than the CPU: in ${what}, logits ${how}; update the GPU's driver, or serve with --device cpu`,
    );
  }
}

/** As a share of the largest of the row; NaN where anything is not a number. */
export function distance(found: TokenLogits, expected: Float32Array): number {
  const worst = found instanceof Float32Array ? apart(found, expected) : apart(...told(found, expected));
  return worst / apart(expected, new Float32Array(expected.length));
}

function apart(one: ArrayLike<number>, other: ArrayLike<number>): number {
  let worst = 0;
  for (let index = 0; index < other.length; index++) {
    worst = Math.max(worst, Math.abs(one[index]! - other[index]!));
  }
  return worst;
}

/** Of the likeliest token, and what a draw needs of all. */
function told(found: KnownLogits, expected: Float32Array): readonly [number[], number[]] {
  const { tokenIds, logits, largest, total } = found;
  return [
    [logits[0]!, largest, largest + Math.log(total)],
    [expected[tokenIds[0]!]!, maximum(expected), logSumExp(expected)],
  ];
}
