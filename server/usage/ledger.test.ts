import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { createLogger } from "../logger.ts";
import { openUsageLedger, type Usage, type UsageDimension } from "./ledger.ts";

const logger = createLogger("silent");
const hour = 3600;
const day = 24 * hour;

async function pathOf(context: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "cotenant-ledger-"));
  context.after(() => rm(directory, { recursive: true }));
  return join(directory, "usage.sqlite");
}

const usage: Usage = {
  tenantId: "acme",
  model: "orders",
  adapterVersion: "v1",
  promptTokens: 10,
  cachedPromptTokens: 4,
  completionTokens: 5,
};

const use = fc.record({
  atHour: fc.integer({ min: 0, max: 50 }),
  tenantId: fc.constantFrom("acme", "globex"),
  model: fc.constantFrom("base", "orders", "tickets"),
  adapterVersion: fc.constantFrom(null, "v1", "v2"),
  promptTokens: fc.nat(1000),
  cachedPromptTokens: fc.nat(1000),
  completionTokens: fc.nat(1000),
});

const query = fc.record({
  tenantId: fc.constantFrom(null, "acme", "globex"),
  from: fc.integer({ min: 0, max: 50 }),
  length: fc.integer({ min: 1, max: 50 }),
  widthSeconds: fc.constantFrom(hour, day),
  groupBy: fc.subarray<UsageDimension>(["tenant", "model", "version"]),
});

test("reports are the sums of what was recorded, whenever it was written", () => {
  fc.assert(
    fc.property(fc.array(use, { maxLength: 40 }), query, fc.nat(3), (uses, asked, flushEvery) => {
      let nowMs = 0;
      const ledger = openUsageLedger({ path: ":memory:", logger, nowMs: () => nowMs });
      for (const [index, { atHour, ...one }] of uses.entries()) {
        nowMs = (atHour * hour + 1799) * 1000;
        ledger.record(one);
        if (flushEvery > 0 && index % flushEvery === 0) ledger.flush();
      }
      const { tenantId, from, length, widthSeconds, groupBy } = asked;
      const range = { startSeconds: from * hour, endSeconds: (from + length) * hour };
      const rows = ledger.report({ tenantId, ...range, widthSeconds, groupBy });
      const expected = new Map<string, number[]>();
      for (const one of uses) {
        const at = one.atHour * hour;
        if (at < range.startSeconds || at >= range.endSeconds) continue;
        if (tenantId !== null && one.tenantId !== tenantId) continue;
        const names = { tenant: one.tenantId, model: one.model, version: one.adapterVersion ?? "" };
        const key = JSON.stringify([at - (at % widthSeconds), ...groupBy.map((name) => names[name])]);
        const sums = expected.get(key) ?? [0, 0, 0, 0];
        const added = [1, one.promptTokens, one.cachedPromptTokens, one.completionTokens];
        expected.set(
          key,
          sums.map((sum, index) => sum + added[index]!),
        );
      }
      const actual = rows.map((row) => [
        JSON.stringify([row.startSeconds, ...groupBy.map((name) => row[name])]),
        [row.requests, row.promptTokens, row.cachedPromptTokens, row.completionTokens],
      ]);
      assert.deepEqual(Object.fromEntries(actual), Object.fromEntries(expected));
      const starts = rows.map(({ startSeconds }) => startSeconds);
      assert.deepEqual(
        starts,
        starts.toSorted((left, right) => left - right),
      );
      ledger.close();
    }),
    { numRuns: 60 },
  );
});

test("what was recorded is there after a clean end, and adds up over restarts", async (context) => {
  const path = await pathOf(context);
  for (let start = 1; start <= 3; start++) {
    const ledger = openUsageLedger({ path, logger, nowMs: () => 100 * hour * 1000 });
    ledger.record(usage);
    assert.equal(ledger.tokensSince("acme", 96 * hour), start * 30 - 15);
    assert.equal(ledger.tokensSince("acme", 101 * hour), 0);
    assert.equal(ledger.tokensSince("globex", 0), 0);
    ledger.record(usage);
    ledger.record({ ...usage, tenantId: "other" });
    ledger.close();
    assert.deepEqual(sumsIn(path), [start * 45, start * 3]);
  }
});

/** By another connection, past the class. */
function sumsIn(path: string): number[] {
  const database = new DatabaseSync(path, { readOnly: true });
  const row = database
    .prepare("SELECT sum(prompt_tokens + completion_tokens) AS tokens, sum(requests) AS requests FROM usage")
    .get()!;
  database.close();
  return [Number(row.tokens), Number(row.requests)];
}

test("kill -9 costs at most what the last flush period recorded", async (context) => {
  const path = await pathOf(context);
  const module = fileURLToPath(new URL("./ledger.ts", import.meta.url));
  const script = `
    import { openUsageLedger } from ${JSON.stringify(module)};
    const logger = { error(event) { console.error(event); } };
    const ledger = openUsageLedger({ path: ${JSON.stringify(path)}, logger, flushMs: 50 });
    let recorded = 0;
    setInterval(() => {
      ledger.record(${JSON.stringify(usage)});
      process.stdout.write(JSON.stringify([performance.now(), ++recorded]) + "\\n");
    }, 1);
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  context.after(() => child.kill("SIGKILL"));
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
    if (output.split("\n").length > 300) child.kill("SIGKILL");
  });
  await once(child, "close");
  const lines = output.split("\n").slice(0, -1);
  const marks = lines.map((line): [number, number] => JSON.parse(line));
  const [lastMs, recorded] = marks.at(-1)!;
  const ledger = openUsageLedger({ path, logger });
  ledger.close();
  const [, written] = sumsIn(path) as [number, number];
  const due = marks.findLast(([atMs]) => atMs < lastMs - 1000)?.[1] ?? 0; // generous on a busy machine
  assert.ok(written >= due && written <= recorded, `${written} of ${recorded}, at least ${due}`);
  assert.ok(written > 0);
});

test("a write that fails keeps what is pending", async (context) => {
  const path = await pathOf(context);
  const ledger = openUsageLedger({ path, logger, flushMs: 3_600_000 });
  ledger.record(usage);
  const blocker = new DatabaseSync(path);
  blocker.exec("BEGIN IMMEDIATE");
  assert.throws(() => ledger.flush());
  blocker.exec("ROLLBACK");
  blocker.close();
  ledger.record(usage);
  ledger.flush();
  assert.deepEqual(sumsIn(path), [30, 2]);
  ledger.close();
});

test("a file that is no ledger, or a newer one's, is refused with the remedy", async (context) => {
  const path = await pathOf(context);
  const refused = { code: "usage_ledger_unusable", message: /move it away/ };
  await writeFile(path, "this is not a database, and long enough to be looked at".repeat(20));
  assert.throws(() => openUsageLedger({ path, logger }), refused);
  await rm(path);
  const database = new DatabaseSync(path);
  database.exec("PRAGMA user_version = 2");
  database.close();
  assert.throws(() => openUsageLedger({ path, logger }), refused);
});
