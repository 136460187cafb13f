// npm run demo-jobs: trains adapters for the demo tasks through the HTTP API of a server of this checkout, on the embedded
// base, while other requests are being answered, and measures each on held-out prompts. Prints a table; exits 1 where an
// adapter stays under the accuracy that is asked for.

import { readFileSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { CommandLine, fail } from "../scripts/command-line.ts";
import { withEmbeddedServer } from "../scripts/embedded-server.ts";
import { lastLoss, save, train } from "./demo-jobs/demo-job.ts";
import { plainRecipe, type Recipe, readRecipes } from "./demo-jobs/recipe.ts";
import { accuracy, baseModel, readHeldOut } from "./held-out.ts";
import { HttpClient } from "./load/http-client.ts";
import { runHeader } from "./load/run-header.ts";

const models = new URL("../models/tiny/", import.meta.url).pathname;
const usage = `npm run demo-jobs -- [flags]

  --recipes FILE     a list of what to train (every task once, as the server chooses by itself):
                     [{"name", "task", "examples", "from", "hyperparameters", "adapter"}]
  --only LIST        names of recipes, with those that they continue (all)
  --data DIR         training examples, TASK.jsonl each (models/tiny/train-examples)
  --held-out DIR     (models/tiny/held-out)
  --quantize NAME    of the base (the server's default)
  --clients N        that ask the base for text meanwhile (2)
  --percent N        held-out accuracy that is asked for of every recipe that none continues (90)
  --save DIR         where results go: NAME.tar with the PEFT files, NAME.cotenant, NAME.svg and NAME.csv with the losses`;

const flags = ["recipes", "only", "data", "held-out", "quantize", "clients", "percent", "save"];
const commandLine = new CommandLine(usage, flags);
const data = commandLine.string("data", join(models, "train-examples"));
const tasks = new Map(
  readHeldOut(commandLine.string("held-out", join(models, "held-out")), 100).map((task) => [
    task.name,
    task.examples,
  ]),
);
const recipesFile = commandLine.string("recipes", "none");
const all = recipesFile === "none" ? [...tasks.keys()].map(plainRecipe) : readRecipes(recipesFile);
const only = commandLine.string("only", all.map(({ name }) => name).join()).split(",");
const quantize = commandLine.string("quantize", "default");
const clients = commandLine.whole("clients", 2);
const least = commandLine.whole("percent", 90) / 100;
const directory = commandLine.string("save", "none");

type Row = {
  readonly recipe: Recipe;
  readonly model: string;
  readonly examples: number;
  readonly steps: number;
  readonly seconds: number;
  readonly loss: number;
  readonly memoryMebibytes: number;
  readonly accuracy: number;
};

const rows: Row[] = [];
const serverFlags = ["--log-level", "warn", ...(quantize === "default" ? [] : ["--quantize", quantize])];
await withEmbeddedServer(serverFlags, async (url) => {
  await using client = new HttpClient(url);
  console.log(JSON.stringify(await runHeader(process.argv.slice(2), client)));
  const base = await baseModel(url);
  const over = new AbortController();
  const asking = Array.from({ length: clients }, () => ask(client, base, over.signal));
  try {
    for (const recipe of needed(only)) {
      const { name, task, from, hyperparameters, adapter } = recipe;
      const heldOut = tasks.get(task);
      if (heldOut === undefined) throw new Error(`${name}: there are no held-out prompts of ${task}`);
      const lines = readFileSync(join(data, `${task}.jsonl`), "utf8")
        .trim()
        .split("\n");
      const used = lines.slice(0, recipe.examples);
      if (used.length < (recipe.examples ?? 0)) {
        throw new Error(
          `${name} takes ${recipe.examples} examples and ${data} has ${used.length} of ${task}`,
        );
      }
      const model = rows.find((row) => row.recipe.name === from)?.model ?? base;
      const started = performance.now();
      const examples = Buffer.from(`${used.join("\n")}\n`);
      const job = await train(client, { model, suffix: name, examples, hyperparameters, adapter });
      const seconds = (performance.now() - started) / 1000;
      const row = {
        recipe,
        model: job.fine_tuned_model,
        examples: used.length,
        steps: job.total_steps,
        seconds,
        loss: await lastLoss(client, job),
        memoryMebibytes: job.memory_bytes / 2 ** 20,
        accuracy: await accuracy(url, job.fine_tuned_model, heldOut),
      };
      rows.push(row);
      console.log(JSON.stringify({ ...row, recipe: name, loadAverage: loadavg()[0] }));
      if (directory !== "none") await save(client, job, { directory, name });
    }
  } finally {
    over.abort();
  }
  const answered = (await Promise.all(asking)).reduce((sum, count) => sum + count, 0);
  console.log(`${answered} other requests were answered meanwhile\n`);
});
console.log("| recipe | method | examples | steps | seconds | last loss | memory, MiB | held-out accuracy |");
console.log("|---|---|---|---|---|---|---|---|");
for (const { recipe, examples, steps, seconds, loss, memoryMebibytes, accuracy } of rows) {
  const costs = [seconds.toFixed(0), loss.toFixed(4), memoryMebibytes.toFixed(0)];
  const cells = [recipe.name, recipe.adapter.type, examples, steps, ...costs, accuracy.toFixed(2)];
  console.log(`| ${cells.join(" | ")} |`);
}
const results = rows.filter(({ recipe }) => !rows.some((row) => row.recipe.from === recipe.name));
if (results.some((row) => row.accuracy < least)) {
  console.error(`expected at least ${least} of every adapter`);
  process.exitCode = 1;
}

/** The recipes of these names and those that they continue, in the file's order. */
function needed(names: readonly string[]): readonly Recipe[] {
  const wanted = new Set(names);
  for (const { name, from } of all.toReversed()) if (wanted.has(name) && from !== undefined) wanted.add(from);
  const missing = names.find((name) => !all.some((recipe) => recipe.name === name));
  if (missing !== undefined)
    fail(`--only: there is no recipe ${missing}; known are ${all.map(({ name }) => name).join(", ")}`);
  return all.filter(({ name }) => wanted.has(name));
}

/** One client's requests until the end; returns how many were answered. */
async function ask(client: HttpClient, model: string, signal: AbortSignal): Promise<number> {
  let answered = 0;
  while (!signal.aborted) {
    const body = { model, prompt: `Once upon a time ${answered}`, max_tokens: 32 };
    await client.json({ method: "POST", path: "/v1/completions", key: null, body });
    answered++;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  return answered;
}
