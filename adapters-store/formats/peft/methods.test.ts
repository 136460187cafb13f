// What the methods beside LoRA decode to, against matrices multiplied out by their papers' formulas, and what each
// refuses. The numbers of real PEFT are in tests/golden-peft-kinds.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import {
  type AdapterModule,
  type LowRankModule,
  modulesOf,
  type ScaleModule,
} from "../../../kernels/adapter.ts";
import { type TensorSource, tensorOf } from "../../../kernels/checkpoint/write-safetensors.ts";
import { AdapterError } from "../../../kernels/errors.ts";
import { decodeAdapter } from "../../decode-adapter.ts";
import { fixtureTargets, loraPair, modulePath, writePeft } from "../../peft-fixture.ts";
import { claimFiles } from "../index.ts";

const directory = mkdtempSync(join(tmpdir(), "cotenant-methods-"));
after(() => rmSync(directory, { recursive: true }));

const q = modulePath(0, "self_attn.q_proj"); // [12, 8]
const down = modulePath(1, "mlp.down_proj"); // [8, 20]

/** Rows of a matrix, as the oracle writes them. */
type Rows = readonly (readonly number[])[];
const small = fc.integer({ min: -8, max: 8 }).map((eighths) => eighths / 8); // products are exact in float32
const rowsOf = (rows: number, columns: number): fc.Arbitrary<Rows> =>
  fc.array(fc.array(small, { minLength: columns, maxLength: columns }), { minLength: rows, maxLength: rows });
const tensor = (name: string, rows: Rows) =>
  tensorOf(name, [rows.length, rows[0]!.length], Float32Array.from(rows.flat()));

test("LoHa is the entrywise product of two low-rank matrices", () => {
  const matrices = fc
    .integer({ min: 1, max: 4 })
    .chain((r) => fc.tuple(rowsOf(12, r), rowsOf(r, 8), rowsOf(12, r), rowsOf(r, 8)));
  fc.assert(
    fc.property(matrices, ([w1a, w1b, w2a, w2b]) => {
      const tensors = [
        tensor(`${q}.hada_w1_a`, w1a),
        tensor(`${q}.hada_w1_b`, w1b),
        tensor(`${q}.hada_w2_a`, w2a),
        tensor(`${q}.hada_w2_b`, w2b),
      ];
      const r = w1b.length;
      const [one, other] = [multiply(w1a, w1b), multiply(w2a, w2b)];
      const expected = one.map((row, i) => row.map((value, j) => (value * other[i]![j]! * 2 * r) / r));
      assertClose(lowRank({ peft_type: "LOHA", r, alpha: 2 * r }, tensors), expected);
    }),
    { numRuns: 40 },
  );
});

test("LoKr is the Kronecker product of its factors, whole or as products", () => {
  const factor = (rows: number, columns: number) =>
    fc.oneof(
      rowsOf(rows, columns).map((whole) => ({ whole, parts: null })),
      fc
        .tuple(rowsOf(rows, 2), rowsOf(2, columns))
        .map(([a, b]) => ({ whole: multiply(a, b), parts: [a, b] as const })),
    );
  const shapes = fc.constantFrom([3, 2], [2, 4], [12, 8], [1, 1], [4, 8]); // of the first; both multiply to [12, 8]
  const factors = shapes.chain(([rows, columns]) =>
    fc.tuple(factor(rows!, columns!), factor(12 / rows!, 8 / columns!)),
  );
  fc.assert(
    fc.property(factors, ([one, other]) => {
      const tensors = [one, other].flatMap(({ whole, parts }, i) => {
        const name = `${q}.lokr_w${i + 1}`;
        return parts === null
          ? [tensor(name, whole)]
          : [tensor(`${name}_a`, parts[0]), tensor(`${name}_b`, parts[1])];
      });
      const expected = one.whole.flatMap((row) =>
        other.whole.map((inner) => row.flatMap((value) => inner.map((factor) => value * factor * 1.5))),
      );
      assertClose(lowRank({ peft_type: "LOKR", r: 2, alpha: 3 }, tensors), expected);
    }),
    { numRuns: 60 },
  );
});

