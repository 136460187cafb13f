// No setting is taken and then ignored: whatever a request sets changes what its job computes, takes or tells, or is
// refused by its field. Over the tables, so a new setting is tested the day it is added.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { type MethodName, methods } from "../../finetuning/methods/index.ts";
import type { Method } from "../../finetuning/methods/method.ts";
import type { ObjectiveName } from "../../finetuning/objectives/index.ts";
import { optimizers } from "../../finetuning/optimizers/index.ts";
import { type SettingKind, SettingsError, type SettingValue } from "../../finetuning/settings.ts";
import type { TrainingUnit } from "../../kernels/training/training-pass.ts";
import { openSmallKernel, randomExamples, runJob, smallStart } from "../../tests/training-job-fixture.ts";
import { loadTextParts } from "../text/load-text.ts";
import { TextModel } from "../text/text-model.ts";
import { encodeExamples } from "./encode-examples.ts";
import { hyperparameters } from "./hyperparameters.ts";
import { checkHyperparameters, encodingOf, resolveSpec } from "./job-hyperparameters.ts";
import { methodOf } from "./job-method.ts";

type Given = Readonly<Record<string, unknown>>;
type Request = {
  readonly adapter: Given;
  readonly hyperparameters?: Given;
  readonly objective?: ObjectiveName;
  readonly learningRate?: number; // beyond all that may be asked for
};

const model = { eosTokenIds: [2, 0], vocabSize: 2048 }; // of models/tiny
const directory = mkdtempSync(join(tmpdir(), "cotenant-settings-"));
let on: Awaited<ReturnType<typeof openSmallKernel>>;
let text: TextModel;

before(async () => {
  on = await openSmallKernel();
  text = new TextModel(await loadTextParts(fileURLToPath(new URL("../../models/tiny", import.meta.url))));
});
after(async () => {
  rmSync(directory, { recursive: true });
  await on.kernel.close();
});

/** All that anybody sees of a job. Throws SettingsError. */
async function traceOf(request: Request) {
  const { adapter, hyperparameters: given = {}, objective = "cross-entropy" } = request;
  const method = methodOf(adapter);
  const checked = checkHyperparameters(given, { path: "hyperparameters", method: method.name, objective });
  const asked = { path: "hyperparameters", method, objective, seed: 1, hyperparameters: checked };
  const examples = objective === "dpo" ? 4 : 8;
  const { spec } = resolveSpec({ ...asked, hyperparameters: { ...smallJob(adapter), ...checked } }, examples);
  const { learningRate = spec.learningRate } = request;
  const units: Pick<TrainingUnit, "kind" | "tokens">[] = [];
  const start = smallStart({ ...spec, learningRate }, { training: randomExamples(8, 3) });
  const events = await runJob(start, on, (_, { kind, tokens }) => {
    units.push({ kind, tokens });
    return false;
  });
  return { units, events, encoded: await encoded(encodingOf(checked, 1024), objective) };
}

/** Enough steps for all that happens now and then. */
function smallJob({ type }: Given) {
  return { n_epochs: type === "sparse" ? 6 : 3, batch_size: 2, window_tokens: 32 };
}

function encoded(encoding: ReturnType<typeof encodingOf>, objective: ObjectiveName) {
  const prompt = [{ role: "user", content: "Where is it?" }];
  const answer = (content: string) => [{ role: "assistant", content }];
  const long = answer("On its way since Monday, and still a week from you. ".repeat(4));
  const sides = { preferred_output: long, non_preferred_output: answer("No idea.") };
  const [format, example] =
    objective === "dpo"
      ? (["preference", { input: { messages: prompt }, ...sides }] as const)
      : (["chat", { messages: [...prompt, ...long] }] as const);
  const path = join(directory, "examples.jsonl");
  writeFileSync(path, JSON.stringify(example));
  return encodeExamples(path, format, { text, model, ...encoding }).catch(({ message }) => message);
}

/** Other values than the default, all of which are allowed. */
function others(name: string, kind: SettingKind): SettingValue[] {
  switch (kind.kind) {
    case "flag":
      return [!kind.default];
    case "choice":
      return kind.choices.filter((choice) => choice !== kind.default);
    case "choices":
      return [[kind.choices.find((choice) => !kind.default.includes(choice)) ?? kind.choices[0]!]];
    case "numbers":
      return kind.names.map((each) => ({ [each]: kind.of === "integer" ? 9 : 0.5 }));
    default:
      return chosen[name] ?? [halfOf(kind)];
  }
}

/** Where half of the default would come to the same on a job of some steps. */
const chosen: Readonly<Record<string, number[]>> = {
  batch_size: [4],
  rank: [12],
  eva_rho: [2],
  eva_tau: [0],
  adalora_first_share: [0.5],
  layers_per_step: [1],
  rewind_budget: [2],
  warmup_steps: [5],
  max_gradient_norm: [1e-3],
  max_skipped_steps: [1],
  checkpoint_steps: [3],
  max_tokens: [10],
  pass_tokens: [16],
  window_tokens: [16],
};

