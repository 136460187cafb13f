// What a request sets of the hyperparameters, checked, and how "auto" is resolved: from the number of examples and the
// method. Everything ends in a TrainingSpec with nothing left open.

import type { TrainingSpec } from "../../finetuning/job.ts";
import { type MethodName, methods } from "../../finetuning/methods/index.ts";
import type { Method } from "../../finetuning/methods/method.ts";
import type { ObjectiveName } from "../../finetuning/objectives/index.ts";
import { optimizers } from "../../finetuning/optimizers/index.ts";
import { checkSettings, type Settings, SettingsError, type SettingsOf } from "../../finetuning/settings.ts";
import { hyperparameters } from "./hyperparameters.ts";

type Hyperparameters = SettingsOf<typeof hyperparameters>;

export type Asked = {
  readonly path: string; // of the hyperparameters in the request
  readonly method: { readonly name: MethodName; readonly settings: Settings };
  readonly objective: ObjectiveName;
  readonly seed: number;
  /** Checked by `checkHyperparameters`; what is not there is "auto". */
  readonly hyperparameters: Partial<Hyperparameters>;
};

/** Throws SettingsError for what is unknown, out of range, does not go together or has no effect. */
export function checkHyperparameters(
  given: Readonly<Record<string, unknown>>,
  { path, method, objective }: Pick<Asked, "path" | "objective"> & { readonly method: MethodName },
): Partial<Hyperparameters> {
  const set = Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== "auto" && value !== undefined), // null is what JSON makes of NaN
  );
  const unknown = Object.keys(given).filter((name) => !Object.hasOwn(hyperparameters, name));
  const checked = checkSettings(hyperparameters, { ...set, ...pick(given, unknown) }, path);
  const asked: Partial<Hyperparameters> = pick(checked, Object.keys(set));
  if (asked.learning_rate !== undefined && asked.learning_rate_multiplier !== undefined) {
    throw new SettingsError(`${path}.learning_rate_multiplier`, "is given beside learning_rate; give one");
  }
  for (const [name, reason] of Object.entries(idleIn(method, objective))) {
    if (Object.hasOwn(asked, name)) throw new SettingsError(`${path}.${name}`, `${reason}; leave it out`);
  }
  checkOptimizer(asked, path);
  return asked;
}

/** Hyperparameters without effect, and why. */
function idleIn(name: MethodName, objective: ObjectiveName): Partial<Record<keyof Hyperparameters, string>> {
  const { backward, precisions }: Method = methods[name];
  const noOptimizer = `${name} has no gradients and no optimizer`;
  return {
    ...(!backward && { optimizer: noOptimizer, optimizer_settings: noOptimizer }),
    ...(precisions.length === 1 && { precision: `${name} computes in ${precisions[0]} alone` }),
    ...(objective === "dpo"
      ? { train_on_prompt: "both sides of a preference have the same prompt, so it is never learned" }
      : { beta: "it belongs to the method dpo" }),
  };
}

function checkOptimizer(asked: Partial<Hyperparameters>, path: string): void {
  const name = asked.optimizer ?? hyperparameters.optimizer.default;
  const known = Object.keys(optimizers[name].defaults);
  const foreign = Object.keys(asked.optimizer_settings ?? {}).find((each) => !known.includes(each));
  if (foreign !== undefined) {
    throw new SettingsError(
      `${path}.optimizer_settings.${foreign}`,
      `${name} has no such setting; it has ${known.join(", ")}`,
    );
  }
  for (const [setting, value] of Object.entries(asked.optimizer_settings ?? {})) {
    const field = `${path}.optimizer_settings.${setting}`;
    if (/^beta\d$/.test(setting) && value === 1) throw new SettingsError(field, "must be below 1");
    if (setting === "epsilon" && value === 0) throw new SettingsError(field, "must be above 0");
  }
  if (optimizers[name].learningRateFactor === null && asked.learning_rate === undefined) {
    const problem = `${name} has no learning rate of its own, as its steps are as long as the gradients; give learning_rate`;
    throw new SettingsError(`${path}.optimizer`, problem);
  }
}

const mostSteps = 1_000_000; // each leaves a row and an event

/** How files are read, which must be known before their examples can be counted. */
export function encodingOf(asked: Partial<Hyperparameters>, maxContext: number) {
  return {
    maxTokens: Math.min(asked.max_tokens ?? maxContext, maxContext),
    overLength: asked.over_length ?? hyperparameters.over_length.default,
    trainOnPrompt: asked.train_on_prompt ?? hyperparameters.train_on_prompt.default,
  };
}

/** The spec, the steps that it comes to, and the hyperparameters that it was made of, for the answers. */
export type Resolved = {
  readonly spec: TrainingSpec;
  readonly steps: number;
  readonly resolved: Readonly<Record<string, unknown>>;
};

