// npm run accuracy: exact-match accuracy of the base and of every demo adapter on held-out prompts, asked from a
// running server over HTTP. Prints a table; exits 1 where an adapter is under 0.9 or the base over 0.3.

import { readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";

type Example = {
  readonly messages: readonly { role: string; content: string }[];
  readonly completion: string;
};

const leastForAdapter = 0.9;
const mostForBase = 0.3;
const concurrency = 8;

const { values } = parseArgs({
  options: {
    url: { type: "string", default: "http://127.0.0.1:8000" },
    directory: { type: "string", default: new URL("../models/tiny/held-out/", import.meta.url).pathname },
    limit: { type: "string", default: "100" },
  },
});

const base = await baseModel();
let failed = false;
console.log("| task | base | adapter | held-out prompts |\n|---|---|---|---|");
for (const file of readdirSync(values.directory)
  .filter((name) => name.endsWith(".jsonl"))
  .sort()) {
  const task = basename(file, ".jsonl");
  const lines = readFileSync(`${values.directory}/${file}`, "utf8").trim().split("\n");
  const examples = lines.slice(0, Number(values.limit)).map((line) => JSON.parse(line) as Example);
  const ofBase = await accuracy(base, examples);
  const ofAdapter = await accuracy(task, examples);
  if (ofAdapter < leastForAdapter || ofBase > mostForBase) failed = true;
  console.log(`| ${task} | ${ofBase.toFixed(2)} | ${ofAdapter.toFixed(2)} | ${examples.length} |`);
}
if (failed) {
  console.error(
    `expected at least ${leastForAdapter} of every adapter and at most ${mostForBase} of the base`,
  );
  process.exit(1);
}

async function baseModel(): Promise<string> {
  const response = await fetch(`${values.url}/v1/models`);
  const { data } = (await response.json()) as { data: { id: string; parent: string | null }[] };
  const model = data.find(({ parent }) => parent === null);
  if (model === undefined) throw new Error(`${values.url}/v1/models lists no base model`);
  return model.id;
}

async function accuracy(model: string, examples: readonly Example[]): Promise<number> {
  let next = 0;
  let right = 0;
  const worker = async () => {
    for (let example = examples[next++]; example !== undefined; example = examples[next++]) {
      if ((await answer(model, example)) === example.completion) right++;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return right / examples.length;
}

async function answer(model: string, { messages }: Example): Promise<string> {
  const response = await fetch(`${values.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, messages, temperature: 0, max_tokens: 128 }),
  });
  if (!response.ok) throw new Error(`${model}: HTTP ${response.status}: ${await response.text()}`);
  const { choices } = (await response.json()) as { choices: { message: { content: string } }[] };
  return choices[0]!.message.content.trim();
}
