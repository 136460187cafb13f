// The hyperparameters that a request may set: their bounds, defaults and what they are for.

import { defaultWindowTokens } from "../../finetuning/largest-window.ts";
import { type OptimizerName, optimizers } from "../../finetuning/optimizers/index.ts";
import type { OptimizerKind } from "../../finetuning/optimizers/optimizer.ts";
import { type ScheduleName, schedules } from "../../finetuning/schedules/index.ts";
import { namesOf, type SettingsTable } from "../../finetuning/settings.ts";
import { precisions } from "../../kernels/training/precision.ts";

const optimizerSettings = [
  ...new Set(Object.values<OptimizerKind>(optimizers).flatMap(({ defaults }) => Object.keys(defaults))),
];

/** By OpenAI's names where it has one. Defaults hold where no "auto" is computed below. */
export const hyperparameters = {
  n_epochs: {
    kind: "integer",
    default: 3,
    min: 1,
    max: 1000,
    help: "Times that every example is trained on",
  },
  batch_size: { kind: "integer", default: 8, min: 1, max: 256, help: "Examples of a step" },
  learning_rate_multiplier: {
    kind: "number",
    default: 1,
    min: 1e-6,
    max: 1e6,
    help: 'Times the learning rate of "auto"',
  },
  learning_rate: {
    kind: "number",
    default: 1e-3,
    min: 1e-9,
    max: 10,
    help: 'Instead of that of "auto"',
  },
  beta: {
    kind: "number",
    default: 0.1,
    min: 1e-6,
    max: 100,
    help: "Of dpo: a smaller one may leave the base farther",
  },
  schedule: {
    kind: "choice",
    default: "cosine",
    choices: namesOf<ScheduleName>(schedules),
    help: "How the learning rate falls after the warm-up",
  },
  warmup_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    max: 1_000_000,
    help: "In which the learning rate rises",
  },
  optimizer: {
    kind: "choice",
    default: "adamw",
    choices: namesOf<OptimizerName>(optimizers),
    help: "How gradients become steps",
  },
  optimizer_settings: {
    kind: "numbers",
    of: "number",
    names: optimizerSettings,
    default: {},
    min: 0,
    max: 1,
    help: "Those of the optimizer that shall differ from its own",
  },
  max_gradient_norm: {
    kind: "number",
    default: 1,
    min: 0,
    max: 1e6,
    help: "Gradients are scaled down to it; 0 leaves them",
  },
  max_skipped_steps: {
    kind: "integer",
    default: 5,
    min: 1,
    max: 1000,
    help: "Steps in a row whose loss is not finite, before the job pauses",
  },
  checkpoint_steps: {
    kind: "integer",
    default: 100,
    min: 1,
    max: 1_000_000,
    help: "Steps from one checkpoint to the next",
  },
  max_tokens: {
    kind: "integer",
    default: 8192,
    min: 2,
    max: 1_048_576,
    help: "Of a sequence; the base's context at most",
  },
  over_length: {
    kind: "choice",
    default: "refuse",
    choices: ["refuse", "truncate"],
    help: "What becomes of longer examples; truncate cuts their end off",
  },
  train_on_prompt: { kind: "flag", default: false, help: "Whether prompts are learned too" },
  pass_tokens: {
    kind: "integer",
    default: 512,
    min: 16,
    max: 65_536,
    help: "Of a forward and backward pass: more is faster and takes more memory",
  },
  window_tokens: {
    kind: "integer",
    default: defaultWindowTokens,
    min: 16,
    max: 1024,
    help: "Of a unit of work: fewer disturb running requests less",
  },
  precision: {
    kind: "choice",
    default: "float32",
    choices: precisions,
    help: "Of products with the base's matrices: int8 is faster, and rounds what is multiplied to 8 bits",
  },
} as const satisfies SettingsTable;

const otherRates = Object.entries<OptimizerKind>(optimizers)
  .filter(([, { learningRateFactor }]) => learningRateFactor !== 1)
  .map(
    ([name, { learningRateFactor: factor }]) => `; ${name}: ${factor === null ? "none" : `${factor} of it`}`,
  )
  .join("");

/** What "auto" means where it is more than the table's default. */
export const computed: Partial<Record<keyof typeof hyperparameters, string>> = {
  n_epochs: "6 for up to 500 examples, down to 1 for 3,000",
  batch_size: "8, or all examples",
  learning_rate: `the method's${otherRates}`,
  warmup_steps: "a tenth of all steps, at most 20",
  checkpoint_steps: "a twentieth of all steps, 8 to 200",
  max_tokens: "the base's context",
  window_tokens: `${defaultWindowTokens}, or what the base's shape and the memory for finetuning allow`,
};
