// What is kept of ledgers, and whose it is. Their content is finetuning/methods/mezo.test.ts' business.

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { JobCheckpoint } from "../../finetuning/job.ts";
import type { AdapterTargets } from "../../kernels/adapter.ts";
import { defaultTenant } from "../tenancy/tenant.ts";
import { fixtureJob, fixturePlan, fixtureSpec } from "./job-fixture.ts";
import type { PlannedJob } from "./job-record.ts";
import { SeedLedgers } from "./seed-ledgers.ts";

const spec = { ...fixtureSpec, method: { name: "mezo", settings: {} } } as const;
const job = (id: string, tenantId: string, changes: Partial<PlannedJob> = {}) =>
  fixtureJob({
    id,
    tenant: { ...defaultTenant, id: tenantId },
    plan: { ...fixturePlan, spec },
    ...changes,
  }) as PlannedJob;

function checkpoint(steps: number): JobCheckpoint {
  return {
    step: steps,
    values: {},
    arrays: {
      "stepper.ledger.seeds": new Uint32Array(steps),
      "stepper.ledger.scalars": new Float32Array(steps),
    },
  };
}

test("a job that goes on from further back leaves the ledger of its later checkpoints alone", async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-ledgers-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const open = () => SeedLedgers.open(directory, { targets: {} as AdapterTargets, ownerOf: () => "acme" });
  const content = () => readFileSync(join(directory, "one.ledger"));
  const first = await open();
  await first.keep(job("one", "acme"), checkpoint(5));
  const longest = content();
  for (const ledgers of [first, await open()]) {
    await ledgers.keep(job("one", "acme"), checkpoint(3));
    assert.deepEqual(content(), longest);
    assert.equal(ledgers.storedBytes("acme"), longest.length);
  }
  await first.keep(job("one", "acme"), checkpoint(6));
  assert.equal(content().length, longest.length + 8);
});

test("ledgers count for their tenant, over restarts too, and what a kill left half written goes", async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-ledgers-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const owners: Record<string, string> = { one: "acme", two: "acme", three: "globex" };
  const open = () =>
    SeedLedgers.open(directory, { targets: {} as AdapterTargets, ownerOf: (id) => owners[id] ?? null });
  const first = await open();
  await first.keep(job("one", "acme"), checkpoint(2));
  await first.keep(job("one", "acme"), checkpoint(5));
  await first.keep(job("two", "acme"), checkpoint(1));
  await first.keep(job("three", "globex"), checkpoint(3));
  await first.keep(job("from", "acme", { parent: { id: "p", version: "v" } }), checkpoint(9)); // has none
  await first.keep(job("lora", "acme", { plan: fixturePlan }), checkpoint(9));
  writeFileSync(join(directory, "one.ledger.partial"), "half");
  writeFileSync(join(directory, "unknown.ledger"), "nobody's");
  const bytesOf = (ledgers: SeedLedgers) => ["acme", "globex", "other"].map((id) => ledgers.storedBytes(id));
  const expected = [4 + 5 * 8 + 4 + 8, 4 + 3 * 8, 0];
  assert.deepEqual(bytesOf(first), expected);
  const second = await open();
  assert.deepEqual(bytesOf(second), expected);
  assert.deepEqual(
    readdirSync(directory).sort(),
    ["one", "three", "two", "unknown"].map((id) => `${id}.ledger`),
  );
  await assert.rejects(second.remove(job("one", "acme", { status: "paused" })), {
    code: "job_state",
    message: /one is paused .* cancel it first/,
  });
  await second.remove(job("one", "acme", { status: "succeeded" }));
  await assert.rejects(second.remove(job("one", "acme", { status: "succeeded" })), {
    code: "ledger_not_found",
  });
  assert.deepEqual(bytesOf(second), [4 + 8, 4 + 3 * 8, 0]);
  assert.deepEqual(bytesOf(await open()), [4 + 8, 4 + 3 * 8, 0]);
});
