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
