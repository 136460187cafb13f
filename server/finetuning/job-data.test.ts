import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { EncodingTurns } from "./encoding-turns.ts";
import { hashExamples, type JobDataSources, loadJobData } from "./job-data.ts";
import { fixtureJob } from "./job-fixture.ts";

test("a job goes on with the weights that it began on, and no others", async () => {
  const files = {
    get: () => {
      throw new Error("the files are read");
    },
    pathOf: () => "",
  };
  const sources = {
    files,
    encodings: new EncodingTurns(),
    model: { quantization: "int8" },
  } as unknown as JobDataSources;
  const load = loadJobData(sources);
  const { signal } = new AbortController();
  await assert.rejects(load(fixtureJob({ quantization: "none" }), signal), {
    code: "training_base_changed",
    message: /with --quantize none and the server now has --quantize int8/,
  });
  await assert.rejects(load(fixtureJob({ quantization: "int8" }), signal), /the files are read/);
});

test("the examples' hash is of all that they are, and other requests have their turns meanwhile", async () => {
  const tokenIds = Int32Array.from({ length: 2 ** 20 }, (_, index) => index);
  const examples = { tokenIds, weights: new Float32Array(2 ** 20), ends: Int32Array.of(2 ** 20) };
  let turns = 0;
  const counting = setInterval(() => turns++, 0);
  const found = await hashExamples(examples, examples);
  clearInterval(counting);
  const hash = createHash("sha256");
  for (const { ends, tokenIds, weights } of [examples, examples]) {
    for (const array of [ends, tokenIds, weights]) hash.update(`${array.length} `).update(array);
  }
  assert.equal(found, hash.digest("hex"));
  assert.ok(turns > 2, `${turns} turns`);
  const other = { ...examples, tokenIds: tokenIds.with(2 ** 19, 7) };
  assert.notEqual(await hashExamples(examples, other), found);
});
