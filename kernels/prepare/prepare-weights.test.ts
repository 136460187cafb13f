// The cache of prepared weights: a half-written one is never used, damage is named, and processes do not collide.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { goldenCase } from "../../tests/golden/golden-case.ts";
import { openReference } from "../../tests/golden/reference-model.ts";
import { float16ToFloat32 } from "../checkpoint/float16.ts";
import { openCheckpointWeights } from "../checkpoint/weights.ts";
import { tensorOf, writeSafetensors } from "../checkpoint/write-safetensors.ts";
import { CheckpointError } from "../errors.ts";
import { type MatrixEncoding, planLayout } from "./layout.ts";
import { type PrepareOptions, prepareWeights } from "./prepare-weights.ts";

const { directory: checkpoint } = goldenCase("llama");
const workspace = mkdtempSync(join(tmpdir(), "cotenant-prepare-"));
after(() => rmSync(workspace, { recursive: true, force: true }));

let caches = 0;
const freshCache = () => join(workspace, `cache-${caches++}`);

function optionsFor(
  cacheDirectory: string,
  modelDirectory = checkpoint,
  encoding: MatrixEncoding = "int4",
): PrepareOptions {
  using model = openReference(modelDirectory);
  const layout = planLayout({ ...model, encoding });
  return { modelDirectory, cacheDirectory, key: "key", layout, threads: 2, onProgress: () => undefined };
}

/** The same in a process of its own. @returns its exit code, or the signal that ended it */
function prepareInProcess(cacheDirectory: string, onProgress = ""): Promise<number | string | null> {
  const code = `import(${JSON.stringify(import.meta.resolve("./prepare-weights.ts"))}).then(({ prepareWeights }) =>
    prepareWeights({ ...JSON.parse(process.argv[1]), onProgress: (done, total) => { ${onProgress} } }))`;
  const child = spawn(process.execPath, ["-e", code, JSON.stringify(optionsFor(cacheDirectory))], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  return new Promise((resolve) => child.once("exit", (exitCode, signal) => resolve(exitCode ?? signal)));
}

const contents = (directory: string) => readFileSync(join(directory, "weights.bin"));
const entries = (cacheDirectory: string) => readdirSync(join(cacheDirectory, "prepared"));
const expected = contents(await prepareWeights(optionsFor(freshCache())));

test("a second call takes what is there", async () => {
  const cache = freshCache();
  await prepareWeights(optionsFor(cache));
  let progress = 0;
  await prepareWeights({ ...optionsFor(cache), onProgress: () => progress++ });
  assert.equal(progress, 0);
});

test("progress ends at the total", async () => {
  const seen: [number, number][] = [];
  await prepareWeights({ ...optionsFor(freshCache()), onProgress: (...step) => seen.push(step) });
  assert.ok(seen.length > 5);
  assert.ok(seen.every(([done], index) => index === 0 || done > seen[index - 1]![0]));
  assert.equal(seen.at(-1)![0], seen.at(-1)![1]);
});

test("what a killed process left is not used", async () => {
  const cache = freshCache();
  assert.equal(
    await prepareInProcess(cache, "if (done > total / 2) process.kill(process.pid, 'SIGKILL')"),
    "SIGKILL",
  );
  assert.ok(!existsSync(join(cache, "prepared", "key")));
  assert.equal(entries(cache).length, 1, "the half-written directory lies beside");
  const directory = await prepareWeights(optionsFor(cache));
  assert.deepEqual(contents(directory), expected);
});

test("two processes at once both succeed", async () => {
  const cache = freshCache();
  const codes = await Promise.all([prepareInProcess(cache), prepareInProcess(cache)]);
  assert.deepEqual(codes, [0, 0]);
  assert.deepEqual(entries(cache), ["key"]);
  assert.deepEqual(contents(join(cache, "prepared", "key")), expected);
});

test("two callers in one process both succeed", async () => {
  const cache = freshCache();
  const options = optionsFor(cache);
  const directories = await Promise.all([1, 2, 3].map(() => prepareWeights(options)));
  assert.deepEqual(entries(cache), ["key"]);
  for (const directory of directories) assert.deepEqual(contents(directory), expected);
});

test("float16 takes half of float32 and is off by half of its last bit", async () => {
  const options = optionsFor(freshCache(), checkpoint, "float16");
  const { layout } = options;
  const file = contents(await prepareWeights(options));
  using weights = openCheckpointWeights(checkpoint);
  for (const { rows, columns, sources, data } of layout.matrices) {
    assert.equal(data.length, rows * columns * 2);
    const found = new Float32Array(rows * columns);
    const bytes = Uint8Array.from(file.subarray(data.offset, data.offset + data.length));
    float16ToFloat32(new Uint16Array(bytes.buffer), found);
    const stored = sources.map(({ name, firstRow, rows: count }) =>
      weights.readFloat32Rows(name, firstRow, count),
    );
    for (const [at, value] of stored.flatMap((part) => [...part]).entries()) {
      const bound = Math.max(Math.abs(value) * 2 ** -11, 2 ** -25);
      assert.ok(Math.abs(found[at]! - value) <= bound, `${value} became ${found[at]}`);
    }
  }
});

test("a weight that float16 does not hold is refused by its tensor, with what to do, and others are not", async () => {
  const large = join(workspace, "large");
  cpSync(checkpoint, large, { recursive: true });
  const name = "model.layers.0.mlp.up_proj.weight";
  const withWeight = (weight: number) =>
    rewriteTensor(large, name, (values) => {
      values[3] = weight;
    });
  withWeight(65_504);
  await prepareWeights(optionsFor(freshCache(), large, "float16"));
  withWeight(-65_505);
  await assert.rejects(prepareWeights(optionsFor(freshCache(), large, "float16")), {
    code: "weights_exceed_float16",
    message: /up_proj\.weight has a weight of -65505.*--quantize int8 or none$/,
  });
});

test("a tensor that is not finite is named, and nothing is left behind", async () => {
  const damaged = join(workspace, "damaged");
  cpSync(checkpoint, damaged, { recursive: true });
  const name = "model.layers.1.mlp.down_proj.weight";
  rewriteTensor(damaged, name, (values) => {
    values[values.length - 1] = Number.NaN;
  });
  const cache = freshCache();
  await assert.rejects(prepareWeights(optionsFor(cache, damaged)), (error) => {
    assert.ok(error instanceof CheckpointError);
    assert.equal(error.code, "non_finite_weights");
    assert.ok(error.message.includes(name), error.message);
    return true;
  });
  assert.deepEqual(entries(cache), []);
});

function rewriteTensor(directory: string, name: string, change: (values: Float32Array) => void): void {
  using weights = openCheckpointWeights(directory);
  const tensors = [...weights.tensors].map(([tensor, { shape }]) => {
    const values = weights.readFloat32(tensor);
    if (tensor === name) change(values);
    return tensorOf(tensor, shape, values);
  });
  writeSafetensors(join(directory, "model.safetensors"), tensors);
}
