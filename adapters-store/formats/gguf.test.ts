// Refusals of llama.cpp's files and hostile bytes. What good ones decode to is in tests/golden-peft-kinds.test.ts.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type LowRankModule, modulesOf } from "../../kernels/adapter.ts";
import { AdapterError } from "../../kernels/errors.ts";
import { decodeAdapter } from "../decode-adapter.ts";
import { fixtureTargets } from "../peft-fixture.ts";
import { mutations } from "./byte-mutations-fixture.ts";
import { claimFiles } from "./index.ts";

const directory = mkdtempSync(join(tmpdir(), "cotenant-gguf-"));
after(() => rmSync(directory, { recursive: true }));

type Tensor = { name: string; shape: number[]; type?: number; data: Uint8Array; offset?: number };
type Metadata = Record<string, string | number | string[]>;

const lora: Metadata = {
  "general.architecture": "qwen2",
  "general.type": "adapter",
  "adapter.type": "lora",
  "adapter.lora.alpha": 4,
};

/** A and B of k [6, 8] at rank 2, counting up from 1. */
const pair: Tensor[] = [
  floats("blk.1.attn_k.weight.lora_a", [2, 8]),
  floats("blk.1.attn_k.weight.lora_b", [6, 2]),
];

test("alpha is divided by the rank; none and zero are no scale", () => {
  const first = (metadata: Metadata) => decode(ggufOf({ metadata, tensors: pair }))[0]!;
  const { layer, projection, rank, a, b } = first(lora);
  assert.deepEqual([layer, projection, rank], [1, "k", 2]);
  assert.deepEqual(
    [...a],
    Array.from({ length: 16 }, (_, i) => i + 1),
  );
  assert.deepEqual([...b], [2, 6, 10, 14, 18, 22, 4, 8, 12, 16, 20, 24]);
  const { "adapter.lora.alpha": _, ...noAlpha } = lora;
  for (const metadata of [{ ...lora, "adapter.lora.alpha": 0 }, noAlpha])
    assert.equal(first(metadata).b[0], 1);
});

test("rows of q and k of the architecture llama are put back in Hugging Face's order", () => {
  // Heads of width 2 here: a permutation of two halves of one row is none. Width 4 has rows 0 2 1 3.
  const targets = {
    ...fixtureTargets,
    headDim: 4,
    shapes: { ...fixtureTargets.shapes, k: { in: 8, out: 8 } },
  };
  const tensors = [
    floats("blk.0.attn_k.weight.lora_a", [1, 8]),
    floats("blk.0.attn_k.weight.lora_b", [8, 1]),
  ];
  const b = (architecture: string) => {
    const metadata = { ...lora, "general.architecture": architecture, "adapter.lora.alpha": 1 };
    return [...decode(ggufOf({ metadata, tensors }), targets)[0]!.b];
  };
  assert.deepEqual(b("llama"), [1, 3, 2, 4, 5, 7, 6, 8]);
  assert.deepEqual(b("qwen3"), [1, 2, 3, 4, 5, 6, 7, 8]);
});

test("Q8_0 is a float16 scale and 32 signed bytes", () => {
  const targets = { ...fixtureTargets, shapes: { ...fixtureTargets.shapes, k: { in: 32, out: 6 } } };
  const block = Uint8Array.of(0x00, 0xb8, ...Array.from({ length: 32 }, (_, i) => i - 16)); // -0.5
  const tensors = [
    { name: "blk.0.attn_k.weight.lora_a", shape: [1, 32], type: 8, data: block },
    floats("blk.0.attn_k.weight.lora_b", [6, 1]),
  ];
  const [module] = decode(ggufOf({ metadata: lora, tensors }), targets);
  assert.deepEqual(
    [...module!.a],
    Array.from({ length: 32 }, (_, i) => -(i - 16) / 2),
  );
});