test("VeRA takes the corner of the shared matrices that a module fits in", () => {
  fc.assert(
    fc.property(rowsOf(3, 20), rowsOf(14, 3), rowsOf(1, 12), rowsOf(1, 3), (a, b, lambdaB, lambdaD) => {
      const tensors = [
        tensor("base_model.vera_A", a),
        tensor("base_model.vera_B", b),
        tensorOf(`${q}.vera_lambda_b`, [12], Float32Array.from(lambdaB[0]!)),
        tensorOf(`${q}.vera_lambda_d`, [3], Float32Array.from(lambdaD[0]!)),
      ];
      const left = b.slice(0, 12).map((row, i) => row.map((value) => value * lambdaB[0]![i]!));
      const right = a.map((row, j) => row.slice(0, 8).map((value) => value * lambdaD[0]![j]!));
      assertClose(lowRank({ peft_type: "VERA", r: 3 }, tensors), multiply(left, right));
    }),
    { numRuns: 30 },
  );
});

test("VeRA's modules of one input width share their A", () => {
  const tensors = [
    tensorOf("base_model.vera_A", [2, 20], new Float32Array(40).fill(1)),
    tensorOf("base_model.vera_B", [12, 2], new Float32Array(24).fill(1)),
    ...[q, modulePath(1, "self_attn.k_proj")].flatMap((path, i) => [
      tensorOf(`${path}.vera_lambda_b`, [i === 0 ? 12 : 6], new Float32Array(i === 0 ? 12 : 6).fill(1)),
      tensorOf(`${path}.vera_lambda_d`, [2], new Float32Array(2).fill(1)),
    ]),
  ];
  const [one, other] = decode({ peft_type: "VERA", r: 2 }, tensors) as LowRankModule[];
  assert.equal(one!.a, other!.a);
});

test("(IA)3 scales outputs; the input of the MLP's last map becomes the output of `up`", () => {
  const vector = (path: string, shape: [number, number], first: number) =>
    tensorOf(
      `${path}.ia3_l`,
      shape,
      Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => first + i),
    );
  const up = modulePath(1, "mlp.up_proj");
  const config = {
    peft_type: "IA3",
    feedforward_modules: ["down_proj"],
    target_modules: ["up_proj", "down_proj"],
  };
  const tensors = [vector(up, [20, 1], 1), vector(down, [1, 20], 5)];
  const [both, ...others] = decode(config, tensors) as ScaleModule[];
  assert.deepEqual([both!.layer, both!.projection, both!.shift, others.length], [1, "up", null, 0]);
  assert.deepEqual(
    [...both!.scale],
    Array.from({ length: 20 }, (_, i) => (1 + i) * (5 + i)),
  );
  const [outputs] = decode({ ...config, feedforward_modules: [] }, [
    vector(down, [8, 1], 2),
  ]) as ScaleModule[];
  assert.deepEqual([outputs!.projection, [...outputs!.scale]], ["down", [2, 3, 4, 5, 6, 7, 8, 9]]);
});

test("a prefix is keys and values by layer and head", () => {
  const width = 3 * 2 * 2 * 3; // layers, keys and values, kv heads, head width
  const values = Float32Array.from({ length: 2 * width }, (_, i) => i);
  const config = { peft_type: "PREFIX_TUNING", num_virtual_tokens: 2 };
  const modules = decode(config, [tensorOf("prompt_embeddings", [2, width], values)]);
  const prefixes = modulesOf({ modules }, "prefix");
  assert.deepEqual(
    prefixes.map(({ layer, tokens }) => [layer, tokens]),
    [
      [0, 2],
      [1, 2],
      [2, 2],
    ],
  );
  // Token 1, layer 1: its keys start at 36 + 12, head 1's at three more; its values six later.
  assert.deepEqual([...prefixes[1]!.keys.slice(9)], [51, 52, 53]);
  assert.deepEqual([...prefixes[1]!.values.slice(9)], [57, 58, 59]);
});

const ones = (name: string, shape: number[]) =>
  tensorOf(name, shape, new Float32Array(shape.reduce((product, size) => product * size, 1)).fill(1));
const loraOf = { peft_type: "LORA" };
const dora = [...loraPair(q, [2, 8, 12]), ones(`${q}.lora_magnitude_vector`, [12])];
const prompt = { peft_type: "PROMPT_TUNING", num_virtual_tokens: 2 };
const feedforward = { peft_type: "IA3", feedforward_modules: ["o_proj"] };

