import assert from "node:assert/strict";
import { test } from "node:test";
import { type JobRequest, type JobSurroundings, jobOf } from "./job-request.ts";

const request: JobRequest = {
  model: "tiny",
  trainingFile: "file-1",
  validationFile: null,
  suffix: null,
  seed: null,
  metadata: null,
  type: "supervised",
  hyperparameters: {},
  hyperparametersPath: "hyperparameters",
  adapter: {},
};

test("a base that cannot be trained on is refused before anything is read", async () => {
  const problem = "layers of this base differ in their parts";
  const surroundings = { baseName: "tiny", model: { untrainable: problem } } as JobSurroundings;
  await assert.rejects(jobOf(request, surroundings), {
    code: "training_unsupported",
    message: problem,
    param: "model",
  });
});

test("a precision that the base's device does not train in is refused by its field", async () => {
  const model = { untrainable: null, device: "webgpu", trainingPrecisions: ["float32"] };
  const surroundings = { baseName: "tiny", model } as unknown as JobSurroundings;
  const inIntegers = { ...request, hyperparameters: { precision: "int8" } };
  await assert.rejects(jobOf(inIntegers, surroundings), {
    code: "training_settings_invalid",
    message: "the base is on webgpu, which trains in float32 alone; leave it out",
    param: "hyperparameters.precision",
  });
});
