// What room a job's checkpoints are said to take holds for every method, whatever its settings.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventsOf, openSmallKernel, runJob, smallStart } from "../tests/training-job-fixture.ts";
import { type MethodName, methods } from "./methods/index.ts";
import { optimizers } from "./optimizers/index.ts";
import type { Settings } from "./settings.ts";
import { checkpointNamesBytes, jobMemory } from "./training-memory.ts";

let on: Awaited<ReturnType<typeof openSmallKernel>>;
before(async () => {
  on = await openSmallKernel();
});
after(() => on.kernel.close());

const smallBytes = 4096; // counts by layer and matrix, which belong to the names
const loggedBytes = 16; // of a step
const further: Partial<Record<MethodName, Settings[]>> = {
  lora: [
    { initializer: "eva" },
    { rank_allocation: "adalora", rank: 4, adalora_target_rank: 2, adalora_interval: 1 },
    { layers: "ist", layers_per_step: 1 },
    { layers: "lisa", layers_per_step: 1 },
  ],
  sparse: [
    { rewind: true, regrow_steps: 0 },
    { regrow_steps: 2, growth_steps: 1, drop_rate: 0.5, density: 0.2 },
  ],
};

for (const name of Object.keys(methods) as MethodName[]) {
  for (const settings of [{}, ...(further[name] ?? [])]) {
    test(`${name} ${JSON.stringify(settings)}`, async () => {
      for (const optimizer of ["adamw", "lion"] as const) {
        const start = smallStart({
          method: { name, settings },
          ...(optimizer === "lion" && { optimizer: { name: optimizer, settings: optimizers.lion.defaults } }),
          checkpointSteps: 1,
        });
        const checkpoints = eventsOf(await runJob(start, on), "checkpoint");
        const { checkpointBytes } = jobMemory(start, on.targets);
        for (const { checkpoint } of checkpoints) {
          const { arrays, values, step } = checkpoint;
          const arrayBytes = Object.values(arrays).reduce((sum, array) => sum + array.byteLength, 0);
          const limitBytes = checkpointBytes - checkpointNamesBytes + smallBytes + loggedBytes * step;
          assert.ok(arrayBytes <= limitBytes, `${arrayBytes} bytes at step ${step}, said ${limitBytes}`);
          const names = JSON.stringify([Object.keys(arrays), Object.keys(values)]);
          assert.ok(names.length + 64 * Object.keys(arrays).length < checkpointNamesBytes);
        }
      }
    });
  }
}