const refused: [
  what: string,
  code: string,
  message: RegExp,
  config: object,
  tensors: readonly TensorSource[],
][] = [
  ["DoRA without the base", "adapter_base_unavailable", /norms/, { ...loraOf, use_dora: true }, dora],
  [
    "a trained bias without the base",
    "adapter_base_unavailable",
    /bias/,
    { ...loraOf, bias: "lora_only" },
    [...loraPair(q, [2, 8, 12]), ones(`${q}.base_layer.bias`, [12])],
  ],
  [
    "a bias under two names",
    "adapter_module_duplicate",
    /same tensor/,
    { ...loraOf, bias: "all" },
    [...loraPair(q, [2, 8, 12]), ones(`${q}.base_layer.bias`, [12]), ones(`${q}.bias`, [12])],
  ],
  [
    "DoRA of the head",
    "adapter_feature_unsupported",
    /use_dora on lm_head/,
    { ...loraOf, use_dora: true, target_modules: ["lm_head"] },
    loraPair("base_model.model.lm_head", [2, 8, 11]),
  ],
  [
    "one adapter for embeddings and a tied head",
    "adapter_feature_unsupported",
    /ensure_weight_tying/,
    { ...loraOf, ensure_weight_tying: true, target_modules: ["lm_head"] },
    loraPair("base_model.model.lm_head", [2, 8, 11]),
  ],
  [
    "a head of another vocabulary",
    "adapter_wrong_shape",
    /\[9,2\].*\[11,2\]/,
    { ...loraOf, target_modules: ["lm_head"] },
    loraPair("base_model.model.lm_head", [2, 8, 9]),
  ],
  [
    "half of an embedding",
    "adapter_tensor_missing",
    /lora_embedding_B/,
    { ...loraOf, target_modules: ["embed_tokens"] },
    [ones("base_model.model.model.embed_tokens.lora_embedding_A", [2, 11])],
  ],
  [
    "the head under all-linear, which leaves it out",
    "adapter_module_not_targeted",
    /lm_head/,
    { ...loraOf, target_modules: "all-linear" },
    loraPair("base_model.model.lm_head", [2, 8, 11]),
  ],
  [
    "scaled inputs of o_proj",
    "adapter_feature_unsupported",
    /o_proj.*inputs/,
    feedforward,
    [ones(`${modulePath(0, "self_attn.o_proj")}.ia3_l`, [1, 12])],
  ],
  [
    "(IA)3 of unknown sides",
    "adapter_config_malformed",
    /feedforward_modules/,
    { peft_type: "IA3" },
    [ones(`${q}.ia3_l`, [12, 1])],
  ],
  [
    "(IA)3 of the head",
    "no_modules_matched",
    /lm_head/,
    { ...feedforward },
    [ones("lm_head.ia3_l", [11, 1])],
  ],
  [
    "(IA)3 of one module twice",
    "adapter_module_duplicate",
    /layer 0, q/,
    { peft_type: "IA3", feedforward_modules: [] },
    [ones(`${q}.ia3_l`, [12, 1]), ones("layers.0.self_attn.q_proj.ia3_l", [12, 1])],
  ],
  [
    "VeRA without its matrices",
    "adapter_tensor_missing",
    /save_projection=True/,
    { peft_type: "VERA", r: 2, save_projection: false },
    [ones(`${q}.vera_lambda_b`, [12]), ones(`${q}.vera_lambda_d`, [2])],
  ],
  [
    "VeRA's matrices of a smaller base",
    "adapter_wrong_shape",
    /vera_B \[12,2\].*\[10,2\]/,
    { peft_type: "VERA", r: 2 },
    [
      ones("base_model.vera_A", [2, 8]),
      ones("base_model.vera_B", [10, 2]),
      ones(`${q}.vera_lambda_b`, [12]),
      ones(`${q}.vera_lambda_d`, [2]),
    ],
  ],
  [
    "LoHa of a large rank",
    "adapter_rank_too_large",
    /rank 529.*512/,
    { peft_type: "LOHA", r: 23, alpha: 1 },
    ["hada_w1_a", "hada_w2_a"].flatMap((name) => [
      ones(`${q}.${name}`, [12, 23]),
      ones(`${q}.${name.replace("_a", "_b")}`, [23, 8]),
    ]),
  ],
  [
    "LoKr of other widths",
    "adapter_wrong_shape",
    /\[3,2\] and \[3,4\].*\[12,8\]/,
    { peft_type: "LOKR", r: 2, alpha: 1 },
    [ones(`${q}.lokr_w1`, [3, 2]), ones(`${q}.lokr_w2`, [3, 4])],
  ],
  [
    "LoKr without a factor",
    "adapter_tensor_missing",
    /lokr_w2_a/,
    { peft_type: "LOKR", r: 2, alpha: 1 },
    [ones(`${q}.lokr_w1`, [3, 2])],
  ],
  [
    "a convolution's LoKr",
    "module_not_supported",
    /lokr_t2/,
    { peft_type: "LOKR", r: 2, alpha: 1 },
    [ones(`${q}.lokr_w1`, [3, 2]), ones(`${q}.lokr_w2`, [4, 4]), ones(`${q}.lokr_t2`, [2, 2])],
  ],
  [
    "a prompt of another width",
    "adapter_wrong_shape",
    /\[2,9\].*\[2,8\]/,
    prompt,
    [ones("prompt_embeddings", [2, 9])],
  ],
  [
    "a prompt of no tokens",
    "adapter_config_malformed",
    /num_virtual_tokens/,
    { ...prompt, num_virtual_tokens: 0 },
    [ones("prompt_embeddings", [2, 8])],
  ],
  ["no prompt", "no_modules_matched", /prompt_embeddings/, prompt, [ones("prompt", [2, 8])]],
  [
    "a prompt and more",
    "module_not_supported",
    /classifier/,
    prompt,
    [ones("prompt_embeddings", [2, 8]), ones("classifier", [2])],
  ],
  [
    "an encoder's prompt",
    "adapter_feature_unsupported",
    /num_transformer_submodules/,
    { ...prompt, num_transformer_submodules: 2 },
    [ones("prompt_embeddings", [2, 8])],
  ],
  [
    "modules_to_save",
    "adapter_feature_unsupported",
    /modules_to_save/,
    { ...prompt, modules_to_save: ["lm_head"] },
    [ones("prompt_embeddings", [2, 8])],
  ],
];

