// Refusals of ONNX Runtime's files and hostile bytes. What good ones decode to is in tests/golden-peft-kinds.test.ts.

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

const directory = mkdtempSync(join(tmpdir(), "cotenant-onnx-adapter-"));
after(() => rmSync(directory, { recursive: true }));

type Parameter = { name: string; dims: number[]; dataType?: number; raw?: Uint8Array };

const k = "layers.1.attn.k_proj";
/** A and B of k [6, 8] at rank 2, counting up from 1. */
const pair = [floats(`${k}.lora_A.MatMul.weight`, [8, 2]), floats(`${k}.lora_B.MatMul.weight`, [2, 6])];

test("A is transposed, B is as it is multiplied", () => {
  const [module] = decode(adapterOf(pair));
  const { layer, projection, rank, a, b } = module!;
  assert.deepEqual([layer, projection, rank], [1, "k", 2]);
  assert.deepEqual([...a], [1, 3, 5, 7, 9, 11, 13, 15, 2, 4, 6, 8, 10, 12, 14, 16]);
  assert.deepEqual([...b], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
});

test("names of the model builder, of Olive and of PEFT", () => {
  const spellings = [
    "model.layers.1.attn.k_proj.lora_A.MatMul.weight",
    "model.layers.1.self_attn.k_proj.lora_A.weight",
    "base_model.model.model.layers.1.self_attn.k_proj.lora_A.default.weight",
  ];
  for (const name of spellings) {
    const named = pair.map((parameter, i) => ({
      ...parameter,
      name: i === 0 ? name : name.replace("lora_A", "lora_B"),
    }));
    assert.equal(decode(adapterOf(named))[0]!.projection, "k");
  }
});

const refused: [what: string, code: string, message: RegExp, bytes: Uint8Array][] = [
  ["no parameters", "no_modules_matched", /no tensors/, adapterOf([])],
  [
    "other inputs",
    "module_not_supported",
    /lora_param_a/,
    adapterOf([...pair, floats("lora_param_a", [8, 2])]),
  ],
  [
    "embeddings",
    "module_not_supported",
    /embed_tokens/,
    adapterOf([...pair, floats("model.embed_tokens.lora_A.weight", [11, 2])]),
  ],
  ["A alone", "adapter_tensor_missing", /lora_A/, adapterOf(pair.slice(0, 1))],
  [
    "PEFT's own layout",
    "adapter_wrong_shape",
    /\[2,8\].*\[in, rank\]/,
    adapterOf([floats(pair[0]!.name, [2, 8]), floats(pair[1]!.name, [6, 2])]),
  ],
  [
    "quantized weights",
    "onnx_adapter_unreadable_dtype",
    /type 2.*unquantized/,
    adapterOf([{ name: pair[0]!.name, dims: [8, 2], dataType: 2, raw: new Uint8Array(16) }, pair[1]!]),
  ],
  [
    "dimensions that lie",
    "onnx_adapter_malformed",
    /64 bytes/,
    adapterOf([{ ...pair[0]!, dims: [8, 3] }, pair[1]!]),
  ],
  [
    "negative dimensions",
    "onnx_adapter_malformed",
    /-8/,
    adapterOf([{ ...pair[0]!, dims: [-8, -2] }, pair[1]!]),
  ],
  ["a name twice", "onnx_adapter_malformed", /twice/, adapterOf([pair[0]!, pair[0]!])],
  [
    "NaN",
    "non_finite_weights",
    /NaN at 3/,
    adapterOf([{ ...pair[0]!, raw: new Uint8Array(new Float32Array(16).fill(NaN, 3).buffer) }, pair[1]!]),
  ],
  ["another version", "onnx_adapter_malformed", /version 2/, adapterOf(pair, 2)],
  [
    "something else",
    "onnx_adapter_malformed",
    /no ONNX Runtime adapter/,
    Buffer.from("a text of some length"),
  ],
  ["nothing", "onnx_adapter_malformed", /no ONNX Runtime adapter/, new Uint8Array(0)],
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

test("mutated bytes are decoded or refused, nothing else", () => {
  const golden = join(
    import.meta.dirname,
    "../../tests/golden-peft-kinds/files/qwen2-rslora.f16.onnx_adapter",
  );
  let refusals = 0;
  for (const bytes of mutations([adapterOf(pair), readFileSync(golden)], 1_500)) {
    try {
      decode(bytes);
    } catch (error) {
      assert.ok(error instanceof AdapterError, String(error));
      refusals++;
    }
  }
  assert.ok(refusals > 500, `${refusals} refusals`);
});

function decode(bytes: Uint8Array): readonly LowRankModule[] {
  writeFileSync(join(directory, "adapter.onnx_adapter"), bytes);
  const files = claimFiles(["adapter.onnx_adapter"]);
  const job = { directory, files, targets: fixtureTargets, baseFingerprint: "base" };
  return modulesOf(decodeAdapter(job).adapter, "low-rank");
}

function floats(name: string, dims: number[]): Parameter {
  return { name, dims };
}

/** A FlatBuffers file written front to back: every table with a list of offsets of its own, all fields stored. */
function adapterOf(parameters: readonly Parameter[], version = 1): Uint8Array {
  const bytes = Buffer.alloc(1 << 12);
  let end = 8;
  const place = (length: number) => {
    end = Math.ceil(end / 8) * 8 + length;
    return end - length;
  };
  const vector = (content: Uint8Array, elements: number) => {
    const at = place(4 + content.length);
    bytes.writeUInt32LE(elements, at);
    bytes.set(content, at + 4);
    return at;
  };
  /** Fields of four bytes each: a number, or the place of what it points to. */
  const table = (fields: readonly { value?: number; at?: number }[]) => {
    const list = place(4 + fields.length * 2);
    bytes.writeUInt16LE(4 + fields.length * 2, list);
    bytes.writeUInt16LE(4 + fields.length * 4, list + 2);
    const at = place(4 + fields.length * 4);
    bytes.writeInt32LE(at - list, at);
    for (const [i, field] of fields.entries()) {
      const entry = at + 4 + i * 4;
      bytes.writeUInt16LE(entry - at, list + 4 + i * 2);
      if (field.at === undefined) bytes.writeInt32LE(field.value!, entry);
      else bytes.writeUInt32LE((field.at - entry) >>> 0, entry);
    }
    return at;
  };
  // What is pointed to must lie behind the pointer: the root is written first, its vector is filled in at the end.
  const root = table([{ value: version }, { value: 1 }, { value: 1 }, { value: 0 }]);
  bytes.writeUInt32LE(root, 0);
  bytes.write("TORT", 4, "latin1");
  const list = vector(new Uint8Array(parameters.length * 4), parameters.length);
  bytes.writeUInt32LE(list - (root + 16), root + 16);
  for (const [i, { name, dims, dataType = 1, raw }] of parameters.entries()) {
    const length = Math.abs(dims.reduce((product, size) => product * size, 1));
    const data =
      raw ??
      new Uint8Array(Float32Array.from({ length: dims[1] === 3 ? 16 : length }, (_, at) => at + 1).buffer);
    const at = table([{ value: 0 }, { value: 0 }, { value: dataType }, { value: 0 }]);
    const point = (field: number, target: number) =>
      bytes.writeUInt32LE(target - (at + 4 + field * 4), at + 4 + field * 4);
    point(0, vector(Buffer.from(name), Buffer.byteLength(name)));
    point(1, vector(new Uint8Array(BigInt64Array.from(dims, BigInt).buffer), dims.length));
    point(3, vector(data, data.length));
    bytes.writeUInt32LE(at - (list + 4 + i * 4), list + 4 + i * 4);
  }
  return bytes.subarray(0, end);
}
