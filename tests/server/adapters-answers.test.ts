// What an upload is answered, whatever happens to the engine meanwhile.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { AdapterAnswer } from "../../server/endpoints/adapters/adapter-answer.ts";
import { formOf } from "./adapter-forms.ts";
import { scriptedApp, writes } from "./scripted-app.ts";

const files = [{ name: "adapter.cotenant", content: new Uint8Array(8) }];

test("what is stored is answered with 201, also where the engine fails right then", async (context) => {
  const { app, adapters, readiness } = await scriptedApp((text) => writes(text, ""));
  const add = adapters.addToStore.bind(adapters);
  context.mock.method(adapters, "addToStore", async (addition: Parameters<typeof add>[0]) => {
    const added = await add(addition);
    readiness.transition({ name: "restarting", retryAfterMs: 1000 });
    return added;
  });
  const body = formOf({ id: "mine" }, files);
  const response = await app.request("/v1/adapters", { method: "POST", body });
  assert.equal(response.status, 201);
  const answer = (await response.json()) as AdapterAnswer & { readonly warnings: readonly string[] };
  assert.equal(answer.id, "mine");
  assert.deepEqual(answer.warnings, []);
  assert.equal((await app.request("/v1/adapters", { method: "POST", body: formOf({}, files) })).status, 503);
});
