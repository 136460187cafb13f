import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { launch } from "./launch.ts";

const folder = mkdtempSync(join(tmpdir(), "peers-"));
test.after(() => rmSync(folder, { recursive: true }));

const launchScript = (script: string) =>
  launch({
    command: (port) => [process.execPath, "-e", script, String(port)],
    cwd: folder,
    readyPath: "/ready",
    logFile: join(folder, "log"),
  });

test("a server is waited for until it is ready, and gone once it is stopped", async () => {
  const { url, stop } = await launchScript(`
    let asked = 0;
    require("http").createServer((request, response) => {
      response.statusCode = request.url === "/ready" && ++asked > 2 ? 200 : 503;
      response.end(String(asked));
    }).listen(process.argv[1], "127.0.0.1");
  `);
  assert.equal(await (await fetch(`${url}/ready`)).text(), "4");
  await stop();
  await assert.rejects(fetch(`${url}/ready`));
});

test("one that ends instead is told with what it wrote", async () => {
  await assert.rejects(
    launchScript('console.error("no room"); process.exit(1)'),
    /ended before.*log has all.*no room/s,
  );
});
