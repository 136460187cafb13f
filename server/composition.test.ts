import assert from "node:assert/strict";
import { test } from "node:test";
import type { CompositionPart } from "../adapters-store/combine/composition.ts";
import { Compositions } from "./composition.ts";
import type { DerivedVersion } from "./derived-versions.ts";
import type { ServedAdapter } from "./served-adapters.ts";

const layers = 3;
const directory = {
  baseName: "base",
  adapter: (id: string) =>
    ["a", "b", "alias-of-a"].includes(id)
      ? ({
          id,
          version: `v-${id === "alias-of-a" ? "a" : id}`,
          summary: { decodedBytes: 10 },
        } as ServedAdapter)
      : undefined,
};

function scene() {
  const registered = new Map<string, DerivedVersion>();
  const composed: (readonly CompositionPart[])[] = [];
  const compositions = new Compositions({
    layers,
    derived: { register: (version, derived) => void registered.set(version, derived) },
    deriver: {
      compose: async (parts) => {
        composed.push(parts);
        return { modules: [] };
      },
    },
  });
  const resolve = (adapters: readonly object[] | null, model = "base", adapterId: string | null = null) =>
    compositions.resolve({ model, adapterId, adapters, mode: null, owner: "acme" }, directory);
  const resolveLogits = (adapters: readonly object[]) =>
    compositions.resolve(
      { model: "base", adapterId: null, adapters, mode: "logits", owner: "acme" },
      directory,
    );
  return { registered, composed, resolve, resolveLogits };
}

const a = { id: "a", weight: 0.5 };
const b = { id: "b", weight: -1, layers: [{ from: 1, to: 2, weight: 2 }] };

test("several adapters become a version that is made of their weights", async () => {
  const { registered, composed, resolve } = scene();
  const { name, adapter, usageVersion } = resolve([b, a]);
  assert.equal(name, "base");
  assert.equal(usageVersion, "composed"); // the ledger's rows are bounded
  assert.match(adapter!.version, /^compose:[0-9a-f]{64}$/);
  const derived = registered.get(adapter!.version)!;
  assert.deepEqual(derived.parents, ["v-a", "v-b"]);
  assert.equal(derived.sizeBytes, 20);
  assert.equal(derived.owner, "acme");
  await derived.make();
  assert.deepEqual(composed, [
    [
      { version: "v-a", weight: 0.5, layerWeights: [0.5, 0.5, 0.5] },
      { version: "v-b", weight: -1, layerWeights: [-1, 2, 2] },
    ],
  ]);
});

test("what means the same has the same version, what does not has another", () => {
  const { resolve } = scene();
  const versionOf = (adapters: readonly object[]) => resolve(adapters).adapter!.version;
  const version = versionOf([a, b]);
  assert.equal(versionOf([b, a]), version);
  assert.equal(versionOf([{ id: "alias-of-a", weight: 0.25 }, { id: "a", weight: 0.25 }, b]), version);
  assert.equal(versionOf([a, b, { id: "base", weight: 7 }, { id: "a", weight: 0 }]), version);
  assert.notEqual(versionOf([a, { ...b, weight: 1 }]), version);
  assert.notEqual(versionOf([a, { ...b, layers: [] }]), version);
});

test("one adapter with weight 1 is that adapter, nothing but the base is the base", () => {
  const { registered, resolve } = scene();
  const one = resolve([{ id: "a", weight: 1, layers: [{ from: 0, to: 2, weight: 1 }] }]);
  assert.equal(one.name, "a");
  assert.equal(one.adapter?.version, "v-a");
  assert.equal(one.usageVersion, "v-a");
  for (const list of [[{ id: "base", weight: 1 }], [{ id: "a", weight: 0 }]]) {
    assert.deepEqual(resolve(list), { name: "base", adapter: null, blend: null, usageVersion: null });
  }
  assert.equal(registered.size, 0);
  assert.notEqual(resolve([{ id: "a", weight: 0.5 }]).adapter?.version, "v-a");
  const outsideLayersOnly = [{ id: "a", weight: 0, layers: [{ from: 0, to: 2, weight: 1 }] }];
  assert.notEqual(resolve(outsideLayersOnly).adapter?.version, "v-a");
});

test("a second name for the adapter is refused, whichever field has it", () => {
  const { resolve } = scene();
  assert.equal(resolve([a], "base", "").name, "base");
  assert.equal(resolve([a], "base", "__base_model__").name, "base");
  const conflict = { code: "adapters_conflict", param: "adapters" };
  assert.throws(() => resolve([a], "a"), conflict);
  assert.throws(() => resolve([a], "base:b"), conflict);
  assert.throws(() => resolve([a], "base", "b"), conflict);
});

test("unknown adapters and layers that the model has not are refused where they stand", () => {
  const { resolve } = scene();
  assert.throws(() => resolve([a, { id: "nobody", weight: 1 }]), {
    code: "model_not_found",
    param: "adapters[1].id",
  });
  const beyond = { id: "a", weight: 1, layers: [{ from: 0, to: 3, weight: 1 }] };
  assert.throws(() => resolve([beyond]), {
    code: "composition_invalid",
    message: /adapters\[0\]\.layers\[0\]/,
  });
});

test("logits: what the weights leave of one is the base's, and nothing is composed", () => {
  const { registered, resolveLogits } = scene();
  const { blend } = resolveLogits([a, { id: "b", weight: 1.25 }]);
  const weights = blend!.members.map(({ adapterVersion, weight }) => [adapterVersion === null, weight]);
  assert.deepEqual(weights, [
    [true, -0.75],
    [false, 0.5],
    [false, 1.25],
  ]);
  assert.equal(
    resolveLogits([a, { ...b, layers: [], weight: 0.5 }]).blend!.members.length,
    2,
    "none of the base",
  );
  assert.deepEqual(resolveLogits([a, a]), { ...resolveLogits([a, a]), name: "a", blend: null });
  assert.equal(resolveLogits([{ id: "base", weight: 3 }]).blend, null);
  assert.throws(() => resolveLogits([b]), { code: "invalid_value" });
  assert.equal(registered.size, 0);
});
