// Merges several adapters into one, matrix by matrix, and reports what that lost. Pure and heavy: it runs in the
// pool's threads. Whose versions these are and where the result goes, others know.

import type { AdapterModule, AdapterTargets, DecodedAdapter } from "../../kernels/adapter.ts";
import { assertBounded } from "../../kernels/adapter-bounds.ts";
import { AdapterError } from "../../kernels/errors.ts";
import { mix } from "../../kernels/sampling/random.ts";
import type { ErrorSums } from "../compress/weight-error.ts";
import type { Lineage } from "../container/manifest.ts";
import { assertComposable, composeAdapters, isFiniteAdapter } from "./compose.ts";
import { type CompositionPart, weightOf } from "./composition.ts";
import { checkDepthScaling, type DepthScaling, depthScale, noDepthScaling } from "./depth-scaling.ts";
import { factorAveragingError } from "./factor-averaging.ts";
import { isAt, isFactored, isMatrixModule, type MatrixPlace, matrixPlaces } from "./matrix-place.ts";
import { type GroupedErrors, groupedErrors, type MatrixErrors, matrixErrors } from "./merge-error.ts";
import { checkParameters, invalidParameter, type MergeParameters } from "./merge-parameters.ts";
import { type MergeMethodName, mergeMethodNames, mergeMethods } from "./methods/index.ts";

export type MergeOptions = {
  readonly method: MergeMethodName;
  readonly parameters?: Partial<MergeParameters>;
  readonly lines?: DepthScaling;
};

/** Plain data, which goes to a thread as it is. */
export type MergeRequest = {
  readonly parts: readonly MergePart[];
  readonly targets: AdapterTargets;
  readonly options: MergeOptions;
};
export type MergePart = CompositionPart & { readonly adapter: DecodedAdapter };

export type RankRange = { readonly min: number; readonly max: number };
export type MergeReport = {
  readonly errors: {
    readonly toTarget: GroupedErrors; // what the rank lost of the method's own result
    readonly toSum: GroupedErrors; // how far the merge is from the exact weighted sum
    readonly factorAveraging: GroupedErrors | null; // of the sum, had A and B been averaged on their own
  };
  readonly ranks: { readonly before: readonly (RankRange | null)[]; readonly after: RankRange | null };
  readonly lineage: Lineage;
};

/**
 * Throws AdapterError: `merge_parameter_invalid`, `adapters_not_composable`, `merge_too_large`,
 * `merge_changes_nothing`, `adapter_values_too_large`.
 */
export function mergeAdapters({ parts, targets, options }: MergeRequest): {
  readonly adapter: DecodedAdapter;
  readonly report: MergeReport;
} {
  const checked = checkOptions(options);
  assertComposable(
    parts.map((part) => ({ adapter: part.adapter, weightOf: (layer) => weightOf(part, layer) })),
  );
  const modules: AdapterModule[] = [];
  const errors: MatrixReport[] = [];
  for (const [index, place] of matrixPlaces(targets).entries()) {
    const at = partsAt(place, parts, depthScale(checked.lines, place, targets.layers));
    const sum = composeAdapters(
      at.map(({ weight, modules }) => ({ adapter: { modules }, weightOf: () => weight })),
    );
    if (!sum.modules.every(isMatrixModule)) {
      modules.push(...sum.modules); // scales have an exact sum by every method
    } else if (sum.modules.length > 0) {
      const matrixParts = at.map((part) => ({ ...part, modules: part.modules.filter(isMatrixModule) }));
      const matrix = { place, parts: matrixParts, sum: sum.modules, randomStream: mix(index) };
      const merged = mergeMethods[checked.method].merge(matrix, checked.parameters);
      modules.push(...merged.modules);
      errors.push({ place, ...matrixErrors(matrix, merged), averaging: factorAveragingError(matrix) });
    }
  }
  const adapter = checkResult({ modules });
  const ranks = { before: parts.map((part) => rankRange(part.adapter)), after: rankRange(adapter) };
  return { adapter, report: { errors: reportErrors(errors), ranks, lineage: lineageOf(parts, checked) } };
}

type CheckedOptions = Required<Omit<MergeOptions, "parameters">> & { readonly parameters: MergeParameters };

function checkOptions({ method, parameters = {}, lines = noDepthScaling }: MergeOptions): CheckedOptions {
  if (!Object.hasOwn(mergeMethods, method)) {
    throw invalidParameter(`${method} is no method; use ${mergeMethodNames.join(", ")}`);
  }
  checkDepthScaling(lines);
  return { method, parameters: checkParameters(method, mergeMethods[method].parameters, parameters), lines };
}

type PartAt = { readonly weight: number; readonly modules: readonly AdapterModule[] };

/** Those that change the matrix at a place. */
function partsAt(place: MatrixPlace, parts: readonly MergePart[], scale: number): PartAt[] {
  const layer = place.kind === "projection" ? place.layer : null;
  return parts
    .map((part) => ({
      weight: scale * weightOf(part, layer),
      modules: part.adapter.modules.filter((module) => isAt(module, place)),
    }))
    .filter(({ weight, modules }) => weight !== 0 && modules.length > 0);
}

/** It will share batches with other tenants' adapters, like an uploaded one. */
function checkResult(adapter: DecodedAdapter): DecodedAdapter {
  if (adapter.modules.length === 0) {
    throw new AdapterError(
      "merge_changes_nothing",
      "the merged adapter would change nothing; give other weights",
    );
  }
  if (!isFiniteAdapter(adapter)) {
    throw new AdapterError(
      "adapter_values_too_large",
      "the merged adapter has values beyond float32; give smaller weights",
    );
  }
  assertBounded(adapter);
  return adapter;
}

type MatrixReport = MatrixErrors & { readonly place: MatrixPlace; readonly averaging: ErrorSums | null };

function reportErrors(matrices: readonly MatrixReport[]): MergeReport["errors"] {
  const grouped = (sumsOf: (report: MatrixReport) => ErrorSums | null) =>
    groupedErrors(
      matrices.flatMap((report) => {
        const sums = sumsOf(report);
        return sums === null ? [] : [{ place: report.place, sums }];
      }),
    );
  return {
    toTarget: grouped(({ toTarget }) => toTarget),
    toSum: grouped(({ toSum }) => toSum),
    factorAveraging: matrices.some(({ averaging }) => averaging !== null)
      ? grouped(({ averaging }) => averaging)
      : null,
  };
}

function rankRange({ modules }: DecodedAdapter): RankRange | null {
  const ranks = modules.filter(isFactored).map(({ rank }) => rank);
  return ranks.length === 0 ? null : { min: Math.min(...ranks), max: Math.max(...ranks) };
}

/** Enough to make the merge again. */
function lineageOf(parts: readonly MergePart[], { method, parameters, lines }: CheckedOptions): Lineage {
  const weights = parts.map(({ weight, layerWeights }) => ({ weight, layerWeights }));
  return {
    operation: "merge",
    parents: parts.map(({ version }) => version),
    parameters: {
      method,
      ...parameters,
      ...(lines === noDepthScaling ? {} : { linesFirst: lines.first, linesLast: lines.last }),
      weights: JSON.stringify(weights),
    },
  };
}
