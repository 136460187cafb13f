// Starts a server, lets it answer once, and gives its /metrics to promtool (scripts/check-metrics.sh).

import { execFileSync } from "node:child_process";
import { packageRoot } from "../server/package-root.ts";
import { withEmbeddedServer } from "./embedded-server.ts";
import { askServer } from "./server-process.ts";

await withEmbeddedServer([], async (url) => {
  await askServer(url);
  execFileSync("sh", ["scripts/check-metrics.sh", `${url}/metrics`], { cwd: packageRoot, stdio: "inherit" });
});
