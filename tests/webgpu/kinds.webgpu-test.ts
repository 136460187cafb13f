// Every kind of adapter on WebGPU: against the same requests alone on the CPU, in one batch that runs before the kinds
// are known, and against the log-probabilities of transformers + PEFT (tests/golden-peft-kinds/README.md).

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { decodeAdapter } from "../../adapters-store/decode-adapter.ts";
import { claimFiles } from "../../adapters-store/formats/index.ts";
import type { AdapterModule, DecodedAdapter } from "../../kernels/adapter.ts";
import { CpuRunner } from "../../kernels/cpu/cpu-runner.ts";
import { adapterTargets } from "../../kernels/model-family.ts";
import type { Logits } from "../../kernels/model-runner.ts";
import {
  distance,
  goldenCase,
  logitRow,
  logSoftmax,
  openGolden,
  temporaryCache,
} from "../golden/golden-case.ts";
import { randomAdapter } from "../golden/random-adapters.ts";
import { BesideAlone, request } from "./beside-alone.ts";
import { openWebgpuCheckpoint, openWebgpuGolden } from "./open-golden.ts";

const cacheDirectory = temporaryCache();

/** Of tests/golden/random-adapters.ts. */
const kinds = {
  lowRank: 1,
  channels: 10,
  scale: 11,
  sparse: 12,
  head: 13,
  embedding: 14,
  all: 17,
  prefix: 18,
  "soft-prompt": 19,
  "low-rank and prefix": 20,
};

test("beside the same requests alone on the CPU", async (t) => {
  const golden = goldenCase("llama");
  const limits = { maxRows: 12, maxContext: 192 };
  const { base } = await openGolden(golden, { cacheDirectory });
  const targets = adapterTargets(base.config);
  const cpu = new CpuRunner(base, limits);
  const runner = await openWebgpuGolden(golden, { cacheDirectory, ...limits });
  const add = (version: string, adapter: DecodedAdapter) => {
    for (const device of [cpu, runner]) device.addAdapter(version, adapter);
  };
  const beside = new BesideAlone(cpu, runner);

  await t.test("the graph grows while rows run that need none of it", async () => {
    add("lowRank", randomAdapter(targets, kinds.lowRank));
    const early = [request("a", "lowRank", 9, 3), request("b", null, 120, 12)];
    for (const row of early) await beside.check(row, 0, await beside.join(row));
    await checkStep(early, 0);
    for (const [version, index] of Object.entries(kinds)) {
      if (version !== "lowRank") add(version, randomAdapter(targets, index));
    }
    const late = Object.keys(kinds).map((version, index) => request(`c${index}`, version, 3 + index, 2));
    for (const row of late) await beside.check(row, 0, await beside.join(row));
    await checkStep([late[3]!, early[1]!, ...late.slice(4), early[0]!, ...late.slice(0, 3)], 1, late);
    await checkStep([...early, ...late], 2, late);
    for (const row of [early[0]!, ...late]) runner.close(row.id);
    for (let index = 3; index < 12; index++) await checkStep([early[1]!], index); // outgrows its arena
    runner.close(early[1]!.id);

    /** @param joined those that joined a step after the others */
    async function checkStep(rows: typeof early, index: number, joined: typeof early = []): Promise<void> {
      const at = (row: (typeof rows)[number]) => (joined.includes(row) ? index - 1 : index);
      const found = await beside.step(rows, at);
      for (const [place, row] of rows.entries()) await beside.check(row, at(row) + 1, found[place]!);
    }
  });

  await t.test("shared, swapped and replaced", async () => {
    const versions = [
      "sparse",
      "all",
      "scale",
      "sparse",
      null,
      "embedding",
      "soft-prompt",
      "all",
      "channels",
    ];
    const requests = versions.map((version, index) =>
      request(`d${index}`, version, 2 + (index % 4), 1 + (index % 3)),
    );
    await beside.checkTogether(requests, 4);
    const row = request("e", "swapped", 4, 1);
    for (const index of [kinds.sparse, kinds.all, kinds.prefix, kinds.sparse]) {
      add("swapped", randomAdapter(targets, index));
      beside.forget(row);
      await beside.checkTogether([row, request("f", "sparse", 3, 1)], 2);
      for (const device of [cpu, runner]) device.removeAdapter("swapped");
    }
  });

  await t.test("what overflows spoils its own row, and nobody who comes after it", async () => {
    const broken = ["scale", "sparse", "head", "embedding", "prefix"] as const;
    for (const kind of broken)
      runner.addAdapter(`broken ${kind}`, overflowing(randomAdapter(targets, kinds[kind])));
    const spoiled = broken.map((kind, index) => request(`g${index}`, `broken ${kind}`, 4, 1));
    const healthy = ["scale", "sparse", null, "all"].map((version, index) =>
      request(`h${index}`, version, 5, 2),
    );
    for (const row of [...spoiled, ...healthy]) await beside.join(row);
    const found = await beside.step([...spoiled, ...healthy], () => 0);
    for (const [index, row] of spoiled.entries()) {
      assert.ok(!found[index]!.every(Number.isFinite), `${row.version} was to overflow`);
    }
    for (const [index, row] of healthy.entries()) {
      await beside.check(row, 1, found[spoiled.length + index]!);
    }
    for (const row of spoiled) {
      runner.close(row.id);
      runner.removeAdapter(row.version!);
    }
    const after = await beside.step(healthy, () => 1);
    for (const [index, row] of healthy.entries()) await beside.check(row, 2, after[index]!);
    for (const row of healthy) runner.close(row.id);
    const followers = ["prefix", null, "embedding", "head", "lowRank"];
    await beside.checkTogether(
      followers.map((version, index) => request(`i${index}`, version, 3, 1)),
      5,
    );
  });

  await t.test("an adapter crosses once, and a step's bytes are small", async () => {
    const rows = ["all", "sparse", "scale", "embedding"].map((version, index) =>
      request(`j${index}`, version, 4, 3),
    );
    for (const row of rows) await beside.join(row);
    await beside.step(rows, () => 0);
    const before = runner.stats();
    await beside.step(rows, () => 1);
    const { busBytes, slotLoads } = runner.stats();
    const logitBytes = rows.length * base.config.vocabSize * 4;
    const bytes = busBytes - before.busBytes - logitBytes;
    assert.ok(bytes < ((64 * 1024) / 16) * rows.length, `${bytes} bytes for ${rows.length} rows`);
    assert.equal(slotLoads, before.slotLoads);
    for (const row of rows.slice(2)) runner.close(row.id);
    await beside.step(rows.slice(0, 2), () => 2);
    const left = runner.stats().busBytes;
    const again = request("k", "scale", 4, 1); // still on the device
    await beside.join(again);
    assert.ok(runner.stats().busBytes - left < 8192, `${runner.stats().busBytes - left} bytes`);
    for (const { id } of [...rows.slice(0, 2), again]) runner.close(id);
  });
  await runner.dispose();
});

