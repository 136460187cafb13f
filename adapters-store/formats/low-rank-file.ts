// The pairs of A and B in a file that holds nothing else: llama.cpp's and ONNX Runtime's adapters.

import type { AdapterTargets } from "../../kernels/adapter.ts";
import { findNonFinite } from "../../kernels/checkpoint/finite.ts";
import { AdapterError } from "../../kernels/errors.ts";
import { isInside, type ModulePlace } from "./module-places.ts";
import { refuseUnmatched } from "./unmatched.ts";

/** The one file with the ending, or null. Throws AdapterError `adapter_file_duplicate`. */
export function claimOne(fileNames: readonly string[], ending: string): [string] | null {
  const [name, ...others] = fileNames.filter((each) => each.endsWith(ending));
  if (name === undefined) return null;
  if (others.length === 0) return [name];
  throw new AdapterError(
    "adapter_file_duplicate",
    `[${[name, ...others].slice(0, 10)}] are several adapters; give one *${ending} file`,
  );
}

export type Side = "A" | "B";

/** Which matrix of which module a tensor is. `path` is how the module is named in messages. */
export type TensorPlace = { readonly path: string; readonly place: ModulePlace; readonly side: Side };

export type TensorPair = {
  readonly path: string;
  readonly place: ModulePlace;
  readonly a: string;
  readonly b: string;
};

export type LowRankFile = {
  readonly fileName: string;
  readonly names: Iterable<string>;
  readonly parse: (name: string) => TensorPlace | null;
};

/** Throws AdapterError: those of `refuseUnmatched`, `adapter_module_duplicate`, `adapter_tensor_missing`. */
export function pairTensors({ fileName, names, parse }: LowRankFile, targets: AdapterTargets): TensorPair[] {
  const found = new Map<string, { readonly place: ModulePlace; readonly sides: Map<Side, string> }>();
  const unmatched: string[] = [];
  for (const name of names) {
    const parsed = parse(name);
    if (parsed === null || !isInside(parsed.place, targets)) {
      unmatched.push(name);
      continue;
    }
    const { path, place, side } = parsed;
    const { sides } = found.get(path) ?? found.set(path, { place, sides: new Map() }).get(path)!;
    if (sides.has(side)) {
      throw new AdapterError(
        "adapter_module_duplicate",
        `${fileName}: ${name} and ${sides.get(side)} are the same tensor; save one adapter alone`,
      );
    }
    sides.set(side, name);
  }
  refuseUnmatched(fileName, unmatched, { matchedCount: found.size, targets });
  return [...found].map(([path, { place, sides }]) => {
    const a = sides.get("A");
    const b = sides.get("B");
    if (a !== undefined && b !== undefined) return { path, place, a, b };
    throw new AdapterError(
      "adapter_tensor_missing",
      `${fileName}: ${a ?? b} has no partner; save the whole adapter`,
    );
  });
}

export type NamedTensor = {
  readonly fileName: string;
  readonly name: string;
  readonly shape: readonly number[];
};

/** `axes` names the dimensions of `wanted`. Throws AdapterError `adapter_wrong_shape`. */
export function requireShape(
  { fileName, name, shape }: NamedTensor,
  wanted: readonly number[],
  axes: string,
): void {
  if (shape.length === wanted.length && shape.every((size, i) => size === wanted[i])) return;
  throw new AdapterError(
    "adapter_wrong_shape",
    `${fileName}: ${name} is [${shape}], but the base asks for ${axes} = [${wanted}]; train the adapter on this base`,
  );
}

/** Throws AdapterError `non_finite_weights`. */
export function requireFinite(values: Float32Array, where: string): void {
  const at = findNonFinite(values);
  if (at < 0) return;
  throw new AdapterError(
    "non_finite_weights",
    `${where} holds ${values[at]} at ${at}; the file is damaged or its training diverged`,
  );
}
