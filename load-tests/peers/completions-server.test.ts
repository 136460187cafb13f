// Over HTTP, in a process of its own, as the peers that are libraries run: transformers.js's server around a package that
// counts instead of computing.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch } from "./launch.ts";

/** A token is a letter; each step takes a while, and tells how many sequences run. */
const standIn = `
export const env = {};
export const AutoTokenizer = {
  from_pretrained: async () => Object.assign(
    (text) => ({ input_ids: { dims: [1, text.length] } }),
    { decode: ([token]) => String.fromCharCode(Number(token)) },
  ),
};
let running = 0;
export const AutoModelForCausalLM = {
  async from_pretrained(directory, { dtype, session_options: { intraOpNumThreads } }) {
    if (dtype !== "q4" || intraOpNumThreads !== 2 || env.allowRemoteModels) throw new Error("wrong options");
    return {
      async generate({ input_ids, max_new_tokens, eos_token_id, do_sample, streamer }) {
        if (eos_token_id !== null || do_sample) throw new Error("not greedy to the end");
        if (input_ids.dims[1] === 13) throw new Error("no such number");
        running++;
        streamer.put([Array.from({ length: input_ids.dims[1] }, () => 0n)]);
        for (let step = 0; step < max_new_tokens; step++) {
          await new Promise((wake) => setTimeout(wake, 5));
          streamer.put([[BigInt(96 + running)]]);
        }
        streamer.end();
        running--;
      },
    };
  },
};
`;
const folder = mkdtempSync(join(tmpdir(), "peers-"));
const module = join(folder, "package.mjs");
writeFileSync(module, standIn);
const script = fileURLToPath(new URL("transformers-js-server.ts", import.meta.url));
const start = JSON.stringify({ module, model: folder, dtype: "q4", threads: 2 });
const server = await launch({
  command: (port) => [process.execPath, script, String(port), start],
  cwd: folder,
  readyPath: "/health",
  logFile: join(folder, "log"),
});
after(async () => {
  await server.stop();
  rmSync(folder, { recursive: true });
});

const ask = (prompt: string, fields: object = {}) =>
  fetch(`${server.url}/v1/completions`, {
    method: "POST",
    body: JSON.stringify({ model: "base", prompt, max_tokens: 3, ...fields }),
  });

test("an answer at once, with what it cost", async () => {
  assert.deepEqual(await (await ask("water")).json(), {
    choices: [{ text: "aaa" }],
    usage: { prompt_tokens: 5, completion_tokens: 3 },
  });
});

test("a stream is an event for each token, then the usage", async () => {
  const events = (await (await ask("water", { stream: true })).text()).split("\n\n");
  assert.deepEqual(events, [
    ...Array.from({ length: 3 }, () => 'data: {"choices":[{"text":"a"}]}'),
    'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}',
    "data: [DONE]",
    "",
  ]);
});

test("one sequence at a time; one that fails is told so, and the next has its turn", async () => {
  const answers = await Promise.all(["a", "thirteen long", "b"].map((prompt) => ask(prompt)));
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 500, 200],
  );
  assert.match(await answers[1]!.text(), /no such number/);
  for (const answer of [answers[0]!, answers[2]!]) {
    const { choices } = (await answer.json()) as { choices: { text: string }[] };
    assert.equal(choices[0]!.text, "aaa"); // b's where two run
  }
});
