import assert from "node:assert/strict";
import { test } from "node:test";
import { type AdapterModule, type DecodedAdapter, moduleArrays } from "../../kernels/adapter.ts";
import { watched } from "../../tests/watched-fixture.ts";
import { encodeLedger, replay } from "../codecs/ledger.ts";
import { bytesOf } from "../codecs/tensor-codec.ts";
import { memorySource } from "./byte-source.ts";
import { everyKind, fixtureBase, lowRank, smolTargets } from "./container-fixture.ts";
import { encodeModule } from "./encode-module.ts";
import { readContainer, readManifest } from "./read-container.ts";
import { rewriteManifest } from "./rewrite-fixture.ts";
import {
  type ContainerContent,
  containerPieces,
  type EncodedModule,
  writeContainer,
} from "./write-container.ts";

const { targets } = fixtureBase;
const read = (bytes: Uint8Array) => readContainer(memorySource(bytes), fixtureBase);

function contentOf(adapter: DecodedAdapter, { targets } = fixtureBase): ContainerContent {
  return {
    baseFingerprint: fixtureBase.fingerprint,
    lineage: { operation: "merge", parents: ["v1", "v2"], parameters: { weight: 0.5, mode: "linear" } },
    metadata: { title: "Größe", "": "empty" },
    modules: adapter.modules.map((module) => encodeModule(module, { codec: "f32" }, targets)),
  };
}

const write = (adapter: DecodedAdapter) => writeContainer(contentOf(adapter));

test("every kind comes back, with lineage and metadata", () => {
  const adapter = everyKind();
  const bytes = write(adapter);
  const container = read(bytes);
  assert.deepEqual(container.adapter, adapter);
  const { lineage, metadata } = contentOf(adapter);
  assert.deepEqual(container.manifest.lineage, lineage);
  assert.deepEqual(container.manifest.metadata, metadata);
  assert.deepEqual(readManifest(memorySource(bytes)), container.manifest);
  const shifted = Buffer.concat([Uint8Array.of(0), bytes]).subarray(1); // no alignment is taken for granted
  assert.deepEqual(read(shifted).adapter, adapter);
});

test("a module's scale multiplies its b alone, in any codec", () => {
  const [module] = lowRank(targets, 2, { layers: 1, projections: ["q"] }).modules as [
    Extract<AdapterModule, { kind: "low-rank" }>,
  ];
  const encoded = encodeModule(module, { codec: "ternary", density: 0.5 }, targets);
  const withScale = (scale: number) =>
    read(writeContainer({ ...contentOf({ modules: [] }), modules: [{ ...encoded, scale }] })).adapter
      .modules[0];
  const [plain, scaled] = [withScale(1), withScale(-3)].map((each) => new Map(moduleArrays(each!)));
  assert.deepEqual(scaled!.get("a"), plain!.get("a"));
  const expected = plain!.get("b")!.map((value) => value * -3); // a zero's sign says nothing
  assert.ok(scaled!.get("b")!.every((value, i) => value === expected[i]));
  assert.ok(expected.some((value) => value !== 0));
});

test("a ledger's tensors take their places one after another", () => {
  const steps = [
    { seed: 1, scalar: 0.5 },
    { seed: 2, scalar: -0.25 },
  ];
  const entry = (layer: number): EncodedModule => ({
    kind: "low-rank",
    layer,
    projection: "q",
    own: 2,
    scale: 1,
    tensors: {
      a: { codec: "ledger", shape: [2, 8], bytes: bytesOf(Float32Array.of(0.125)) },
      b: { codec: "ledger", shape: [2, 12], bytes: bytesOf(Float32Array.of(0)) },
    },
  });
  const bytes = writeContainer({
    ...contentOf({ modules: [] }),
    modules: [entry(0), entry(2)],
    ledger: encodeLedger(77, steps),
  });
  const made = (deviation: number, first: number, count: number) =>
    replay([{ seed: 77, scalar: deviation }, ...steps], first, count);
  assert.deepEqual(read(bytes).adapter.modules, [
    { kind: "low-rank", layer: 0, projection: "q", rank: 2, a: made(0.125, 0, 16), b: made(0, 16, 24) },
    { kind: "low-rank", layer: 2, projection: "q", rank: 2, a: made(0.125, 40, 16), b: made(0, 56, 24) },
  ]);
});

test("another base is refused before the tensors are looked at", () => {
  const bytes = write(everyKind());
  bytes[bytes.length - 1]! ^= 1;
  assert.throws(() => readContainer(memorySource(bytes), { targets, fingerprint: "another" }), {
    code: "adapter_base_mismatch",
    message: /base-fingerprint.*another/,
  });
  assert.throws(() => read(bytes), { code: "container_hash_mismatch" });
});

