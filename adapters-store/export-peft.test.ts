import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type DecodedAdapter, type LowRankModule, modulesOf, type Projection } from "../kernels/adapter.ts";
import { everyKind, lowRank } from "./container/container-fixture.ts";
import { exportPeft, type PeftExport } from "./export-peft.ts";
import { adapterFormats } from "./formats/index.ts";
import { fixtureTargets } from "./peft-fixture.ts";

const directory = mkdtempSync(join(tmpdir(), "cotenant-export-"));
after(() => rmSync(directory, { recursive: true }));

test("our PEFT reader gets the same modules back", () => {
  const adapter = lowRank(fixtureTargets, 3);
  assert.deepEqual(byPlace(exported(adapter)), byPlace(adapter));
  assert.deepEqual(config().target_modules.toSorted(), [
    ..."down_proj gate_proj k_proj o_proj q_proj up_proj v_proj".split(" "),
  ]);
});

test("ranks that differ and layers without the module", () => {
  const modules = [
    ...lowRank(fixtureTargets, 2, { layers: 1, projections: ["q", "up"] }).modules,
    ...lowRank(fixtureTargets, 4, { layers: 3, projections: ["q"] }).modules.slice(1),
  ];
  assert.deepEqual(byPlace(exported({ modules })), byPlace({ modules }));
  assert.ok(config().target_modules.includes("model.layers.0.mlp.up_proj"));
});

test("projections that the base stores as one tensor", () => {
  const own = lowRank(fixtureTargets, 2, { layers: 1, projections: ["q", "k", "v", "gate"] });
  assertSameDeltas(exported(own, { fusedProjections: true }), own);
  assert.equal(config().r, 6, "q, k and v read x in their own ways");
  const [q, k, v] = modulesOf(own, "low-rank") as [LowRankModule, LowRankModule, LowRankModule];
  const sharing = { modules: [q, { ...k, a: q.a }, { ...v, a: q.a.slice() }] };
  assertSameDeltas(exported(sharing, { fusedProjections: true }), sharing);
  assert.equal(config().r, 2, "an A that they share is stored once");
});

test("refuses what a LoRA directory cannot hold, by name", () => {
  assert.throws(() => exported(everyKind()), { code: "adapter_export_unsupported", message: /channels/ });
});

function exported(adapter: DecodedAdapter, options: Partial<PeftExport> = {}): DecodedAdapter {
  exportPeft(adapter, {
    directory,
    targets: fixtureTargets,
    baseModelName: "base",
    fusedProjections: false,
    ...options,
  });
  return adapterFormats.peft.decode(directory, fixtureTargets, "base");
}

function config(): { r: number; target_modules: string[] } {
  return JSON.parse(readFileSync(join(directory, "adapter_config.json"), "utf8"));
}

function byPlace(adapter: DecodedAdapter): Map<string, LowRankModule> {
  const modules = modulesOf(adapter, "low-rank");
  return new Map(modules.map((module) => [`${module.layer} ${module.projection}`, module] as const).sort());
}

/** W of every place, zero where there is no module. */
function assertSameDeltas(one: DecodedAdapter, other: DecodedAdapter): void {
  for (const projection of Object.keys(fixtureTargets.shapes) as Projection[]) {
    for (let layer = 0; layer < fixtureTargets.layers; layer++) {
      const place = `${layer} ${projection}`;
      const [ours, theirs] = [one, other].map((adapter) => delta(byPlace(adapter).get(place), projection));
      assert.ok(
        ours!.every((value, i) => Math.abs(value - theirs![i]!) < 1e-6),
        place,
      );
    }
  }
}

function delta(module: LowRankModule | undefined, projection: Projection): Float64Array {
  const { in: width, out } = fixtureTargets.shapes[projection];
  const weights = new Float64Array(width * out);
  for (let r = 0; r < (module?.rank ?? 0); r++) {
    for (let i = 0; i < weights.length; i++) {
      weights[i]! += module!.a[r * width + (i % width)]! * module!.b[r * out + Math.floor(i / width)]!;
    }
  }
  return weights;
}
