// Sparse finetuning of the base's own matrices by gradients: a fixed number of entries of each matrix moves, and the
// entries that matter least are exchanged for better ones on the way (SpIEL, arXiv 2401.16405), or chosen once by a
// first, larger phase and rewound (LT-SFT, arXiv 2110.07560).

import {
  type AdapterTargets,
  type DecodedAdapter,
  modulesOf,
  type Projection,
} from "../../kernels/adapter.ts";
import { mix, randomAt } from "../../kernels/sampling/random.ts";
import { updateUnit } from "../../kernels/training/training-pass.ts";
import {
  checkSettings,
  idleWith,
  type Settings,
  SettingsError,
  type SettingsOf,
  type SettingsTable,
} from "../settings.ts";
import { checkContinued, kept, keptNames, moduleNames, projectionOf } from "./low-rank/low-rank-settings.ts";
import type { Method, MethodContext } from "./method.ts";
import type { SparsePlan } from "./sparse/sparse-plan.ts";
import { SparseStepper } from "./sparse/sparse-stepper.ts";
import { SparseTrainable, type Support } from "./sparse/sparse-trainable.ts";

const idleWithoutExchanges = idleWith("regrow_steps", 0);
const idleWithoutDrops = idleWith("drop_rate", 0);
const idleWithoutRewind = idleWith("rewind", false);

const settingsTable = {
  density: {
    kind: "number",
    default: 0.05, // about the numbers of LoRA's default rank
    min: 1e-6,
    max: 0.5,
    help: `Share of each matrix' entries that is trained, at least one; ${kept}`,
  },
  target_modules: {
    kind: "choices",
    default: moduleNames,
    choices: moduleNames,
    help: `Projections whose matrices are trained; ${kept}`,
  },
  regrow_steps: {
    kind: "integer",
    default: 20,
    min: 0,
    max: 100_000,
    help: "Steps between two exchanges of entries; 0 = they stay as they were drawn",
    idle: idleWithoutDrops,
  },
  growth_steps: {
    kind: "integer",
    default: 5,
    min: 1,
    max: 1000,
    help: "Steps before each exchange in which gradients of candidates are summed; at most regrow_steps",
    idle: (settings: Settings) => idleWithoutExchanges(settings) ?? idleWithoutDrops(settings),
  },
  drop_rate: {
    kind: "number",
    default: 0.2,
    min: 0,
    max: 1,
    help: "Share of the entries in the first exchange: those that moved least go. It falls in a straight line to none at the end",
    idle: idleWithoutExchanges,
  },
  rewind: {
    kind: "flag",
    default: false,
    help: "In place of LT-SFT's dense first phase: train rewind_budget times as many entries first, exchanges included, keep the density's share of them that changed most, set those back to the base, and train them alone",
  },
  rewind_budget: {
    kind: "number",
    default: 4,
    min: 1,
    max: 100,
    help: "Entries of the first phase, in times of the density; with rewind",
    idle: idleWithoutRewind,
  },
  rewind_at: {
    kind: "number",
    default: 0.5,
    min: 0.01,
    max: 0.99,
    help: "Share of the steps that the first phase takes; with rewind",
    idle: idleWithoutRewind,
  },
} as const satisfies SettingsTable;

type SparseSettings = SettingsOf<typeof settingsTable>;
type Place = Omit<Support, "indices"> & {
  readonly size: number;
  readonly first: number;
  readonly budget: number;
};

