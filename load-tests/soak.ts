// npm run soak -- --minutes N: the soak scenario of the load generator, against a server of this checkout that is
// started for it, or the one at --url. What stands after a further -- goes to `cotenant serve`.

import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { withEmbeddedServer } from "../scripts/embedded-server.ts";
import { runLoad } from "./load/main.ts";

const usage = `npm run soak -- --minutes N [flags] [-- flags of cotenant serve]

  --minutes N      how long (10)
  --rate R         requests per second (2)
  --url URL        a running server; else one is started on the embedded model
  --key KEY        of that server; --admin-key KEY for its metrics, where they need another
  --model DIR      checkpoint that uploaded adapters fit (the embedded model, where the server is started here)
  --json, --html   files for the report
`;

/** So that they are full after the warm-up: a cache that fills looks like a leak, and one that never does hides some. */
const smallCaches = ["--prefix-cache-bytes", `${24 << 20}`];

const embeddedModel = fileURLToPath(new URL("../models/tiny", import.meta.url));

process.exitCode = await soak();

async function soak(): Promise<number> {
  const { values, positionals } = readCommandLine();
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) return wrongUsage(`--minutes must be over 0, not ${values.minutes}`);
  const { url, minutes: _, ...passed } = values;
  const flags = (own: Record<string, string>) => [
    "--vllm-fields", // answers of the planned length leave time for cancels
    ...Object.entries({ scenario: "soak", duration: String(minutes * 60), ...own, ...passed }).flatMap(
      ([name, value]) => [`--${name}`, value],
    ),
  ];
  if (url !== undefined) {
    if (positionals.length > 0)
      return wrongUsage("flags of cotenant serve are for a server that is started here");
    return runLoad(flags({ url }));
  }
  const serveModel =
    positionals.includes("--model") || positionals.some((flag) => flag.startsWith("--model="));
  if (serveModel && passed.model === undefined)
    return wrongUsage(
      "with another model for the server, --model DIR must name its checkpoint for the adapters",
    );
  let status = 1;
  await withEmbeddedServer(["--log-level", "warn", ...smallCaches, ...positionals], async (started) => {
    status = await runLoad(flags({ url: started, model: embeddedModel }));
  });
  return status;
}

function readCommandLine() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        minutes: { type: "string", default: "10" },
        rate: { type: "string", default: "2" },
        url: { type: "string" },
        key: { type: "string" },
        "admin-key": { type: "string" },
        model: { type: "string" },
        json: { type: "string" },
        html: { type: "string" },
      },
    });
  } catch (error) {
    process.exit(wrongUsage((error as Error).message));
  }
}

function wrongUsage(problem: string): number {
  process.stderr.write(`${problem}\n\n${usage}`);
  return 2;
}