// biome-ignore lint/suspicious/noExplicitAny: hostile manifests are built by hand
type Json = any;
const refusals: [what: string, code: string, message: RegExp, change: (manifest: Json) => void][] = [
  ["an unknown field", "container_malformed", /unknown field "extra"/, (m) => (m.modules[0].extra = 1)],
  ["a missing field", "container_malformed", /lacks sha256/, (m) => delete m.sha256],
  ["an unknown kind", "container_malformed", /kind "lora"/, (m) => (m.modules[0].kind = "lora")],
  ["a prototype's name as kind", "container_malformed", /kind/, (m) => (m.modules[0].kind = "constructor")],
  ["an unknown codec", "container_codec_unknown", /zip/, (m) => (m.modules[0].tensors.a.codec = "zip")],
  [
    "indices' codec on floats",
    "container_codec_unknown",
    /u32/,
    (m) => (m.modules[0].tensors.a.codec = "u32"),
  ],
  ["another rank", "adapter_wrong_shape", /\[3,8\].*\[4,8\]/, (m) => (m.modules[0].rank = 4)],
  ["a huge rank", "container_too_large", /bytes when decoded/, hugeRank],
  ["a negative length", "container_malformed", /bytes = -4/, (m) => (m.modules[0].tensors.a.bytes = -4)],
  ["a longer tensor", "container_truncated", /the file has/, (m) => (m.modules[0].tensors.a.bytes += 4)],
  ["a shorter tensor", "container_malformed", /follow the last/, (m) => (m.modules[0].tensors.a.bytes -= 4)],
  ["an unknown layer", "module_not_supported", /layers 0 to 2/, (m) => (m.modules[0].layer = 3)],
  ["two of a kind", "adapter_module_duplicate", /twice/, (m) => (m.modules[1] = m.modules[0])],
  ["no modules", "no_modules_matched", /no modules/, (m) => (m.modules = [])],
  ["a prefix that lacks a layer", "adapter_wrong_shape", /2 of 3 layers/, dropPrefix],
  ["scale infinity", "container_malformed", /scale/, (m) => (m.modules[0].scale = null)],
  ["too large a scale", "non_finite_weights", /q, low-rank's b/, (m) => (m.modules[0].scale = 1e300)],
  ["more channels than inputs", "adapter_wrong_shape", /room for 8/, manyChannels],
  ["a metadata number", "container_malformed", /metadata/, (m) => (m.metadata = { a: 1 })],
  ["a lineage list", "container_malformed", /lineage/, (m) => (m.lineage = [])],
];

for (const [what, code, message, change] of refusals) {
  test(`refuses ${what}`, () => {
    for (const version of [1, 2] as const) {
      const bytes = rewriteManifest(write(everyKind()), version, (text) => {
        const manifest = JSON.parse(text);
        change(manifest);
        return JSON.stringify(manifest);
      });
      assert.throws(() => read(bytes), { name: "AdapterError", code, message });
    }
  });
}

test("version 1 is read", () => {
  const adapter = everyKind();
  const former = rewriteManifest(write(adapter), 1, (text) => text);
  assert.notDeepEqual(former, write(adapter));
  assert.deepEqual(read(former).adapter, adapter);
});

for (const version of [1, 2] as const) {
  test(`version ${version}: refuses duplicate keys, text that is not JSON, and other lengths than are stated`, () => {
    const intact = write(everyKind());
    const rewrite = (change: (text: string) => string) => rewriteManifest(intact, version, change);
    const refused = (bytes: Uint8Array, message: RegExp) =>
      assert.throws(() => read(bytes), { code: "container_malformed", message });
    refused(
      rewrite((text) => text.replace('"kind"', '"kind":"scale","kind"')),
      /"kind" twice/,
    );
    refused(
      rewrite(() => "{"),
      /not JSON/,
    );
    refused(
      rewrite(() => "[]"),
      /no object/,
    );
    const states = (textBytes: number, bytes = rewrite((text) => text)) => {
      const changed = Buffer.from(bytes);
      changed.writeUInt32LE(textBytes, 16);
      return changed;
    };
    refused(states(10), /inflated/);
    refused(states(4 << 20), /length that it states/);
    refused(states(2 ** 31), /more than/);
    const bomb = rewrite(() => `{"base":"${"a".repeat((1 << 30) >> 2)}"}`); // 256 MB in 260 KB
    refused(bomb, /more than/);
    const before = process.memoryUsage().arrayBuffers;
    refused(states(4 << 20, bomb), /inflated/);
    assert.ok(process.memoryUsage().arrayBuffers - before < 16 << 20);
  });
}

test("a manifest of one version under the other's number is refused", () => {
  for (const version of [1, 2] as const) {
    const bytes = Buffer.from(rewriteManifest(write(everyKind()), version, (text) => text));
    bytes.writeUInt32LE(3 - version, 8);
    assert.throws(() => read(bytes), { name: "AdapterError" });
  }
});

test("refuses infinite values and indices that do not ascend", () => {
  const change = (make: (module: AdapterModule) => void) => {
    const adapter = everyKind();
    for (const module of adapter.modules) make(module);
    return write(adapter);
  };
  const infinite = change((module) => {
    if (module.kind === "prefix") module.values[3] = Infinity;
  });
  assert.throws(() => read(infinite), { code: "non_finite_weights", message: /layer 0, prefix's values/ });
  const content = contentOf(everyKind());
  const withMagnitude = (magnitude: number) => {
    const bytes = new Uint8Array(5 + 2); // four values, of which the second is positive and the fourth negative
    new DataView(bytes.buffer).setFloat32(1, magnitude, true);
    bytes.set([1 << 1, 1 << 3], 5);
    const modules = content.modules.map((module) => {
      if (module.kind !== "sparse") return module;
      const tensor = { codec: "ternary", shape: [4], bytes } as const;
      return { ...module, tensors: { ...module.tensors, values: tensor } };
    });
    return writeContainer({ ...content, modules });
  };
  assert.doesNotThrow(() => read(withMagnitude(2)));
  for (const magnitude of [Infinity, Number.NaN])
    assert.throws(() => read(withMagnitude(magnitude)), {
      code: "non_finite_weights",
      message: /sparse's values/,
    });
  const withIndices = (indices: Uint32Array) => {
    const modules = content.modules.map((module) => {
      if (module.kind !== "sparse") return module;
      const tensor = { codec: "u32", shape: [4], bytes: bytesOf(indices) } as const;
      return { ...module, tensors: { ...module.tensors, indices: tensor } };
    });
    return writeContainer({ ...content, modules });
  };
  assert.doesNotThrow(() => read(withIndices(Uint32Array.of(0, 1, 2, 159))));
  for (const indices of [
    Uint32Array.of(0, 1, 1, 2),
    Uint32Array.of(3, 2, 4, 5),
    Uint32Array.of(0, 1, 2, 160),
  ]) {
    assert.throws(() => read(withIndices(indices)), {
      code: "container_tensor_malformed",
      message: /ascend/,
    });
  }
});

test("a small file cannot ask for much memory or time", () => {
  const ledger = encodeLedger(
    1,
    Array.from({ length: 100_000 }, (_, seed) => ({ seed, scalar: 1 })),
  );
  const rank = 1 << 20;
  const deviation = bytesOf(Float32Array.of(1));
  const module: EncodedModule = {
    kind: "low-rank",
    layer: 0,
    projection: "q",
    own: rank,
    scale: 1,
    tensors: {
      a: { codec: "ledger", shape: [rank, 8], bytes: deviation },
      b: { codec: "ledger", shape: [rank, 12], bytes: deviation },
    },
  };
  const bytes = writeContainer({ ...contentOf({ modules: [] }), modules: [module], ledger });
  assert.throws(() => read(bytes), { code: "container_too_large", message: /too long to replay/ });
});

test("refuses other files and versions", () => {
  const intact = write(everyKind());
  for (const size of [0, 7, 19])
    assert.throws(() => read(intact.slice(0, size)), { code: "container_malformed" });
  assert.throws(() => read(Buffer.from("GGUF".repeat(100))), { code: "container_malformed" });
  const newer = Buffer.from(intact);
  newer.writeUInt32LE(3, 8);
  assert.throws(() => read(newer), { code: "container_version_unsupported" });
});

test("pieces are the file, of the tensors' own memory, and other work has its turns as they are made", async () => {
  const base = { ...fixtureBase, targets: smolTargets };
  const content = contentOf(lowRank(smolTargets, 64, { layers: 4 }), base); // of small tensors
  const { pieces, turns, grownBytes } = await watched(async () => ({
    pieces: await containerPieces(content),
  }));
  const whole = writeContainer(content);
  assert.ok(Buffer.concat([...pieces]).equals(whole));
  assert.ok(turns >= Math.floor(whole.length / 2 ** 20), `${turns} turns`);
  assert.ok(grownBytes < whole.length / 8, `${grownBytes} bytes`);
});

test("writing needs a module", () => {
  assert.throws(() => write({ modules: [] }), { code: "no_modules_matched" });
});

function hugeRank(manifest: Json): void {
  const [module] = manifest.modules;
  module.rank = 2 ** 27;
  module.tensors.a.shape[0] = module.rank;
  module.tensors.b.shape[0] = module.rank;
}

function manyChannels(manifest: Json): void {
  const module = manifest.modules.find(({ kind }: Json) => kind === "channels");
  module.channels = 9;
}

function dropPrefix(manifest: Json): void {
  manifest.modules = manifest.modules.filter(({ kind, layer }: Json) => kind !== "prefix" || layer !== 1);
}
