// Compresses a decoded adapter into a container. Pure and heavy: it runs in the pool's threads. What a compressed
// adapter's outputs are like is for callers to measure; `compressionCandidates` is what they choose from.

import { AdapterError } from "../../kernels/errors.ts";
import {
  type CompressionOptions,
  checkTargetRatio,
  encodingOf,
  type FixedCompression,
} from "./compression-options.ts";
import { type GroupEncodings, sixteenBitBytes, uniformEncodings } from "./module-groups.ts";
import { type PackedAdapter, type PackSource, pack, packedBytes } from "./pack.ts";
import { chooseEncodings } from "./skillpack.ts";

export type { CompressionOptions, FixedCompression } from "./compression-options.ts";
export type { PackedAdapter, WeightError } from "./pack.ts";

export type CompressionSource = Omit<PackSource, "lineage"> & {
  readonly parents: readonly string[]; // versions that the adapter is; they go into its lineage
};

const smallestDensity = 0.001;
const densitySteps = 12; // halvings of the range's logarithm: to 0.2%

/** Throws AdapterError: `compression_option_invalid`, `compression_target_unreachable`, `codec_out_of_range`. */
export function compress(source: CompressionSource, options: CompressionOptions): PackedAdapter {
  const named = withLineage(source, options);
  if (!("targetRatio" in options)) return pack(named, uniformEncodings(encodingOf(options)));
  const { targetRatio } = options;
  checkTargetRatio(targetRatio);
  const budgetBytes = Math.floor(sixteenBitBytes(source.adapter.modules) / targetRatio);
  const encodings =
    "method" in options ? chooseEncodings(named, budgetBytes) : mostPrecise(named, budgetBytes);
  if (encodings !== null) return pack(named, encodings);
  throw new AdapterError(
    "compression_target_unreachable",
    `the adapter cannot be made ${targetRatio} times smaller than with 16 bits (${budgetBytes} bytes); ask for less`,
  );
}

export type CompressionCandidate = { readonly options: FixedCompression; readonly packed: PackedAdapter };

/** From the largest and most precise to the smallest. */
export const candidateOptions: readonly FixedCompression[] = [
  { method: "f16" },
  { method: "int8" },
  { method: "int4" },
  ...[0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01].map(
    (density): FixedCompression => ({ method: "compeft", density }),
  ),
];

/** In the order of `candidateOptions`, each made when it is asked for. */
export function* compressionCandidates(source: CompressionSource): Generator<CompressionCandidate, void> {
  for (const options of candidateOptions) yield { options, packed: compress(source, options) };
}

/** Integers where they suffice, else ComPEFT at the highest density that fits; null where none does. */
function mostPrecise(source: PackSource, budgetBytes: number): GroupEncodings | null {
  const fits = (encodings: GroupEncodings) => packedBytes(source, encodings) <= budgetBytes;
  for (const method of ["f16", "int8", "int4"] as const) {
    const encodings = uniformEncodings(encodingOf({ method }));
    if (fits(encodings)) return encodings;
  }
  const ternary = (density: number) => uniformEncodings({ codec: "ternary", density });
  if (!fits(ternary(smallestDensity))) return null;
  if (fits(ternary(1))) return ternary(1);
  let low = smallestDensity; // fits
  let high = 1; // does not
  for (let step = 0; step < densitySteps; step++) {
    const middle = Math.sqrt(low * high);
    if (fits(ternary(middle))) low = middle;
    else high = middle;
  }
  return ternary(low);
}

function withLineage({ parents, ...source }: CompressionSource, options: CompressionOptions): PackSource {
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return {
    ...source,
    lineage: { operation: "compress", parents, parameters: Object.fromEntries(given) },
  };
}
