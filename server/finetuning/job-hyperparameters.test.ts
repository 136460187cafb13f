import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type MethodName, methods } from "../../finetuning/methods/index.ts";
import { optimizers } from "../../finetuning/optimizers/index.ts";
import type { OptimizerKind } from "../../finetuning/optimizers/optimizer.ts";
import {
  type Asked,
  checkHyperparameters,
  encodingOf,
  resolveSpec,
  unresolved,
} from "./job-hyperparameters.ts";

const asked = (
  hyperparameters: Asked["hyperparameters"],
  objective: Asked["objective"] = "cross-entropy",
): Asked => ({
  path: "p",
  method: { name: "lora", settings: {} },
  objective,
  seed: 1,
  hyperparameters,
});

const check = (given: Readonly<Record<string, unknown>>, objective: Asked["objective"] = "cross-entropy") =>
  checkHyperparameters(given, { path: "p", method: "lora", objective });

test("whatever the number of examples, auto makes a spec that trains each of them", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1e6 }), (examples) => {
      const { spec } = resolveSpec(asked({}), examples);
      const steps = spec.epochs * Math.ceil(examples / spec.batchSize);
      assert.ok(spec.epochs >= 1 && spec.batchSize >= 1 && spec.batchSize <= examples);
      assert.ok(spec.warmupSteps < steps && spec.checkpointSteps <= 200);
      assert.equal(spec.learningRate, methods.lora.learningRate);
    }),
  );
});

test("the learning rate is the method's times the multiplier, or the one that is given; answers tell both", () => {
  const doubled = resolveSpec(asked(check({ learning_rate_multiplier: 2 })), 10);
  assert.equal(doubled.spec.learningRate, 2 * methods.lora.learningRate);
  const own = resolveSpec(asked(check({ learning_rate: 0.5 })), 10);
  assert.equal(own.spec.learningRate, 0.5);
  assert.equal(own.resolved.learning_rate_multiplier, 0.5 / methods.lora.learningRate);
});

test("auto's learning rate is the method's for the optimizer; one that has none is told to be given one", () => {
  for (const [optimizer, { learningRateFactor }] of Object.entries<OptimizerKind>(optimizers)) {
    const given = { optimizer, learning_rate: 0.25 };
    assert.equal(resolveSpec(asked(check(given)), 10).spec.learningRate, 0.25);
    if (learningRateFactor === null) {
      for (const more of [{}, { learning_rate_multiplier: 2 }, { learning_rate: "auto" }]) {
        assert.throws(() => check({ optimizer, ...more }), {
          param: "p.optimizer",
          message: /no learning rate of its own.*; give learning_rate$/,
        });
      }
      continue;
    }
    const { spec, resolved } = resolveSpec(asked(check({ optimizer, learning_rate_multiplier: 2 })), 10);
    assert.equal(spec.learningRate, 2 * learningRateFactor * methods.lora.learningRate);
    assert.equal(resolved.learning_rate_multiplier, 2);
  }
  // As its authors advise (arXiv 2302.06675, section 5).
  const factor = optimizers.lion.learningRateFactor!;
  assert.ok(factor >= 0.1 && factor <= 1 / 3);
});

test("an optimizer's settings are its own with those that are given, and no other's", () => {
  const given = check({ optimizer: "lion", optimizer_settings: { beta2: 0.5 } });
  const { spec } = resolveSpec(asked(given), 10);
  assert.deepEqual(spec.optimizer, { name: "lion", settings: { beta1: 0.9, beta2: 0.5, weightDecay: 0 } });
  assert.throws(() => check({ optimizer: "lion", optimizer_settings: { epsilon: 0.1 } }), {
    code: "training_settings_invalid",
    message: /^p\.optimizer_settings\.epsilon: lion has no such setting; it has beta1, beta2, weightDecay$/,
  });
});

test("auto is as if it were not there; what is unknown is not, whatever its value, and null is what JSON makes of NaN", () => {
  assert.deepEqual(check({ n_epochs: "auto", beta: "auto" }), {});
  assert.throws(() => check({ epochs: "auto" }), { code: "training_settings_invalid", param: "p.epochs" });
  for (const n_epochs of [0, 1.5, Number.NaN, Infinity, "3", true, [], {}, null]) {
    assert.throws(() => check({ n_epochs }), { code: "training_settings_invalid" }, String(n_epochs));
  }
  assert.equal(resolveSpec(asked(check({ beta: 0.3 }, "dpo"), "dpo"), 4).spec.objective.beta, 0.3);
});

test("betas are below 1 and epsilon is above 0", () => {
  for (const [optimizer_settings, param] of [
    [{ beta1: 1 }, "beta1"],
    [{ beta2: 1 }, "beta2"],
    [{ epsilon: 0 }, "epsilon"],
  ] as const) {
    const refused = { code: "training_settings_invalid", param: `p.optimizer_settings.${param}` };
    assert.throws(() => check({ optimizer_settings }), refused);
  }
  check({ optimizer_settings: { beta1: 0, beta2: 0.999999, epsilon: 1e-12, weightDecay: 1 } });
});

test("a job's steps, and a warm-up beyond them, are bounded", () => {
  assert.throws(() => resolveSpec(asked(check({ n_epochs: 1000, batch_size: 1 })), 1001), {
    param: "p.n_epochs",
    message: /are 1001000 steps, more than the 1000000 of a job/,
  });
  resolveSpec(asked(check({ n_epochs: 1000, batch_size: 1 })), 1000);
  const warm = (warmup_steps: number) =>
    resolveSpec(asked(check({ n_epochs: 2, batch_size: 4, warmup_steps })), 8);
  assert.equal(warm(4).spec.warmupSteps, 4);
  assert.throws(() => warm(5), { param: "p.warmup_steps", message: /5 is more than the job's 4 steps/ });
});

test("what has no effect with a method is refused, and answers do not tell of it", () => {
  for (const method of Object.keys(methods) as MethodName[]) {
    for (const objective of ["cross-entropy", "dpo"] as const) {
      const isForwardOnly = method === "mezo" || method === "sparse-mezo";
      const of = { ...asked({}, objective), method: { name: method, settings: {} } };
      const told = Object.keys(unresolved(of));
      for (const [field, value, isIdle] of [
        ["optimizer", "lion", isForwardOnly],
        ["optimizer_settings", { beta1: 0.5 }, isForwardOnly],
        ["beta", 1, objective !== "dpo"],
        ["train_on_prompt", true, objective === "dpo"],
        ["n_epochs", 2, false],
      ] as const) {
        const refuse = () => checkHyperparameters({ [field]: value }, { path: "p", method, objective });
        if (isIdle) assert.throws(refuse, { code: "training_settings_invalid", param: `p.${field}` });
        else refuse();
        assert.equal(told.includes(field), !isIdle, `${method}, ${objective}, ${field}`);
      }
    }
  }
});

test("sequences are at most as long as the base's context", () => {
  assert.equal(encodingOf({}, 1024).maxTokens, 1024);
  assert.equal(encodingOf(check({ max_tokens: 4096 }), 1024).maxTokens, 1024);
  assert.equal(encodingOf(check({ max_tokens: 64 }), 1024).maxTokens, 64);
});
