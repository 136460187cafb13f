// Adapters that are stored relative to the base's own weights, on bases where they do and do not fit.

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { openSafetensors } from "../../../kernels/checkpoint/safetensors.ts";
import { tensorOf, writeSafetensors } from "../../../kernels/checkpoint/write-safetensors.ts";
import { adapterTargets } from "../../../kernels/model-family.ts";
import { openStoredBase } from "../../../kernels/stored-base.ts";
import { decodeAdapter } from "../../decode-adapter.ts";
import { claimFiles } from "../index.ts";

const goldens = join(import.meta.dirname, "../../../tests/golden-peft-kinds");
const directory = mkdtempSync(join(tmpdir(), "cotenant-relative-"));
after(() => rmSync(directory, { recursive: true }));

for (const name of ["embed_tokens", "lm_head"]) {
  test(`a whole matrix of ${name} is refused where one value is not the base's`, () => {
    const spoilt = withTensor(
      "llama-embedding-head",
      new RegExp(`${name}\\.base_layer\\.weight$`),
      (values) => {
        values[values.length - 1]! += 0.01;
      },
    );
    assert.throws(() => decode(spoilt, "llama"), {
      code: "adapter_feature_unsupported",
      message: new RegExp(`${name}\\.base_layer\\.weight is a whole matrix`),
    });
  });
}

test("a whole matrix is refused on a base with other embeddings of the same shape", () => {
  assert.throws(() => decode(join(goldens, "adapters", "llama-embedding-head"), "qwen2"), {
    code: "adapter_feature_unsupported",
    message: /base_layer\.weight is a whole matrix/,
  });
});

test("a trained bias is refused where the base has none", () => {
  const adapter = join(goldens, "adapters", "qwen2-bias-all"); // of q, k and v, which phi3's fused shapes cannot hold
  assert.throws(() => decode(adapter, "qwen2", { checkpointDirectory: join(goldens, "bases", "llama") }), {
    code: "module_not_supported",
    message: /holds a bias of .*, where the base has none/,
  });
});

test("what needs the base's weights is refused without them", () => {
  for (const [name, base] of [
    ["llama-dora", "llama"],
    ["qwen2-bias", "qwen2"],
    ["gemma3-embedding", "gemma3"],
  ] as const) {
    const { checkpointDirectory: _, ...targets } = targetsOf(base);
    assert.throws(
      () => decodeWith(join(goldens, "adapters", name), targets),
      { code: "adapter_base_unavailable", message: /start the server from a checkpoint directory/ },
      name,
    );
  }
});

test("a magnitude of zero silences an output", () => {
  const silent = withTensor(
    "llama-dora",
    /layers\.0\.self_attn\.q_proj\.lora_magnitude_vector$/,
    (values) => {
      values[3] = 0;
    },
  );
  const module = decode(silent, "llama").modules.find(
    (one) => one.kind === "scale" && one.layer === 0 && one.projection === "q",
  );
  assert.equal(module?.kind === "scale" && module.scale[3], 0);
});

function decode(adapter: string, base: string, changes: { readonly checkpointDirectory?: string } = {}) {
  return decodeWith(adapter, { ...targetsOf(base), ...changes });
}

function decodeWith(adapter: string, targets: Parameters<typeof decodeAdapter>[0]["targets"]) {
  const files = claimFiles(readdirSync(adapter));
  return decodeAdapter({ directory: adapter, files, targets, baseFingerprint: "base" }).adapter;
}

function targetsOf(base: string) {
  const checkpointDirectory = join(goldens, "bases", base);
  using stored = openStoredBase(checkpointDirectory);
  return { ...adapterTargets(stored.config), checkpointDirectory };
}

/** A copy of a golden adapter with one tensor changed. */
function withTensor(adapter: string, name: RegExp, change: (values: Float32Array) => void): string {
  const copy = mkdtempSync(join(directory, "adapter-"));
  cpSync(join(goldens, "adapters", adapter), copy, { recursive: true });
  const path = join(copy, "adapter_model.safetensors");
  using file = openSafetensors(path);
  const tensors = [...file.tensors].map(([key, { shape }]) => {
    const values = file.readFloat32(key);
    if (name.test(key)) change(values);
    return tensorOf(key, shape, values);
  });
  writeSafetensors(path, tensors);
  return copy;
}