/** What another value of a setting takes on a base of two layers. */
const companions: Readonly<Record<string, Given>> = { layers: { layers_per_step: 1 } };

function halfOf({ kind, default: value, min, max }: Extract<SettingKind, { kind: "integer" | "number" }>) {
  const half = kind === "integer" ? Math.floor(value / 2) : value / 2;
  return half === value || half < min || half > max ? max : half;
}

const few = { target_modules: ["v_proj"] }; // for speed

/** What turns other settings on, or off. */
const switches: Readonly<Record<MethodName, readonly Given[]>> = {
  lora: [
    {},
    { initializer: "eva", rank: 10, ...few },
    { initializer: "eva", rank: 10, eva_rho: 2, ...few },
    { rank_allocation: "adalora", ...few },
    { layers: "ist", layers_per_step: 1, ...few },
    { layers: "lisa", layers_per_step: 1, ...few },
    { rank_pattern: { v_proj: 9 }, ...few },
  ],
  s2ft: [{}, { layers: "ist", layers_per_step: 1, ...few }, { layers: "lisa", layers_per_step: 1, ...few }],
  sparse: [
    {},
    { rewind: true, regrow_steps: 10, ...few },
    { rewind: true, rewind_at: 0.9, ...few },
    { regrow_steps: 0, ...few },
    { drop_rate: 0, ...few },
  ],
  mezo: [{}, { rank_pattern: { v_proj: 9 }, ...few }],
  "sparse-mezo": [{}, { share: 1 }, { rank_pattern: { v_proj: 9 }, ...few }],
};

type Outcome = "changes" | "refused" | "ignored";

const known = new Map<string, ReturnType<typeof traceOf>>(); // of what is changed in many ways

/** @param fields any of which a refusal may name */
async function outcomeOf(without: Request, request: Request, fields: readonly string[]): Promise<Outcome> {
  const key = JSON.stringify(without);
  try {
    const trace = await traceOf(request);
    const before = known.get(key) ?? traceOf(without);
    known.set(key, before);
    return isDeepStrictEqual(trace, await before) ? "ignored" : "changes";
  } catch (error) {
    assert.ok(error instanceof SettingsError, String(error));
    const { param } = error;
    const named = fields.some((field) => param.startsWith(field)); // also a part of it, and a setting of its own
    assert.ok(named, `${JSON.stringify(request)}: ${error.message}`);
    return "refused";
  }
}

for (const [type, { settings }] of Object.entries(methods) as [MethodName, Method][]) {
  test(`${type}: each setting changes the job, or is refused where others leave it nothing to do`, async () => {
    for (const [name, kind] of Object.entries(settings)) {
      const outcomes = new Set<Outcome>();
      for (const given of switches[type].filter((each) => !(name in each))) {
        for (const value of others(name, kind)) {
          const changed = { ...given, ...companions[name], [name]: value };
          const fields = Object.keys(changed).map((field) => `method.adapter.${field}`);
          const adapter = { type, ...given };
          const outcome = await outcomeOf({ adapter }, { adapter: { type, ...changed } }, fields);
          assert.notEqual(outcome, "ignored", `${name} in ${JSON.stringify(changed)}`);
          outcomes.add(outcome);
        }
      }
      if (name === "layers_per_step") continue; // a base of two layers leaves it one value: methods.test.ts
      assert.ok(outcomes.has("changes"), `${name} never does anything`);
    }
  });

  for (const objective of ["cross-entropy", "dpo"] as const) {
    test(`${type}, ${objective}: each hyperparameter changes the job, or is refused where it has nothing to do`, async () => {
      const adapter = { type };
      for (const [name, kind] of Object.entries(hyperparameters)) {
        if (name === "optimizer_settings") continue; // below
        for (const value of others(name, kind)) {
          const given = name === "over_length" ? { max_tokens: 30 } : {};
          const skipping = name === "max_skipped_steps" && { learningRate: 1e300 };
          const without = { adapter, objective, hyperparameters: given, ...skipping };
          const request = { ...without, hyperparameters: { ...given, [name]: value } };
          const outcome = await outcomeOf(without, request, [`hyperparameters.${name}`]);
          assert.notEqual(outcome, "ignored", `${name}: ${value}`);
        }
      }
    });
  }
}

test("each setting of an optimizer changes the job", async () => {
  for (const [optimizer, { defaults }] of Object.entries(optimizers)) {
    for (const name of Object.keys(defaults)) {
      const given = (settings: Given) => ({ optimizer, optimizer_settings: settings, learning_rate: 1e-3 });
      const without = { adapter: { type: "lora" }, hyperparameters: given({}) };
      const request = { ...without, hyperparameters: given({ [name]: 0.5 }) };
      assert.equal(await outcomeOf(without, request, []), "changes", `${optimizer} ${name}`);
    }
  }
});
