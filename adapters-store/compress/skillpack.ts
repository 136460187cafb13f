// Chooses a codec for each group of modules (GraftLLM's SkillPack): the combination with the least weight error
// among those that fit a size.

import type { AdapterModule } from "../../kernels/adapter.ts";
import type { Encoding } from "../codecs/encode-floats.ts";
import { decodeAgain, encodeModule } from "../container/encode-module.ts";
import { type GroupEncodings, groupOf, type ModuleGroup, moduleGroups } from "./module-groups.ts";
import { type PackSource, packedBytes } from "./pack.ts";
import { moduleError, relativeError } from "./weight-error.ts";

const encodingsTried: readonly Encoding[] = [
  { codec: "f16" },
  { codec: "int8", groupSize: 64 },
  { codec: "int4", groupSize: 32 },
  ...[0.5, 0.3, 0.2, 0.1, 0.05, 0.02].map((density): Encoding => ({ codec: "ternary", density })),
];

/** One encoding of one group, measured. */
type Choice = { readonly encoding: Encoding; readonly bytes: number; readonly squaredError: number };

/** Null where not even the smallest combination fits. */
export function chooseEncodings(source: PackSource, budgetBytes: number): GroupEncodings | null {
  const choices = moduleGroups.map((group) => {
    const modules = source.adapter.modules.filter((module) => groupOf(module) === group);
    return measureChoices(modules, group, source);
  });
  const combinations = choices
    .reduce<Choice[][]>(
      (combined, own) => combined.flatMap((before) => own.map((choice) => [...before, choice])),
      [[]],
    )
    .map((combination) => ({
      encodings: Object.fromEntries(moduleGroups.map((group, i) => [group, combination[i]!.encoding])),
      bytes: combination.reduce((sum, { bytes }) => sum + bytes, 0),
      squaredError: combination.reduce((sum, { squaredError }) => sum + squaredError, 0),
    }))
    .sort((one, other) => one.squaredError - other.squaredError);
  let overheadBytes = 0; // of manifest and padding, known once a container was written
  for (const { encodings, bytes } of combinations) {
    if (bytes + overheadBytes > budgetBytes) continue;
    const chosen = encodings as GroupEncodings;
    const size = packedBytes(source, chosen);
    if (size <= budgetBytes) return chosen;
    overheadBytes = Math.max(overheadBytes, Math.floor((size - bytes) * 0.95)); // it varies with the codecs
  }
  return null;
}

function measureChoices(
  modules: readonly AdapterModule[],
  group: ModuleGroup,
  { base }: PackSource,
): readonly Choice[] {
  const tried = group === "whole" || modules.length === 0 ? encodingsTried.slice(0, 1) : encodingsTried;
  return tried.map((encoding) => {
    const encoded = modules.map((module) => encodeModule(module, encoding, base.targets));
    const errors = modules.map((module, i) => moduleError(module, decodeAgain(module, encoded[i]!)));
    return {
      encoding,
      bytes: encoded
        .flatMap(({ tensors }) => Object.values(tensors))
        .reduce((sum, { bytes }) => sum + bytes.length, 0),
      // Relative, since a group whose weights are small is not less important for that.
      squaredError: relativeError(errors) ** 2,
    };
  });
}
