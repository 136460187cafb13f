// Starts a server, lets it answer once, and gives its /metrics to promtool (scripts/check-metrics.sh).

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../server/package-root.ts";
import { askServer, withServer } from "./server-process.ts";

const folder = mkdtempSync(join(tmpdir(), "cotenant-metrics-"));
const args = [
  "server/cotenant.js",
  "serve",
  "--port",
  "0",
  "--data",
  join(folder, "data"),
  "--cache",
  join(folder, "cache"),
];

try {
  await withServer(
    { command: process.execPath, args, cwd: packageRoot, environment: process.env },
    async (url) => {
      await askServer(url);
      execFileSync("sh", ["scripts/check-metrics.sh", `${url}/metrics`], {
        cwd: packageRoot,
        stdio: "inherit",
      });
    },
  );
} finally {
  rmSync(folder, { recursive: true });
}
