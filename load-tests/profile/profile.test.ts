import assert from "node:assert/strict";
import { test } from "node:test";
import { type CpuProfile, insideRuntime, timesByPlace } from "./cpu-samples.ts";
import { sessionProfile } from "./operator-times.ts";
import { sessionReport } from "./profile-report.ts";

const vocabSize = 100;

/** A run's events: two nodes of 10 and 20 us in each of two layers, and a head that makes logits of some rows. */
function run(startUs: number, rows: number, slowdown = 1) {
  const node = (name: string, offsetUs: number, dur: number, shape: number[]) => ({
    cat: "Node",
    name: `${name}_kernel_time`,
    ts: startUs + offsetUs,
    dur: dur * slowdown,
    args: { op_name: name.split("_")[0], output_type_shape: [{ float: shape }] },
  });
  return [
    { cat: "Session", name: "model_run", ts: startUs, dur: 100 * slowdown, args: {} },
    node("MatMul_0", 1, 20, [rows, 8]),
    node("Add_1", 21, 10, [rows, 8]),
    node("MatMul_2", 31, 20, [rows, 16]),
    node("Add_3", 51, 10, [rows, 8]),
    node("Head_4", 61, 30, [rows, vocabSize]),
  ];
}

test("only the last runs count, by the median of each node", () => {
  const trace = [...run(0, 2, 50), ...run(1000, 4), ...run(2000, 4, 9), ...run(3000, 4)];
  const profile = sessionProfile(JSON.stringify(trace), { steps: 3, logitRows: 12, vocabSize });
  assert.equal(profile.runsPerStep, 1);
  assert.equal(profile.nodesPerRun, 5);
  assert.equal(profile.msPerStep.toFixed(6), "0.100000");
  assert.equal(profile.kernelMsPerStep.toFixed(6), "0.090000");
  assert.deepEqual(
    profile.operators.map(({ operator, nodesPerRun, msPerStep }) => [
      operator,
      nodesPerRun,
      msPerStep.toFixed(3),
    ]),
    [
      ["MatMul", 2, "0.040"],
      ["Head", 1, "0.030"],
      ["Add", 2, "0.020"],
    ],
  );
  const shapes = profile.byShape.map(({ operator, output }) => `${operator} ${output}`).sort();
  assert.deepEqual(shapes, ["Add [4,8]", "Head [4,100]", "MatMul [4,16]", "MatMul [4,8]"]);
  assert.match(sessionReport(profile, 2), /5 nodes a run, 2\.5 a layer \(2 layers\)/);
});

test("a step of two runs and a prompt's chunks without logits are added up", () => {
  const counted = { steps: 1, logitRows: 4, vocabSize };
  const halves = sessionProfile(JSON.stringify([...run(0, 4), ...run(1000, 2), ...run(2000, 2)]), counted);
  assert.equal(halves.runsPerStep, 2);
  assert.equal(halves.msPerStep.toFixed(3), "0.200");
  const prompts = [...run(0, 1), ...run(1000, 0), ...run(2000, 0), ...run(3000, 1)];
  const prompt = sessionProfile(JSON.stringify(prompts), { ...counted, logitRows: 1 });
  assert.equal(prompt.runsPerStep, 3);
});

test("a profile with fewer logits than the steps asked for is refused", () => {
  const counted = { steps: 2, logitRows: 8, vocabSize };
  assert.throws(() => sessionProfile(JSON.stringify(run(0, 4)), counted), /lacks 4 of 8/);
});

test("samples count for the function of ours that was at work, within the windows", () => {
  const frame = (id: number, functionName: string, url: string, children: number[] = []) => ({
    id,
    callFrame: { functionName, url },
    children,
  });
  const profile: CpuProfile = {
    startTime: 1000,
    nodes: [
      frame(1, "(root)", "", [2, 5, 6]),
      frame(2, "append", "file:///repo/kernels/cpu/kv-arena.ts", [3, 4]),
      frame(3, "set", ""),
      frame(4, "get data", "file:///repo/node_modules/onnxruntime-common/dist/tensor.js"),
      frame(5, "", "file:///repo/node_modules/onnxruntime-node/dist/backend.js"),
      frame(6, "(garbage collector)", ""),
    ],
    //          1000 1100 1200 1300 1400 1500
    samples: [2, 3, 4, 5, 6, 5],
    timeDeltas: [0, 100, 100, 100, 100, 100],
  };
  const windows = [
    { startUs: 1050, endUs: 1250 },
    { startUs: 1300, endUs: 9999 },
  ];
  const times = timesByPlace(profile, windows, "file:///repo/");
  const rounded = times.map(({ place, ms }) => ({ place, ms: ms.toFixed(2) }));
  assert.deepEqual(rounded, [
    { place: "kernels/cpu/kv-arena.ts append", ms: "0.15" },
    { place: insideRuntime, ms: "0.10" },
    { place: "(garbage collector)", ms: "0.10" },
    { place: "onnxruntime-common", ms: "0.05" },
  ]);
});
