// What no job can be made of, through the API: files, settings and bodies that are refused by line or field, and what
// stays of them, which is nothing.

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { chatLines, smallMethod, uploadLines } from "./fine-tuning-scene.ts";
import { errorOf } from "./scripted-app.ts";
import { all, startTiny, type TinyServer } from "./start-tiny.ts";

const good = chatLines("ticket-router", 1);
const chat = (content: string, rest: object = {}) =>
  JSON.stringify({
    messages: [
      { role: "user", content: "Where is it?" },
      { role: "assistant", content, ...rest },
    ],
  });

suite("what no job can be made of", () => {
  let server: TinyServer;
  let training: string;

  before(async () => {
    server = await startTiny();
    training = await uploadLines(server.client, chatLines("ticket-router", 8));
  });

  after(() => server[Symbol.asyncDispose]());

  const upload = (content: string | Uint8Array<ArrayBuffer>) => {
    const body = new FormData();
    body.set("purpose", "fine-tune");
    body.set("file", new File([content], "examples.jsonl"));
    return fetch(`${server.url}/v1/files`, { method: "POST", body });
  };
  const create = (body: string) =>
    fetch(`${server.url}/v1/fine_tuning/jobs`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
    });
  const createWith = (hyperparameters: object, trainingFile = training) =>
    create(
      JSON.stringify({
        model: "tiny",
        training_file: trainingFile,
        method: { ...smallMethod, supervised: { hyperparameters } },
      }),
    );

  /** The files that were taken, and nothing else, in the data folder and in the lists. */
  const assertNothingStays = async (...files: string[]) => {
    const names = (...path: string[]) => {
      const folder = join(server.dataDirectory, ...path);
      return existsSync(folder) ? readdirSync(folder) : [];
    };
    assert.deepEqual(names("files", "incoming"), []);
    const kept = names("files").filter((name) => name !== "incoming");
    assert.deepEqual(kept.toSorted(), [training, ...files].toSorted());
    assert.deepEqual(await all(server.client.fineTuning.jobs.list()), []);
    for (const folder of ["checkpoints", "ledgers"]) assert.deepEqual(names("fine-tuning", folder), []);
    assert.deepEqual(names("uploads"), []);
    assert.deepEqual(names("adapters", "versions"), []);
  };

  const unreadable: [what: string, content: string | Uint8Array<ArrayBuffer>, message: RegExp][] = [
    ["no JSON", `${good}\n{"messages": [`, /^line 2: is not valid JSON$/],
    ["no objects", `${good}\n[1]\nnull`, /^2 lines .*: line 2: is not a JSON object; line 3: is not a JSON/],
    ["NaN", `${good}\n{"messages": NaN}`, /^line 2: is not valid JSON$/],
    ["no UTF-8", new Uint8Array([...Buffer.from(`${good}\n\n`), 0xff, 0x0a]), /^line 3: is not UTF-8$/],
    ["nothing", "", /^the file has no example; send one JSON object per line$/],
    ["blank lines", "\n \n", /^the file has no example; send one JSON object per line$/],
    ["an empty answer", `${good}\n${chat("")}`, /^line 2: messages\[1\]\.content: is empty/],
    ["no answer to learn", chat("a", { weight: 0 }), /^line 1: messages: has no message .*nothing would be/],
    ["no completion", '{"prompt": "a"}', /^line 1: completion: is missing$/],
    ["an empty completion", '{"prompt": "a", "completion": ""}', /^line 1: completion: is empty/],
  ];
  for (const [what, content, message] of unreadable) {
    test(`a file with ${what} is refused by its line`, async () => {
      const response = await upload(content);
      const error = await errorOf(response);
      assert.deepEqual([response.status, error.code, error.param], [400, "invalid_training_file", "file"]);
      assert.match(error.message, message);
      await assertNothingStays();
    });
  }

  test("an example that is too long, or of which nothing to learn is left, is refused by its line", async () => {
    const long = "Where is my parcel? ".repeat(20);
    const file = await uploadLines(
      server.client,
      [
        good,
        JSON.stringify({ messages: [{ role: "user", content: long }, JSON.parse(chat("b")).messages[1]] }),
      ].join("\n"),
    );
    const cases: [hyperparameters: object, message: RegExp][] = [
      [{ max_tokens: 100 }, /^line 2: reaches \d{3} tokens, more than the 100 of a sequence; .*truncate$/],
      [
        { max_tokens: 100, over_length: "truncate" },
        /^line 2: has nothing to learn within 100 tokens, where it reaches \d{3}$/,
      ],
    ];
    for (const [hyperparameters, message] of cases) {
      const response = await createWith(hyperparameters, file);
      const error = await errorOf(response);
      assert.deepEqual(
        [response.status, error.code, error.param],
        [400, "invalid_training_file", "training_file"],
      );
      assert.match(error.message, message);
    }
    await assertNothingStays(file);
    await server.client.files.delete(file); // no job holds it
  });

  test("a learning rate that is no number within its bounds is refused by its field", async () => {
    const rates = ["-1", "0", "1e309", "-1e309", "11", "null", '"NaN"', '"Infinity"', '"0.1"', "[]", "{}"];
    for (const rate of rates) {
      const path = "method.supervised.hyperparameters.learning_rate";
      for (const setting of ["learning_rate", "learning_rate_multiplier"]) {
        if (setting.endsWith("multiplier") && rate === "11") continue; // eleven times the default is fine
        const hyperparameters = `{"${setting}": ${rate}}`;
        const response = await create(
          `{"model": "tiny", "training_file": "${training}", "method": {"type": "supervised", "supervised": {"hyperparameters": ${hyperparameters}}}}`,
        );
        const error = await errorOf(response);
        const field = path.replace("learning_rate", setting);
        assert.deepEqual(
          [response.status, error.code, error.param],
          [400, "training_settings_invalid", field],
          hyperparameters,
        );
        assert.match(error.message, /a number from \S+ to \S+/);
      }
    }
    const bare = `{"model": "tiny", "training_file": "${training}", "hyperparameters": {"learning_rate": NaN}}`;
    assert.equal((await create(bare)).status, 400); // is no JSON
    await assertNothingStays();
  });

  test("unknown settings are refused by their field, with the nearest that there is", async () => {
    const cases: [body: object, param: string, message: RegExp][] = [
      [
        { method: { type: "supervised", supervised: { hyperparameters: { learning_rates: 0.1 } } } },
        "method.supervised.hyperparameters.learning_rates",
        /did you mean learning_rate\?/,
      ],
      [{ hyperparameters: { n_epoch: 2 } }, "hyperparameters.n_epoch", /did you mean n_epochs\?/],
      [
        { method: { type: "supervised", adapter: { type: "s2ft", rank: 2 } } },
        "method.adapter.rank",
        /there is no such setting; .*channels/,
      ],
      [
        { method: { type: "supervised", adapter: { type: "lora", layers_per_step: 1 } } },
        "method.adapter.layers_per_step",
        /has no effect with layers all; leave it out/,
      ],
      [
        { method: { type: "supervised", supervised: { hyperparameters: { constructor: 1 } } } },
        "method.supervised.hyperparameters.constructor",
        /there is no such setting/,
      ],
    ];
    for (const [body, param, message] of cases) {
      const response = await create(JSON.stringify({ model: "tiny", training_file: training, ...body }));
      const error = await errorOf(response);
      assert.deepEqual([response.status, error.code, error.param], [400, "training_settings_invalid", param]);
      assert.match(error.message, message);
    }
    await assertNothingStays();
  });
});
