// `cotenant finetune` against a real server that trains: what it prints, how it ends, what it leaves, and the plot.

import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { finetuneCommand } from "../../server/finetune-command/finetune-command.ts";
import { packageRoot } from "../../server/package-root.ts";
import { startTiny, type TinyServer } from "./start-tiny.ts";
import { type TwoTenants, twoTenants } from "./two-tenants.ts";

const lines = (count: number) =>
  Array.from({ length: count }, (_, index) =>
    JSON.stringify({
      messages: [
        { role: "user", content: `Who's number ${index}?` }, // a quote, for the shell
        { role: "assistant", content: `It's ${index}.` },
      ],
    }),
  ).join("\n");

suite("cotenant finetune", () => {
  const cleanups: (() => unknown)[] = [];
  let server: TinyServer;
  let tenants: TwoTenants;
  let folder: string;
  let file: string;

  before(async () => {
    tenants = await twoTenants({ after: (cleanup) => cleanups.push(cleanup as () => unknown) });
    server = await startTiny({ keysFile: tenants.keysFile });
    folder = mkdtempSync(join(tmpdir(), "cotenant-finetune-"));
    file = join(folder, "examples.jsonl");
    writeFileSync(file, lines(8));
  });

  after(async () => {
    await server[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
    for (const cleanup of cleanups) await cleanup();
  });

  const run = (...args: string[]) => runUntil(null, ...args);

  /** With Ctrl-C once it has said something. */
  async function runUntil(interruption: string | null, ...args: string[]) {
    let printed = "";
    let said = "";
    const leaving = new AbortController();
    const status = await finetuneCommand(
      [...args, "--server", server.url],
      { COTENANT_API_KEY: tenants.keys.acme.manage },
      {
        result: { write: (text: string) => (printed += text) },
        people: {
          write: (text: string) => {
            said += text;
            if (interruption !== null && text.includes(interruption)) leaving.abort();
          },
        },
        interrupted: leaving.signal,
      },
    );
    return { status, printed, said };
  }

  function start(...args: string[]): { readonly child: ChildProcess; readonly said: () => string } {
    const child = spawn(
      process.execPath,
      ["server/cotenant.js", "finetune", ...args, "--server", server.url],
      {
        cwd: packageRoot,
        env: { ...process.env, COTENANT_API_KEY: tenants.keys.acme.manage },
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    cleanups.push(() => child.kill("SIGKILL"));
    let text = "";
    child.stderr.setEncoding("utf8").on("data", (part: string) => (text += part));
    return { child, said: () => text };
  }

  const get = (path: string, key: string) =>
    fetch(`${server.url}${path}`, { headers: { authorization: `Bearer ${key}` } });

  const filesLeft = async () => {
    const answer = await get("/v1/files", tenants.keys.acme.manage);
    return ((await answer.json()) as { data: unknown[] }).data.length;
  };

  test("trains, says how it went, and prints a model that its own curl calls", async () => {
    const options = ["--epochs", "2", "--batch-size", "4", "--rank", "2", "--seed", "1"];
    const { status, printed, said } = await run("--file", file, "--validation-file", file, ...options);
    assert.equal(status, 0);
    assert.match(printed, /^ft-tiny-\S+\n$/);
    assert.match(said, /step 1\/4 {2}loss \d/);
    assert.match(said, /step 4\/4 {2}loss \d.*validation \d/);
    assert.match(said, /Trained in 4 steps: training loss \d+\.\d{4}, validation loss \d+\.\d{4}\n/);
    const curl = /^curl .*$/m.exec(said)![0];
    const environment = { ...process.env, COTENANT_API_KEY: tenants.keys.acme.manage };
    const { stdout } = await promisify(execFile)("sh", ["-c", curl], { env: environment });
    const answer = JSON.parse(stdout);
    assert.equal(answer.model, printed.trim());
    assert.equal(typeof answer.choices[0].message.content, "string");

    const id = /Job (ftjob-\S+)/.exec(said)![1]!;
    const plotPath = `/v1/fine_tuning/jobs/${id}/plot.svg`;
    const plot = await get(plotPath, tenants.keys.acme.manage);
    assert.equal(plot.headers.get("content-type"), "image/svg+xml");
    const svg = await plot.text();
    for (const text of [`>${id}</text>`, ">validation</text>"]) assert.ok(svg.includes(text), text);
    assert.equal((await get(plotPath, tenants.keys.globex.manage)).status, 404);

    const followed = await run("--follow", id);
    assert.deepEqual([followed.status, followed.printed], [0, printed]);
  });

  test("waits for a server that is still loading, and says so once", async () => {
    const failures = ["not_ready", "not_ready", "invalid_api_key"]; // a load that lasts for two answers
    const loading = createServer((_, response) => {
      const code = failures.shift();
      response.writeHead(code === "not_ready" ? 503 : 401, { "content-type": "application/json" });
      response.end(JSON.stringify({ error: { code, message: "weights 1/30" } }));
    }).listen(0, "127.0.0.1");
    cleanups.push(() => loading.close());
    await once(loading, "listening");
    const { port } = loading.address() as AddressInfo;
    let said = "";
    const flags = ["--file", file, "--server", `http://127.0.0.1:${port}`];
    const run = finetuneCommand(
      flags,
      {},
      {
        result: { write: () => true },
        people: { write: (text: string) => (said += text) },
        interrupted: new AbortController().signal,
      },
    );
    await assert.rejects(run, { code: "invalid_api_key" });
    assert.equal(said, "Waiting: weights 1/30\n");
    assert.deepEqual(failures, []);
  });

  test("what the server refuses is said in its words, and the uploaded files are gone", async () => {
    const before = await filesLeft();
    const refused = run("--file", file, "--validation-file", file, "--epochs", "0");
    await assert.rejects(refused, {
      code: "training_settings_invalid",
      message: /n_epochs: 0 is not allowed/,
    });
    await assert.rejects(run("--file", file, "--method", "lara"), { message: /method\.adapter\.type/ });
    await assert.rejects(run("--file", file, "--base", "nobody"), { code: "model_not_found" });
    const broken = join(folder, "broken.jsonl");
    writeFileSync(broken, `${lines(2)}\n{"messages": [}`);
    await assert.rejects(run("--file", file, "--validation-file", broken), { message: /line 3/ });
    await assert.rejects(run("--file", join(folder, "missing")), { code: "file_unreadable" });
    await assert.rejects(run("--file", file, "--key", tenants.keys.acme.inference), {
      code: "insufficient_permissions",
    });
    assert.equal(await filesLeft(), before);
  });

  test("Ctrl-C during the upload leaves nothing on the server", async () => {
    const before = await filesLeft();
    const second = join(folder, "second.jsonl");
    writeFileSync(second, lines(8));
    const { status, said } = await runUntil("second.jsonl", "--file", file, "--validation-file", second);
    assert.equal(status, 130);
    assert.match(said, /Stopped before the job was made/);
    assert.equal(await filesLeft(), before);
    await assert.rejects(run("--follow", "ftjob-none"), { code: "job_not_found" });
  });

  test("Ctrl-C leaves the job alone and says how to come back to it", async () => {
    const { child, said } = start("--file", file, "--epochs", "500", "--batch-size", "1");
    const exited = once(child, "exit");
    while (!said().includes("step 1/")) {
      assert.equal(child.exitCode, null, said());
      await new Promise((wake) => setTimeout(wake, 50));
    }
    child.kill("SIGINT");
    assert.deepEqual(await exited, [130, null]);
    const id = /cancel: {2}cotenant finetune --cancel (\S+) --server http/.exec(said())![1]!;

    assert.match((await run("--pause", id)).said, /is paused/);
    await assert.rejects(run("--follow", id), { code: "job_paused", message: /--resume/ });
    const resumed = await run("--resume", id, "--detach");
    assert.equal(resumed.printed, `${id}\n`);
    const following = assert.rejects(run("--follow", id), { code: "job_cancelled" });
    assert.match((await run("--cancel", id)).said, /is cancelled/);
    await following;
    await assert.rejects(run("--resume", id), { code: "job_state" });
  });
});