export const sparse: Method = {
  summary: "Single entries of the base's matrices, by gradients (SpIEL, LT-SFT)",
  settings: settingsTable,
  learningRate: 1e-2,
  backward: true,
  precisions: ["float32"],
  open(context) {
    const { from, spec, targets } = context;
    const settings = checked(spec.method.settings, from);
    const places = asked(settings, targets);
    const none = new Uint32Array(0); // entries are drawn when the job is prepared
    const trainable = new SparseTrainable(
      from === null ? places.map((place) => ({ ...place, indices: none })) : [],
    );
    if (from !== null) {
      trainable.begin(modulesOf(from, "sparse").toSorted((one, other) => one.layer - other.layer));
    }
    const budgets = places.map(({ budget }) => budget);
    const plan = planOf(settings, context);
    return {
      trainable,
      stepper: new SparseStepper(context, { trainable, plan, budgets }),
      /** Nothing is added at first: the base itself. */
      *prepare() {
        if (from !== null) return;
        const drawn: Support[] = [];
        for (const [index, place] of places.entries()) {
          yield updateUnit(() => void drawn.push(drawnIn(place, mix(spec.seed + mix(index)))));
        }
        trainable.replace(drawn);
      },
    };
  },
  size(given, { targets, from }) {
    const settings = checked(given, from);
    const trained =
      from === null
        ? asked(settings, targets).reduce((sum, { first }) => sum + first, 0)
        : modulesOf(from, "sparse").reduce((sum, { indices }) => sum + indices.length, 0);
    const ofLayer = Object.values(targets.shapes).reduce((sum, shape) => sum + shape.in * shape.out, 0);
    const growing = settings.regrow_steps > 0 && settings.drop_rate > 0;
    // Beside each value its index, its place in order and its last exchange's value, and twice two numbers for each candidate; while
    // candidates are chosen, one layer's gradients and a copy of the largest.
    const candidates = growing ? Math.ceil(4 * settings.drop_rate * trained) : 0;
    const frozen = 3 * trained + candidates + (growing ? 2 * ofLayer : 0);
    return { trained, frozen, kept: 2 * trained + candidates, preparing: 0 };
  },
  kept(given, { targets, from }) {
    const { density, target_modules } = checkSettings(settingsTable, given, "method.adapter");
    const modules = modulesOf(from, "sparse");
    const sizes = modules.map(({ projection }) => sizeOf(targets, projection));
    const isAsGiven = modules.every(({ indices }, at) => indices.length === budgetOf(density, sizes[at]!));
    const entries = modules.reduce((sum, { indices }) => sum + indices.length, 0);
    const share = entries / sizes.reduce((sum, size) => sum + size, 0);
    return {
      density: isAsGiven ? null : `about ${share.toPrecision(3)}`,
      target_modules: keptNames(target_modules, from),
    };
  },
};

/** @throws SettingsError for settings that do not go together, or not with `from` */
function checked(given: unknown, from: DecodedAdapter | null): SparseSettings {
  const settings = checkSettings(settingsTable, given, "method.adapter");
  if (from !== null) checkContinued(from, "sparse", "sparse");
  const { growth_steps, regrow_steps, rewind } = settings;
  if (regrow_steps > 0 && growth_steps > regrow_steps) {
    throw new SettingsError(
      "method.adapter.growth_steps",
      `${growth_steps} is more than regrow_steps, which is ${regrow_steps}; give at most that`,
    );
  }
  if (rewind && from !== null) {
    throw new SettingsError(
      "method.adapter.rewind",
      "rewinding sets entries back to the base: leave it out, or start from the base",
    );
  }
  return settings;
}

/** @throws SettingsError for a rewind that no step would follow */
function planOf(settings: SparseSettings, { steps }: MethodContext): SparsePlan {
  const { rewind, rewind_at } = settings;
  if (rewind && steps < 2) {
    throw new SettingsError(
      "method.adapter.rewind",
      "it takes two steps at least, and the job has one; leave it out, or lower batch_size",
    );
  }
  return {
    steps,
    regrowSteps: settings.regrow_steps,
    growthSteps: settings.growth_steps,
    dropRate: settings.drop_rate,
    rewindStep: rewind ? Math.min(steps - 1, Math.max(1, Math.round(rewind_at * steps))) : 0,
  };
}

function asked(
  { density, target_modules, rewind, rewind_budget }: SparseSettings,
  targets: AdapterTargets,
): Place[] {
  const names = moduleNames.filter((name) => target_modules.includes(name));
  return Array.from({ length: targets.layers }, (_, layer) =>
    names.map((name) => {
      const projection = projectionOf(name);
      const size = sizeOf(targets, projection);
      const budget = budgetOf(density, size);
      const first = rewind ? Math.min(size, Math.round(budget * rewind_budget)) : budget;
      return { layer, projection, size, first, budget };
    }),
  ).flat();
}

function sizeOf({ shapes }: AdapterTargets, projection: Projection): number {
  return shapes[projection].in * shapes[projection].out;
}

/** Entries of a matrix. */
function budgetOf(density: number, size: number): number {
  return Math.max(1, Math.round(density * size));
}

/** A matrix' entries to begin with, drawn at random. */
function drawnIn({ layer, projection, size, first }: Place, seed: number): Support {
  const isDrawn = new Uint8Array(size);
  for (let found = 0, draw = 0; found < first; draw++) {
    const index = Math.floor(randomAt(seed, draw) * size);
    found += 1 - isDrawn[index]!;
    isDrawn[index] = 1;
  }
  const indices = new Uint32Array(first);
  for (let index = 0, at = 0; index < size; index++) if (isDrawn[index] === 1) indices[at++] = index;
  return { layer, projection, indices };
}
