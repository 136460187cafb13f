// The check of a device against the CPU: it passes where both are alike, and every fault put into a runner is found.

import assert from "node:assert/strict";
import { test } from "node:test";
import { goldenCase, temporaryCache } from "../../tests/golden/golden-case.ts";
import { prepareBase } from "../base-model.ts";
import type { Logits, ModelRunner } from "../model-runner.ts";
import { shortenedBase } from "../shortened-base.ts";
import { openExactCpu } from "./cpu.ts";
import { assertSame, checkedRows, checkLimits, distance } from "./self-check.ts";

const base = await prepareBase({
  modelDirectory: goldenCase("llama").directory,
  cacheDirectory: temporaryCache(),
  encoding: "float32",
  threads: 1,
  onProgress: () => undefined,
});
const openRunner = () => openExactCpu(base, { ...checkLimits, threads: 1 });
const expected = await checkedRows(await openRunner(), base.config);

/** What a check makes of a runner that differs in the given methods. */
async function verdict(faults: (runner: ModelRunner) => Partial<ModelRunner>): Promise<void> {
  const runner = await openRunner();
  const faulty = faults(runner);
  const proxy = new Proxy<ModelRunner>(runner, {
    get(target, name) {
      const value: unknown = Reflect.get(faulty, name) ?? Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  assertSame(await checkedRows(proxy, base.config), expected);
}

const changed = async (run: Promise<Logits>, change: (data: Float32Array) => void): Promise<Logits> => {
  const logits = await run;
  change(logits.data);
  return logits;
};
const isWrong = { code: "device_computes_wrong" };

test("the same runner passes", () => verdict(() => ({})));

test("a runner that drops an adapter, or takes one for the other, is found", async () => {
  for (const taken of [[], ["check-a", "check-a"], ["check-b", "check-a"]]) {
    const open =
      (runner: ModelRunner): ModelRunner["open"] =>
      (id, options) => {
        const { adapterVersion } = options;
        const other =
          adapterVersion === null ? null : (taken[["check-a", "check-b"].indexOf(adapterVersion)] ?? null);
        return runner.open(id, { ...options, adapterVersion: other });
      };
    await assert.rejects(
      verdict((runner) => ({ open: open(runner) })),
      isWrong,
    );
  }
});

test("rows that are decoded for each other are found", async () => {
  const decode =
    (runner: ModelRunner): ModelRunner["decode"] =>
    async (entries) =>
      changed(runner.decode(entries), (data) => {
        if (entries.length === 1) return;
        const width = data.length / entries.length;
        const [first, second] = [data.slice(0, width), data.slice(width, 2 * width)];
        data.set(second, 0);
        data.set(first, width);
      });
  await assert.rejects(
    verdict((runner) => ({ decode: decode(runner) })),
    isWrong,
  );
});

test("a single logit of a prompt's 33rd token that is off, or no number, is found", async () => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, 1]) {
    const prefill =
      (runner: ModelRunner): ModelRunner["prefill"] =>
      async (chunk) =>
        changed(runner.prefill(chunk), (data) => {
          const at = 32 * base.config.vocabSize + 5;
          if (data.length > at) data[at]! += value;
        });
    await assert.rejects(
      verdict((runner) => ({ prefill: prefill(runner) })),
      isWrong,
    );
  }
});

test("what a device tells of a row for a draw is held against the CPU's row", () => {
  const row = Float32Array.of(1, -3, 2, 0.5);
  const total = row.reduce((sum, logit) => sum + Math.exp(logit - 2), 0);
  const told = { tokenIds: [2], logits: Float32Array.of(2), largest: 2, total };
  const rest = { before: 0, unchanged: new Map(), report: null };
  const distanceOf = (change: Partial<typeof told>) => distance({ ...rest, ...told, ...change }, row);
  assert.ok(distanceOf({}) < 1e-6);
  for (const wrong of [
    { tokenIds: [0] },
    { tokenIds: [4] },
    { logits: Float32Array.of(1.9) },
    { largest: 1.9 },
    { total: total + 0.1 },
  ]) {
    assert.ok(!(distanceOf(wrong) < 1e-2), JSON.stringify(wrong));
  }
});

test("a shortened model has each kind of layer, in the checkpoint's order, and at least two", () => {
  const config = {
    ...base.config,
    layers: 12,
    layerRotary: Array<number>(12).fill(1),
    layerWindow: Array<number>(12).fill(4),
  };
  const full = {
    ...config,
    layerRotary: config.layerRotary.with(5, 0).with(11, 0),
    layerWindow: config.layerWindow.with(5, 9).with(11, 9),
  };
  const layers = Array.from({ length: 12 }, (_, index) => ({ index })) as never;
  const few = shortenedBase({ ...base, config: full, layout: { ...base.layout, layers } });
  assert.deepEqual(few.layout.layers, [{ index: 0 }, { index: 5 }]);
  assert.deepEqual(
    [few.config.layerRotary, few.config.layerWindow],
    [
      [1, 0],
      [4, 9],
    ],
  );
});