/** The same with infinite weights. */
function overflowing({ modules }: DecodedAdapter): DecodedAdapter {
  const infinite = (values: Float32Array) =>
    new Float32Array(values.length).fill(Number.POSITIVE_INFINITY) as Float32Array<ArrayBuffer>;
  return {
    modules: modules.map((module): AdapterModule => {
      switch (module.kind) {
        case "scale":
          return { ...module, scale: infinite(module.scale) };
        case "sparse":
        case "prefix":
          return { ...module, values: infinite(module.values) };
        case "head":
        case "embedding":
          return { ...module, b: infinite(module.b) };
        default:
          throw new RangeError(`${module.kind} is not broken here`);
      }
    }),
  };
}

const peftDirectory = join(import.meta.dirname, "../golden-peft-kinds");
const peftTolerance = 2e-4; // on log-probabilities; the goldens are rounded
const readTokens = 8; // of the prompt; the others are decoded, all adapters in one batch

type PeftGolden = {
  readonly base: string;
  readonly prompt: readonly number[];
  readonly logprobs: readonly (readonly number[])[]; // [prompt, vocab]
};

for (const baseName of readdirSync(join(peftDirectory, "bases"))) {
  test(`PEFT's adapters of ${baseName}`, async () => {
    const goldens = new Map(
      readdirSync(join(peftDirectory, "adapters"))
        .map((name) => [name, peftGolden(name)] as const)
        .filter(([, { base }]) => base === baseName),
    );
    const directory = join(peftDirectory, "bases", baseName);
    const { runner, model } = await openWebgpuCheckpoint(directory, {
      cacheDirectory,
      maxRows: goldens.size,
      maxContext: 64,
    });
    const check = (name: string, position: number, row: Float32Array) => {
      const worst = distance(logSoftmax(row), goldens.get(name)!.logprobs[position]!);
      assert.ok(worst <= peftTolerance, `${name}, position ${position}: ${worst}`);
    };
    const targets = { ...adapterTargets(model.base.config), checkpointDirectory: directory };
    for (const [name, { prompt }] of goldens) {
      runner.addAdapter(name, peftAdapter(name, targets));
      runner.open(name, { adapterVersion: name, prefix: null });
      const tokenIds = prompt.slice(0, readTokens);
      const chunk = { sequence: name, tokenIds, promptLength: prompt.length };
      const logits = await runner.prefill({ ...chunk, logits: "all" });
      for (let row = 0; row < readTokens; row++) check(name, row, logitRow(logits, row));
    }
    const names = [...goldens.keys()];
    const length = goldens.get(names[0]!)!.prompt.length;
    for (let position = readTokens; position < length; position++) {
      const entries = names.map((name) => ({
        sequence: name,
        tokenId: goldens.get(name)!.prompt[position]!,
      }));
      const logits: Logits = await runner.decode(entries);
      for (const [row, name] of names.entries()) check(name, position, logitRow(logits, row));
    }
    await runner.dispose();
  });
}

function peftGolden(name: string): PeftGolden {
  return JSON.parse(readFileSync(join(peftDirectory, "adapters", name, "golden.json"), "utf8"));
}

function peftAdapter(name: string, targets: Parameters<typeof decodeAdapter>[0]["targets"]): DecodedAdapter {
  const directory = join(peftDirectory, "adapters", name);
  const files = claimFiles(readdirSync(directory));
  return decodeAdapter({ directory, files, targets, baseFingerprint: "base" }).adapter;
}
