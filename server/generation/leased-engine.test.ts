import assert from "node:assert/strict";
import { test } from "node:test";
import type { Engine } from "../../scheduler/engine.ts";
import { requestOf } from "../../scheduler/generation-request-fixture.ts";
import { leasedEngine } from "./leased-engine.ts";

/** An engine of three tokens, and adapters, that note in one log what happens to them. */
function scene() {
  const log: string[] = [];
  const engine: Pick<Engine, "generate"> = {
    async *generate() {
      log.push("start");
      try {
        for (const tokenId of [1, 2, 3]) yield { type: "token", tokenId, logprob: null };
      } finally {
        log.push("end");
      }
    },
  };
  const lease = async (versions: readonly string[]) => {
    log.push(`lease ${versions}`);
    const release = () => void log.push(`release ${versions}`);
    return { release, [Symbol.dispose]: release };
  };
  return { log, engine, lease };
}

test("the version is leased before the engine hears of the request, and released after it has ended", async () => {
  const { log, engine, lease } = scene();
  const request = requestOf({ adapterVersion: "v" });
  for await (const event of leasedEngine(engine, { lease }, performance.now()).generate(request))
    assert.equal(event.type, "token");
  assert.deepEqual(log, ["lease v", "start", "end", "release v"]);
});

test("a blend's versions are leased together, each once, the base not at all", async () => {
  const { log, engine, lease } = scene();
  const members = ["v", null, "w", "v"].map((adapterVersion) => ({ adapterVersion, weight: 1 }));
  const request = requestOf({ adapterVersion: "v", blend: { type: "logits", members } });
  for await (const _ of leasedEngine(engine, { lease }, performance.now()).generate(request));
  assert.deepEqual(log, ["lease v,w", "start", "end", "release v,w"]);
});

test("leaving early releases it too, once the engine has been told", async () => {
  const { log, engine, lease } = scene();
  for await (const _ of leasedEngine(engine, { lease }, performance.now()).generate(
    requestOf({ adapterVersion: "v" }),
  ))
    break;
  assert.deepEqual(log, ["lease v", "start", "end", "release v"]);
});

test("the base needs no lease", async () => {
  const { log, engine, lease } = scene();
  for await (const _ of leasedEngine(engine, { lease }, performance.now()).generate(requestOf()));
  assert.deepEqual(log, ["start", "end"]);
});

test("where there is no lease, the engine hears of nothing", async () => {
  const { log, engine } = scene();
  const lease = () => Promise.reject(new Error("no room"));
  const events = leasedEngine(engine, { lease }, performance.now()).generate(
    requestOf({ adapterVersion: "v" }),
  );
  await assert.rejects(async () => {
    for await (const _ of events);
  }, /no room/);
  assert.deepEqual(log, []);
});

test("timeout_ms runs from the request's arrival, also while an adapter is waited for", async () => {
  const { log, engine } = scene();
  const lease = (_: readonly string[], signal?: AbortSignal) =>
    new Promise<never>((_resolve, reject) => {
      signal!.addEventListener("abort", () => reject(signal!.reason), { once: true });
    });
  const late = leasedEngine(engine, { lease }, performance.now()).generate(
    requestOf({ adapterVersion: "v", timeoutMs: 20 }),
  );
  await assert.rejects(
    async () => {
      for await (const _ of late);
    },
    { code: "request_timed_out" },
  );
  assert.deepEqual(log, []);

  let heardMs: number | null = null;
  const listening: Pick<Engine, "generate"> = {
    async *generate({ timeoutMs }) {
      heardMs = timeoutMs;
      yield { type: "token", tokenId: 1, logprob: null };
    },
  };
  const { lease: ready } = scene();
  const request = requestOf({ adapterVersion: "v", timeoutMs: 5000 });
  for await (const _ of leasedEngine(listening, { lease: ready }, performance.now() - 3000).generate(
    request,
  ));
  assert.ok(heardMs! > 1000 && heardMs! <= 2000, `${heardMs}`);
});
