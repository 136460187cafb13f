// Starts a server on the embedded model in each precision and measures base and adapters on held-out prompts
// (load-tests/accuracy.ts).

import { spawn } from "node:child_process";
import { once } from "node:events";
import { packageRoot } from "../server/package-root.ts";
import { withEmbeddedServer } from "./embedded-server.ts";

for (const precision of ["none", "int8", "int4"]) {
  await withEmbeddedServer(["--quantize", precision, "--log-level", "error"], async (url) => {
    console.log(`--quantize ${precision}`);
    await run("load-tests/accuracy.ts", ["--url", url]);
  });
}

async function run(script: string, args: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, [script, ...args], { cwd: packageRoot, stdio: "inherit" });
  const [status] = await once(child, "exit");
  if (status !== 0) throw new Error(`${script} ended with ${status}`);
}