/** What is known of them before the examples are: "auto" stands where nothing was given. */
export function unresolved(asked: Asked): Readonly<Record<string, unknown>> {
  const open = Object.fromEntries(Object.keys(hyperparameters).map((name) => [name, "auto"]));
  return withoutIdle({ ...open, ...asked.hyperparameters }, asked);
}

/** For the answers: what has no effect is not told either. */
export function withoutIdle(
  settings: Readonly<Record<string, unknown>>,
  { method, objective }: Pick<Asked, "method" | "objective">,
): Readonly<Record<string, unknown>> {
  const idle = idleIn(method.name, objective);
  return Object.fromEntries(Object.entries(settings).filter(([name]) => !Object.hasOwn(idle, name)));
}

/** Throws SettingsError for too many steps, and for a warm-up that is longer than they are. */
export function resolveSpec(asked: Asked, examples: number): Resolved {
  const { path, hyperparameters: given } = asked;
  const { epochs, batchSize, steps } = sizesOf(asked, examples);
  if (steps > mostSteps) {
    const problem = `${epochs} epochs of ${examples} examples in batches of ${batchSize} are ${steps} steps, more than the ${mostSteps} of a job; lower it, or raise batch_size`;
    throw new SettingsError(`${path}.n_epochs`, problem);
  }
  if (given.warmup_steps !== undefined && given.warmup_steps > steps) {
    throw new SettingsError(
      `${path}.warmup_steps`,
      `${given.warmup_steps} is more than the job's ${steps} steps`,
    );
  }
  return specOf(asked, examples);
}

function sizesOf({ hyperparameters: given }: Asked, examples: number) {
  const epochs = given.n_epochs ?? autoEpochs(examples);
  const batchSize = Math.min(given.batch_size ?? hyperparameters.batch_size.default, examples);
  return { epochs, batchSize, steps: epochs * Math.ceil(examples / batchSize) };
}

/** Whatever the number of steps comes to. */
export function specOf(asked: Asked, examples: number): Resolved {
  const { method, objective, seed, hyperparameters: given } = asked;
  const { epochs, batchSize, steps } = sizesOf(asked, examples);
  const defaults = checkSettings(hyperparameters, {}, "");
  const { learningRate: methodsRate }: Method = methods[method.name];
  const multiplier = given.learning_rate_multiplier ?? 1;
  const optimizer = given.optimizer ?? hyperparameters.optimizer.default;
  const ownRate = methodsRate * (optimizers[optimizer].learningRateFactor ?? 1); // without a factor a rate is given
  const all = { ...defaults, ...given };
  const spec: TrainingSpec = {
    method,
    objective: { name: objective, beta: all.beta },
    optimizer: {
      name: optimizer,
      settings: { ...optimizers[optimizer].defaults, ...all.optimizer_settings },
    },
    schedule: all.schedule,
    warmupSteps: given.warmup_steps ?? Math.min(20, Math.floor(steps / 10)),
    learningRate: given.learning_rate ?? ownRate * multiplier,
    epochs,
    batchSize,
    passTokens: all.pass_tokens,
    windowTokens: all.window_tokens,
    precision: all.precision,
    maxGradientNorm: all.max_gradient_norm,
    maxSkippedSteps: all.max_skipped_steps,
    checkpointSteps: given.checkpoint_steps ?? autoCheckpointSteps(steps),
    seed,
  };
  return {
    spec,
    steps,
    resolved: {
      n_epochs: epochs,
      batch_size: batchSize,
      learning_rate_multiplier: given.learning_rate === undefined ? multiplier : spec.learningRate / ownRate,
      learning_rate: spec.learningRate,
      beta: spec.objective.beta,
      schedule: spec.schedule,
      warmup_steps: spec.warmupSteps,
      optimizer,
      optimizer_settings: spec.optimizer.settings,
      max_gradient_norm: spec.maxGradientNorm,
      max_skipped_steps: spec.maxSkippedSteps,
      checkpoint_steps: spec.checkpointSteps,
      pass_tokens: spec.passTokens,
      window_tokens: spec.windowTokens,
      precision: spec.precision,
    },
  };
}

/** Small files are read more often. */
function autoEpochs(examples: number): number {
  return Math.max(1, Math.min(6, Math.ceil(3000 / examples)));
}

/** About twenty of a job, and never much work between two. */
function autoCheckpointSteps(steps: number): number {
  return Math.max(8, Math.min(200, Math.ceil(steps / 20)));
}

function pick<Value extends object>(from: Value, names: readonly string[]): Partial<Value> {
  return Object.fromEntries(Object.entries(from).filter(([name]) => names.includes(name))) as Partial<Value>;
}
