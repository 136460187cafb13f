// Kills a server with SIGKILL at random moments while one job runs, again and again (COTENANT_KILLS times, 100 unless
// set), and checks that what it had acknowledged is there, and that the job's result is that of a job that nothing
// interrupted, to the bit. Run with an argument, this file is that server.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { chatLines, untilJob, uploadLines } from "./fine-tuning-scene.ts";
import { all, startTiny } from "./start-tiny.ts";

const kills = Number(process.env.COTENANT_KILLS ?? 100);
const steps = 8 * Math.ceil((1.3 * kills) / 8); // about half of the servers bring the job one step on, or two

const [dataDirectory] = process.argv.slice(2);
if (dataDirectory !== undefined) await serve(dataDirectory);
else test("kill -9 at any moment costs a job no bit of its result", killAndCompare);

/** Waits for a word, so that starting Node counts for nothing. */
async function serve(directory: string): Promise<void> {
  await once(process.stdin, "data");
  const { url } = await startTiny({ dataDirectory: directory });
  process.stdout.write(`${url}\n`);
}

async function killAndCompare(): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "cotenant-fine-tuning-crash-"));
  const standby = [start(directory)];
  try {
    const expected = await uninterrupted();
    let id: string | null = null;
    let seen = { checkpoint: 0, events: 0 };
    let hits = 0; // kills while the job ran
    for (let kill = 0; kill < kills; kill++) {
      const child = standby.shift()!;
      standby.push(start(directory));
      const client = await begin(child, Math.random() < 0.15 ? Math.random() * 500 : null);
      if (client !== null) {
        id ??= await create(client);
        const goal = seen.checkpoint + Math.floor(Math.random() * 2); // however fast the machine is
        let isRunning = true;
        do {
          const found = await stateOf(client, id);
          assert.ok(found.checkpoint >= seen.checkpoint && found.events >= seen.events, `kill ${kill}`);
          seen = found;
          isRunning = found.isRunning;
          await delay(Math.random() * 40);
        } while (seen.checkpoint < goal && isRunning);
        assert.ok(isRunning || kill > kills / 2, `the job was over after ${kill} kills`);
        hits += Number(isRunning);
      }
      await killed(child);
    }
    const client = await begin(standby[0]!, null);
    const job = await untilJob(client!, id!);
    assert.equal(job.status, "succeeded", JSON.stringify(job.error));
    assert.equal(await versionOf(client!, job.fine_tuned_model!), expected);
    const results = await all(client!.files.list({ purpose: "fine-tune-results" }));
    assert.deepEqual(
      results.map((file) => file.id),
      job.result_files,
    );
    const csv = await (await client!.files.content(results[0]!.id)).text();
    assert.equal(csv.trim().split("\n").length, 1 + steps);
    const messages = (await all(client!.fineTuning.jobs.listEvents(id!, { limit: 100 }))).map(
      ({ message }) => message,
    );
    const losses = messages.filter((message) => message.includes("training loss"));
    assert.equal(losses.length, steps);
    const resumed = messages.filter((message) => message.startsWith("Training goes on from step")).length;
    assert.ok(resumed > hits / 8, `${hits} kills, ${resumed} times gone on`);
    assert.deepEqual(await readdir(join(directory, "adapters", "quarantine")), []);
    console.log(`${kills} kills, ${hits} of them while the job ran; it went on ${resumed} times`);
  } finally {
    for (const child of standby) await killed(child);
    await rm(directory, { recursive: true, force: true });
  }
}

async function uninterrupted(): Promise<string> {
  await using server = await startTiny();
  const job = await untilJob(server.client, await create(server.client));
  assert.equal(job.status, "succeeded", JSON.stringify(job.error));
  return await versionOf(server.client, job.fine_tuned_model!);
}

async function create(client: OpenAI): Promise<string> {
  const training_file = await uploadLines(client, chatLines("ticket-router", 8));
  const hyperparameters = { n_epochs: steps / 8, batch_size: 1, checkpoint_steps: 1 } as object;
  const adapter = { type: "lora", rank: 2, target_modules: ["q_proj", "v_proj"] };
  const method = { type: "supervised", supervised: { hyperparameters }, adapter } as const;
  return (await client.fineTuning.jobs.create({ model: "tiny", training_file, method, seed: 4 })).id;
}

async function stateOf(client: OpenAI, id: string) {
  const { status } = await client.fineTuning.jobs.retrieve(id);
  const checkpoints = await client.fineTuning.jobs.checkpoints.list(id, { limit: 1 });
  const events = await client.fineTuning.jobs.listEvents(id, { limit: 1 });
  assert.ok(["queued", "running", "succeeded"].includes(status), status);
  return {
    isRunning: status !== "succeeded",
    checkpoint: checkpoints.data[0]?.step_number ?? 0,
    events: Number(events.data[0]?.id.split("-").at(-1) ?? 0),
  };
}

async function versionOf(client: OpenAI, id: string): Promise<string> {
  const adapter: { version: string } = await client.get(`/adapters/${id}`);
  return adapter.version;
}

function start(directory: string): ChildProcess {
  return spawn(process.execPath, [fileURLToPath(import.meta.url), directory], {
    stdio: ["pipe", "pipe", "inherit"],
  });
}

/** Null where it was killed, after so many milliseconds, before it answered. */
async function begin(child: ChildProcess, killAfterMs: number | null): Promise<OpenAI | null> {
  child.stdin!.write("go\n");
  if (killAfterMs !== null) {
    await delay(killAfterMs);
    return null;
  }
  const lines = createInterface({ input: child.stdout! });
  const [url] = await Promise.race([once(lines, "line"), once(child, "exit").then(() => [])]);
  assert.ok(url, "the server did not start");
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
}

async function killed(child: ChildProcess): Promise<void> {
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}
