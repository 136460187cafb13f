// One adapter as PEFT, llama.cpp and ONNX Runtime write it, uploaded to its base: one adapter, whatever it came in.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { packageRoot } from "../../server/package-root.ts";
import { AdapterCalls, peftFiles } from "./adapter-forms.ts";
import { startTiny } from "./start-tiny.ts";

const golden = join(packageRoot, "tests/golden-peft-kinds");
const original = join(golden, "adapters/llama-lora");
const { base }: { base: string } = JSON.parse(readFileSync(join(original, "golden.json"), "utf8"));

test("PEFT's directory, a GGUF file and an .onnx_adapter file of it do the same", async () => {
  await using server = await startTiny({ modelDirectory: join(golden, "bases", base), quantize: "none" });
  const calls = new AdapterCalls(server.url);
  const fileOf = (name: string) => [
    { name, content: readFileSync(join(golden, "files", `llama-lora.f32.${name}`)) },
  ];
  const uploads = {
    peft: peftFiles(original),
    gguf: fileOf("gguf"),
    onnx_adapter: fileOf("onnx_adapter"),
  };
  const results = new Set<string>();
  for (const [id, files] of Object.entries(uploads)) {
    const named = files.map(({ name, content }) => ({ name: name === id ? `lora.${id}` : name, content }));
    const { status, body } = await calls.upload({ id }, named);
    assert.equal(status, 201, body.error?.message);
    assert.deepEqual(body.kinds, ["low-rank"]);
    assert.equal(body.format, id.replace("_", "-"));
    const answer = await calls.call<{ choices: { logprobs: object }[] }>("POST", "/v1/completions", {
      model: id,
      prompt: [1, 2, 3],
      max_tokens: 4,
      temperature: 0,
      logprobs: 1,
      ignore_eos: true,
      return_tokens_as_token_ids: true,
    });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    results.add(JSON.stringify([body.version, answer.body.choices[0]!.logprobs]));
    const [first, ...others] = id === "peft" ? ["tar", "cotenant"] : ["cotenant", "tar"];
    for (const [extension, format] of [
      [first, ""], // what it is when nobody says
      ...others.map((extension) => [extension, `?format=${extension === "tar" ? "peft" : extension}`]),
    ]) {
      const download = await calls.fetch("GET", `/v1/adapters/${id}/download${format}`);
      const content = Buffer.from(await download.arrayBuffer());
      const back = await calls.upload({ id: "back" }, [{ name: `back.${extension}`, content }]);
      assert.equal(back.body.version, body.version, JSON.stringify(back.body));
    }
    // Else the next one would find its version stored, in this one's format.
    for (const name of [id, "back"]) await calls.call("DELETE", `/v1/adapters/${name}`);
  }
  assert.equal(results.size, 1);
});
