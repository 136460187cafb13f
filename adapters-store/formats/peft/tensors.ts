// The tensors of adapter_model.safetensors by the module that they belong to. Which parameters a module may have is
// the method's business; a tensor that is none of them is refused.

import type { AdapterTargets } from "../../../kernels/adapter.ts";
import { findNonFinite } from "../../../kernels/checkpoint/finite.ts";
import type { SafetensorsFile } from "../../../kernels/checkpoint/safetensors.ts";
import { AdapterError } from "../../../kernels/errors.ts";
import { isInside, type ModulePlace, type ProjectionPlace, placeOf } from "../module-places.ts";
import type { ModuleSet } from "../module-set.ts";
import { refuseUnmatched } from "../unmatched.ts";
import { configName, type PeftFields } from "./fields.ts";
import { targetMatcher } from "./target-modules.ts";

export const weightsName = "adapter_model.safetensors";

export type PeftAdapter = {
  readonly fields: PeftFields;
  readonly file: SafetensorsFile;
  readonly targets: AdapterTargets;
};

/** A way of fine-tuning that PEFT stores. A new one is a file beside this one and a line in `methods.ts`. */
export type PeftMethod = {
  /** Config fields that it reads or that do not change its output; any other that is set is refused. */
  readonly fields: readonly string[];
  readonly decode: (adapter: PeftAdapter, modules: ModuleSet) => void;
};

/** What the file holds of one module of the base. */
export class StoredModule<Place extends ModulePlace = ModulePlace> {
  readonly path: string; // inside of the base model: model.layers.0.self_attn.q_proj
  readonly place: Place;
  readonly #file: SafetensorsFile;
  readonly #tensors = new Map<string, string>();

  constructor(path: string, place: Place, file: SafetensorsFile) {
    this.path = path;
    this.place = place;
    this.#file = file;
  }

  get parameters(): readonly string[] {
    return [...this.#tensors.keys()];
  }

  has(parameter: string): boolean {
    return this.#tensors.has(parameter);
  }

  set(parameter: string, tensor: string): void {
    const same = this.#tensors.get(parameter);
    if (same !== undefined) {
      throw new AdapterError(
        "adapter_module_duplicate",
        `${weightsName}: ${tensor} and ${same} are the same tensor; save one adapter alone`,
      );
    }
    this.#tensors.set(parameter, tensor);
  }

  /** Dimensions of a matrix. Throws AdapterError `adapter_tensor_missing` or `adapter_wrong_shape`. */
  matrixShape(parameter: string): readonly [number, number] {
    const name = this.nameOf(parameter);
    const { shape } = this.#file.tensors.get(name)!;
    const [rows, columns] = shape;
    if (shape.length === 2 && rows! > 0 && columns! > 0) return [rows!, columns!];
    throw new AdapterError(
      "adapter_wrong_shape",
      `${weightsName}: ${name} is [${shape}] and should be a matrix; save the adapter anew`,
    );
  }

  read(parameter: string, shape: readonly number[], axes: string): Float32Array<ArrayBuffer> {
    return readTensor(this.#file, this.nameOf(parameter), { shape, axes });
  }

  nameOf(parameter: string): string {
    const name = this.#tensors.get(parameter);
    if (name !== undefined) return name;
    throw new AdapterError(
      "adapter_tensor_missing",
      `${weightsName}: ${this.path} has ${this.parameters.join(", ")}, but no ${parameter}; save the whole adapter`,
    );
  }
}

/**
 * Every tensor under the module that it belongs to. `parametersOf` says which a module at a place may have.
 * Throws AdapterError `no_modules_matched`, `module_not_supported` or `adapter_module_duplicate`.
 */
export function groupTensors(
  { file, targets }: PeftAdapter,
  parametersOf: (place: ModulePlace) => readonly string[],
  isElsewhere: (name: string) => boolean = () => false,
): StoredModule[] {
  const modules = new Map<string, StoredModule>();
  const unmatched: string[] = [];
  for (const tensor of file.tensors.keys()) {
    if (isElsewhere(tensor)) continue;
    const found = parseTensorName(tensor, parametersOf);
    if (found === null || !isInside(found.place, targets)) {
      unmatched.push(tensor);
      continue;
    }
    const { path, place, parameter } = found;
    const module = modules.get(path) ?? new StoredModule(path, place, file);
    module.set(parameter, tensor);
    modules.set(path, module);
  }
  refuseUnmatched(weightsName, unmatched, { matchedCount: modules.size, targets });
  return [...modules.values()];
}

/** As `groupTensors`, for methods that change projections alone, all of which the config must target. */
export function groupProjections(
  adapter: PeftAdapter,
  parameters: readonly string[],
  isElsewhere?: (name: string) => boolean,
): StoredModule<ProjectionPlace>[] {
  const parametersOf = ({ kind }: ModulePlace) => (kind === "projections" ? parameters : []);
  const modules = groupTensors(adapter, parametersOf, isElsewhere) as StoredModule<ProjectionPlace>[];
  requireTargeted(adapter.fields, modules);
  return modules;
}

/** Throws AdapterError `adapter_module_not_targeted`. */
export function requireTargeted(fields: PeftFields, modules: readonly StoredModule[]): void {
  const isTargeted = targetMatcher(fields);
  const ignored = modules.find(({ path }) => !isTargeted(path));
  if (ignored === undefined) return;
  throw new AdapterError(
    "adapter_module_not_targeted",
    `${weightsName} holds ${ignored.path}, which ${configName} does not target, so PEFT would ignore it; give the config that belongs to these weights`,
  );
}

/** Null for a tensor that is no parameter of a module. */
function parseTensorName(name: string, parametersOf: (place: ModulePlace) => readonly string[]) {
  // PEFT prefixes what it wraps; the adapter's name follows the parameter's where a file was saved around PEFT.
  const plain = name
    .replace(/^base_model\.model\./, "")
    .replace(/\.default(?=\.weight$|\.bias$|$)/, "")
    .replace(/\.lora_magnitude_vector\.weight$/, ".lora_magnitude_vector")
    .replace(/\.base_layer\.(?=weight$|bias$)/, "."); // what is wrapped keeps its own parameters in there
  const parts = plain.split(".");
  // One to two parts of a name are the parameter: lora_A.weight, bias, ia3_l.
  for (const length of [2, 1]) {
    const path = parts.slice(0, -length).join(".");
    const parameter = parts.slice(-length).join(".");
    const place = placeOf(path);
    if (place !== null && parametersOf(place).includes(parameter)) return { path, place, parameter };
  }
  return null;
}

/** Throws AdapterError `adapter_wrong_shape` or `non_finite_weights`. */
export function readTensor(
  file: SafetensorsFile,
  name: string,
  wanted: { readonly shape: readonly number[]; readonly axes: string },
): Float32Array<ArrayBuffer> {
  const { shape } = file.tensors.get(name)!;
  if (shape.length !== wanted.shape.length || shape.some((size, i) => size !== wanted.shape[i])) {
    throw new AdapterError(
      "adapter_wrong_shape",
      `${weightsName}: ${name} is [${shape}], but the config's rank and the base ask for ${wanted.axes} = [${wanted.shape}]; train the adapter on this base, or give the config that belongs to it`,
    );
  }
  const values = file.readFloat32(name);
  const at = findNonFinite(values);
  if (at < 0) return values;
  throw new AdapterError(
    "non_finite_weights",
    `${weightsName}: ${name} holds ${values[at]} at ${at}; the file is damaged or its training diverged`,
  );
}