const refused: [what: string, code: string, message: RegExp, bytes: Uint8Array][] = [
  [
    "a model",
    "adapter_feature_unsupported",
    /general\.type model/,
    ggufOf({ metadata: { ...lora, "general.type": "model" } }),
  ],
  [
    "a control vector",
    "adapter_feature_unsupported",
    /adapter\.type vector/,
    ggufOf({ metadata: { ...lora, "adapter.type": "vector" } }),
  ],
  [
    "an architecture",
    "adapter_feature_unsupported",
    /falcon/,
    ggufOf({ metadata: { ...lora, "general.architecture": "falcon" } }),
  ],
  [
    "an activated LoRA",
    "adapter_feature_unsupported",
    /alora/,
    ggufOf({ metadata: { ...lora, "adapter.alora.invocation_tokens": ["a"] } }),
  ],
  ["no tensors", "no_modules_matched", /no tensors/, ggufOf({ tensors: [] })],
  [
    "a norm",
    "module_not_supported",
    /attn_norm/,
    ggufOf({ tensors: [...pair, floats("blk.0.attn_norm.weight", [8])] }),
  ],
  [
    "a layer too many",
    "module_not_supported",
    /blk\.3/,
    ggufOf({ tensors: [...pair, floats("blk.3.attn_q.weight.lora_a", [2, 8])] }),
  ],
  ["A alone", "adapter_tensor_missing", /lora_a/, ggufOf({ tensors: pair.slice(0, 1) })],
  [
    "another width",
    "adapter_wrong_shape",
    /\[2,9\].*\[2,8\]/,
    ggufOf({ tensors: [floats("blk.1.attn_k.weight.lora_a", [2, 9]), pair[1]!] }),
  ],
  ["another type", "gguf_unreadable_dtype", /type 12/, ggufOf({ tensors: [{ ...pair[0]!, type: 12 }] })],
  ["a name twice", "gguf_malformed", /twice/, ggufOf({ tensors: [pair[0]!, pair[0]!] })],
  [
    "tensors that overlap",
    "gguf_malformed",
    /smaller than its tensors/,
    ggufOf({ tensors: [pair[0]!, { ...pair[1]!, data: new Uint8Array(0), offset: 0 }] }),
  ],
  [
    "infinity",
    "non_finite_weights",
    /lora_b holds Infinity at 0/,
    ggufOf({
      tensors: [pair[0]!, { ...pair[1]!, data: new Uint8Array(new Float32Array(12).fill(Infinity).buffer) }],
    }),
  ],
  ["another version", "gguf_malformed", /version 1/, ggufOf({ version: 1 })],
  ["something else", "gguf_malformed", /no GGUF/, Buffer.from("a text of some length, but no adapter")],
  ["nothing", "gguf_malformed", /ends within/, new Uint8Array(0)],
];

for (const [what, code, message, bytes] of refused) {
  test(`refuses ${what}`, () => {
    assert.throws(
      () => decode(bytes),
      (error) => {
        assert.ok(error instanceof AdapterError, String(error));
        assert.equal(error.code, code, error.message);
        assert.match(error.message, message);
        assert.ok(!error.message.includes(directory), "names no path");
        return true;
      },
    );
  });
}

test("refuses two adapters", () => {
  assert.throws(() => claimFiles(["one.gguf", "other.gguf"]), { code: "adapter_file_duplicate" });
});

test("mutated bytes are decoded or refused, nothing else", () => {
  const golden = join(import.meta.dirname, "../../tests/golden-peft-kinds/files/llama-lora.f16.gguf");
  const seeds = [
    ggufOf({ metadata: { ...lora, tags: ["some", "words"] }, tensors: pair }),
    readFileSync(golden),
  ];
  let refusals = 0;
  for (const bytes of mutations(seeds, 1_500)) {
    try {
      decode(bytes);
    } catch (error) {
      assert.ok(error instanceof AdapterError, String(error));
      refusals++;
    }
  }
  assert.ok(refusals > 500, `${refusals} refusals`);
});

function decode(bytes: Uint8Array, targets = fixtureTargets): readonly LowRankModule[] {
  writeFileSync(join(directory, "adapter.gguf"), bytes);
  const files = claimFiles(["adapter.gguf"]);
  return modulesOf(decodeAdapter({ directory, files, targets, baseFingerprint: "base" }).adapter, "low-rank");
}

function floats(name: string, shape: number[]): Tensor {
  const length = shape.reduce((product, size) => product * size, 1);
  return { name, shape, data: new Uint8Array(Float32Array.from({ length }, (_, i) => i + 1).buffer) };
}

/** A file as its documentation says. */
function ggufOf({
  metadata = lora,
  tensors = pair,
  version = 3,
}: {
  metadata?: Metadata;
  tensors?: Tensor[];
  version?: number;
}): Uint8Array {
  const uint32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
  const uint64 = (value: number) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
  const string = (text: string) => Buffer.concat([uint64(Buffer.byteLength(text)), Buffer.from(text)]);
  const value = (of: Metadata[string]) => {
    if (typeof of === "string") return [uint32(8), string(of)];
    if (typeof of === "number") return [uint32(6), Buffer.from(Float32Array.of(of).buffer)];
    return [uint32(9), uint32(8), uint64(of.length), ...of.map(string)];
  };
  const pad = (bytes: Uint8Array) => Buffer.concat([bytes, Buffer.alloc((32 - (bytes.length % 32)) % 32)]);
  let end = 0;
  const infos = tensors.flatMap(({ name, shape, type = 0, data, offset }) => {
    const at = offset ?? end;
    end += pad(data).length;
    return [string(name), uint32(shape.length), ...shape.toReversed().map(uint64), uint32(type), uint64(at)];
  });
  const head = Buffer.concat([
    Buffer.from("GGUF"),
    uint32(version),
    uint64(tensors.length),
    uint64(Object.keys(metadata).length),
    ...Object.entries(metadata).flatMap(([key, of]) => [string(key), ...value(of)]),
    ...infos,
  ]);
  return Buffer.concat([pad(head), ...tensors.map(({ data }) => pad(data))]);
}
