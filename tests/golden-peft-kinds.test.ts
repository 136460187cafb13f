// Every kind of adapter that real PEFT saved, decoded by us and run by the slow reference, against the log-probabilities
// of transformers + PEFT. See golden-peft-kinds/README.md.

import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { decodeAdapter } from "../adapters-store/decode-adapter.ts";
import { claimFiles } from "../adapters-store/formats/index.ts";
import { peftMethods } from "../adapters-store/formats/peft/methods.ts";
import { type DecodedAdapter, moduleArrays } from "../kernels/adapter.ts";
import { adapterTargets } from "../kernels/model-family.ts";
import { referenceForward } from "../kernels/reference/forward.ts";
import { distance, logSoftmax } from "./golden/golden-case.ts";
import { openReference } from "./golden/reference-model.ts";

/** On log-probabilities; PEFT computed them in float32. */
const tolerance = 1e-4;

/** On values of a file that holds what a PEFT adapter holds, of the largest one, by the type that it is stored in. */
const roundings: Readonly<Record<string, number>> = {
  f32: 1e-6,
  f16: 2 ** -11,
  bf16: 2 ** -8,
  q8_0: 1 / 200,
};

const directory = join(import.meta.dirname, "golden-peft-kinds");
const names = readdirSync(join(directory, "adapters"));

type Golden = {
  readonly base: string;
  readonly prompt: readonly number[];
  readonly logprobs: readonly (readonly number[])[]; // [prompt, vocab]
};

for (const name of names) {
  test(name, () => {
    const adapterDirectory = join(directory, "adapters", name);
    const golden: Golden = readJson(join(adapterDirectory, "golden.json"));
    const baseDirectory = join(directory, "bases", golden.base);
    using reference = openReference(baseDirectory);
    const adapter = decode(adapterDirectory, golden.base);
    const logits = referenceForward(reference, golden.prompt, adapter);
    assert.equal(logits.length, golden.prompt.length);
    for (const [position, expected] of golden.logprobs.entries()) {
      const worst = distance(logSoftmax(Float32Array.from(logits[position]!)), expected);
      assert.ok(worst <= tolerance, `position ${position}: log-probabilities differ by ${worst}`);
    }
  });
}

for (const fileName of readdirSync(join(directory, "files"))) {
  test(`${fileName} holds what the PEFT adapter of the same name holds`, () => {
    const [name = "", type = ""] = fileName.split(".");
    const { base }: Golden = readJson(join(directory, "adapters", name, "golden.json"));
    const single = mkdtempSync(join(tmpdir(), "cotenant-file-"));
    copyFileSync(join(directory, "files", fileName), join(single, fileName));
    const found = arraysOf(decode(single, base));
    const expected = arraysOf(decode(join(directory, "adapters", name), base));
    rmSync(single, { recursive: true });
    assert.deepEqual([...found.keys()].sort(), [...expected.keys()].sort());
    for (const [key, values] of expected) {
      const largest = Math.max(...Array.from(values, Math.abs));
      const worst = distance(found.get(key)!, values);
      assert.ok(worst <= roundings[type]! * largest, `${key}: ${worst} of ${largest}`);
    }
  });
}

test("every method that is read has a golden", () => {
  const tested = names.map(
    (name) =>
      readJson<{ peft_type: string }>(join(directory, "adapters", name, "adapter_config.json")).peft_type,
  );
  assert.deepEqual([...new Set(tested)].sort(), Object.keys(peftMethods).sort());
});

function decode(adapterDirectory: string, base: string): DecodedAdapter {
  const checkpointDirectory = join(directory, "bases", base);
  using reference = openReference(checkpointDirectory);
  return decodeAdapter({
    directory: adapterDirectory,
    files: claimFiles(readdirSync(adapterDirectory)),
    targets: { ...adapterTargets(reference.config), checkpointDirectory },
    baseFingerprint: "base",
  }).adapter;
}

/** Every array under its module's kind and place. */
function arraysOf({ modules }: DecodedAdapter): Map<string, Float32Array | Uint32Array> {
  return new Map(
    modules.flatMap((module) => {
      const place = "projection" in module ? `${module.layer} ${module.projection}` : "";
      return moduleArrays(module).map(([name, array]) => [`${module.kind} ${place} ${name}`, array] as const);
    }),
  );
}

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, "utf8"));
}
