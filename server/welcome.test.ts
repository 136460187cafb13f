import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { type Demo, welcomeText } from "./welcome.ts";

const demo: Demo = {
  adapter: "house-style",
  description: "writes as we do",
  prompt: 'It\'s "quoted" $HOME `here`\nsecond line',
  completion: "Fine.\n",
};
const shared = { url: "http://127.0.0.1:8000", modelName: "tiny", readyMs: 1234, needsKey: false };

function pastedBodies(text: string): unknown[] {
  const commands = text.split("\n").filter((line) => line.startsWith("curl "));
  return commands.map((command) => {
    const words = execFileSync("sh", ["-c", `for word in ${command}; do printf '%s\\0' "$word"; done`]);
    return JSON.parse(words.toString().split("\0").at(-2)!);
  });
}

test("each demo's curl survives a shell", { skip: process.platform === "win32" }, () => {
  const text = welcomeText({ ...shared, adapters: ["house-style"], demos: [demo] });
  assert.match(text, /tiny with 1 adapter on http:\/\/127.0.0.1:8000 \(ready in 1.2 s\)/);
  const messages = [{ role: "user", content: demo.prompt }];
  assert.deepEqual(pastedBodies(text), [{ model: "house-style", messages, max_tokens: 96, temperature: 0 }]);
});

test("no demo of an adapter that is not served; adapters without a demo are listed", () => {
  const text = welcomeText({ ...shared, adapters: ["other", "third"], demos: [demo] });
  assert.doesNotMatch(text, /house-style/);
  assert.match(text, /"model":"other"/);
  assert.match(text, /Adapters: other, third/);
});

test("without adapters the base is asked", () => {
  assert.match(welcomeText({ ...shared, adapters: [], demos: [] }), /"model":"tiny"/);
});

test("where keys are needed the curl takes one from the environment", () => {
  const text = welcomeText({ ...shared, adapters: [], demos: [], needsKey: true });
  assert.match(text, /-H "authorization: Bearer \$OPENAI_API_KEY" /);
});