for (const [what, code, message, config, tensors] of refused) {
  test(`refuses ${what}`, () => {
    assert.throws(
      () => decode(config, tensors),
      (error) => {
        assert.ok(error instanceof AdapterError, String(error));
        assert.equal(error.code, code, error.message);
        assert.match(error.message, message);
        return true;
      },
    );
  });
}

test("an expansion beyond a gibibyte is refused before it is made", () => {
  const wide = { ...fixtureTargets.shapes, q: { in: 1 << 20, out: 1 << 20 } };
  const tensors = [
    ones(`${q}.lokr_w1`, [1024, 1024]),
    ones(`${q}.lokr_w2_a`, [1024, 1]),
    ones(`${q}.lokr_w2_b`, [1, 1024]),
  ];
  const config = { peft_type: "LOKR", r: 1, alpha: 1 };
  assert.throws(() => decode(config, tensors, { ...fixtureTargets, shapes: wide }), {
    code: "adapter_rank_too_large",
  });
  const narrow = [
    ones(`${q}.lokr_w1`, [256, 4096]),
    ones(`${q}.lokr_w2_a`, [4096, 1]),
    ones(`${q}.lokr_w2_b`, [1, 256]),
  ];
  assert.throws(() => decode(config, narrow, { ...fixtureTargets, shapes: wide }), {
    code: "adapter_expansion_too_large",
  });
});

function decode(
  config: object,
  tensors: readonly TensorSource[],
  targets = fixtureTargets,
): readonly AdapterModule[] {
  writePeft(directory, { config: { ...config }, tensors });
  const files = claimFiles(["adapter_config.json", "adapter_model.safetensors"]);
  return decodeAdapter({ directory, files, targets, baseFingerprint: "base" }).adapter.modules;
}

/** The one low-rank module multiplied out: bᵀ a, [out, in]. */
function lowRank(config: object, tensors: readonly TensorSource[]): number[][] {
  const [module, ...others] = decode(config, tensors) as LowRankModule[];
  assert.equal(others.length, 0);
  const { rank, a, b } = module!;
  const columns = (values: Float32Array) => values.length / rank;
  return Array.from({ length: columns(b) }, (_, i) =>
    Array.from({ length: columns(a) }, (_, j) => {
      let sum = 0;
      for (let k = 0; k < rank; k++) sum += b[k * columns(b) + i]! * a[k * columns(a) + j]!;
      return sum;
    }),
  );
}

function multiply(a: Rows, b: Rows): number[][] {
  return a.map((row) => b[0]!.map((_, j) => row.reduce((sum, value, k) => sum + value * b[k]![j]!, 0)));
}

function assertClose(found: Rows, expected: Rows): void {
  assert.equal(found.length, expected.length);
  for (const [i, row] of expected.entries()) {
    assert.equal(found[i]!.length, row.length);
    for (const [j, value] of row.entries()) {
      const difference = Math.abs(found[i]![j]! - value);
      assert.ok(
        difference <= 1e-5 * (1 + Math.abs(value)),
        `${i}, ${j}: ${found[i]![j]} instead of ${value}`,
      );
    }
  }
}
