import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { defaultTenant } from "../tenancy/tenant.ts";
import { loadTextParts } from "../text/load-text.ts";
import { TextModel } from "../text/text-model.ts";
import { EncodingTurns } from "./encoding-turns.ts";
import { hashExamples, type JobDataSources, loadJobData } from "./job-data.ts";
import { fixtureJob } from "./job-fixture.ts";
import { folder } from "./job-manager-fixture.ts";

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

test("a long file is read for its job while another tenant's is read, too", async (context) => {
  const directory = folder(context);
  const lines = { long: 300, short: 2 };
  const line = JSON.stringify({ prompt: "some words of a prompt", completion: "an answer" });
  for (const [name, count] of Object.entries(lines))
    writeFileSync(join(directory, name), Array(count).fill(line).join("\n"));
  const sources = {
    files: {
      get: (_owner: string, id: string) => ({ id, purpose: "fine-tune", format: "completion" }),
      pathOf: ({ id }: { readonly id: string }) => join(directory, id),
    },
    text: new TextModel(await loadTextParts(fileURLToPath(new URL("../../models/tiny", import.meta.url)))),
    encodings: new EncodingTurns({ turnMs: 0 }),
    model: { quantization: "none", eosTokenIds: [2, 0], vocabSize: 2048 },
  } as unknown as JobDataSources;
  const load = loadJobData(sources);
  const ended: string[] = [];
  const { signal } = new AbortController();
  const loads = Object.keys(lines).map(async (name) => {
    const tenant = { ...defaultTenant, id: name };
    const { training } = await load(fixtureJob({ tenant, trainingFile: name }), signal);
    ended.push(name);
    return training.ends.length;
  });
  assert.deepEqual(await Promise.all(loads), [300, 2]);
  assert.deepEqual(ended, ["short", "long"]);
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
