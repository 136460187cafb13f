// (IA)3, arXiv 2205.05638: learned vectors times the outputs of projections, or times the input of the last one of the
// MLP, which is the output of `up` times the activated `gate`, so that scaling `up` is the same.

import { modulesOf, type Projection, type ScaleModule } from "../../../kernels/adapter.ts";
import { AdapterError } from "../../../kernels/errors.ts";
import { type ProjectionPlace, widthsOf } from "../module-places.ts";
import { ModuleSet } from "../module-set.ts";
import { configName, type PeftFields } from "./fields.ts";
import { patternMatcher } from "./target-modules.ts";
import { groupProjections, type PeftMethod, type StoredModule, weightsName } from "./tensors.ts";

export const ia3: PeftMethod = {
  fields: ["exclude_modules", "feedforward_modules", "init_ia3_weights", "target_modules"],

  decode(adapter, modules) {
    const { fields, targets } = adapter;
    const isFeedforward = feedforwardMatcher(fields);
    const ofOutputs = new ModuleSet(targets);
    const ofInputs = new ModuleSet(targets);
    for (const module of groupProjections(adapter, ["ia3_l"])) {
      const { path, place } = module;
      const { in: inWidth, out } = widthsOf(place, targets);
      if (isFeedforward(path)) {
        const scale = module.read("ia3_l", [1, inWidth], "[1, in]");
        ofInputs.addScale(placeBefore(module), { path, scale, shift: null });
      } else {
        const scale = module.read("ia3_l", [out, 1], "[out, 1]");
        ofOutputs.addScale(place, { path, scale, shift: null });
      }
    }
    const inputs = modulesOf(ofInputs.adapter, "scale");
    const outputs = modulesOf(ofOutputs.adapter, "scale");
    for (const module of outputs) {
      const next = inputs.find((other) => isSameTarget(module, other));
      const scale =
        next === undefined ? module.scale : module.scale.map((value, i) => value * next.scale[i]!);
      modules.add(weightsName, { ...module, scale });
    }
    for (const module of inputs) {
      if (!outputs.some((other) => isSameTarget(module, other))) modules.add(weightsName, module);
    }
  },
};

function isSameTarget(one: ScaleModule, other: ScaleModule): boolean {
  return one.layer === other.layer && one.projection === other.projection;
}

/** PEFT's _check_target_module_feedforward: a name matches as an ending, even of half a word. */
function feedforwardMatcher(fields: PeftFields): (path: string) => boolean {
  const value = fields.raw("feedforward_modules");
  if (typeof value === "string") return patternMatcher("feedforward_modules", value);
  const names = fields.strings("feedforward_modules");
  return (path) => names.some((name) => path.endsWith(name));
}

const producers: Partial<Record<Projection, Projection>> = { down: "up" };

/** The projection whose outputs are this one's inputs, one by one. */
function placeBefore({ path, place }: StoredModule<ProjectionPlace>): ProjectionPlace {
  const producer = producers[place.projections[0]!];
  if (producer !== undefined) return { ...place, projections: [producer] };
  throw new AdapterError(
    "adapter_feature_unsupported",
    `${configName}: feedforward_modules covers ${path}, whose inputs cannot be scaled; down_proj's can: train the others on their outputs`,
  );
}
