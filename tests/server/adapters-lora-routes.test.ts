// vLLM's two routes on the admin listener: its texts, its statuses, and the one directory that they read.

import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { AdapterCalls } from "./adapter-forms.ts";
import { tinyDirectory } from "./scripted-app.ts";
import { startTiny, type TinyServer } from "./start-tiny.ts";

const demos = join(tinyDirectory, "adapters");

suite("load_lora_adapter", () => {
  let root: string;
  let server: TinyServer;
  let admin: AdapterCalls;
  let main: AdapterCalls;

  before(async () => {
    root = await mkdtemp(join(tmpdir(), "cotenant-lora-"));
    const loraDirectory = join(root, "loras");
    await cp(join(demos, "orders-json"), join(loraDirectory, "orders"), { recursive: true });
    await cp(join(demos, "ticket-router"), join(loraDirectory, "deep", "tickets"), { recursive: true });
    await cp(join(demos, "house-style"), join(root, "outside"), { recursive: true });
    await symlink(join(loraDirectory, "orders"), join(loraDirectory, "link-inside"));
    await symlink(join(root, "outside"), join(loraDirectory, "link-outside"));
    const mixed = join(loraDirectory, "mixed");
    await mkdir(mixed);
    await cp(join(root, "outside", "adapter_config.json"), join(mixed, "adapter_config.json"));
    await symlink(
      join(root, "outside", "adapter_model.safetensors"),
      join(mixed, "adapter_model.safetensors"),
    );
    await mkdir(join(root, "loras-too"));
    server = await startTiny({ loraDirectory, admin: { host: "127.0.0.1", port: 0 } });
    admin = new AdapterCalls(server.adminUrl!);
    main = new AdapterCalls(server.url);
  });

  after(async () => {
    await server[Symbol.asyncDispose]();
    await rm(root, { recursive: true });
  });

  const load = (body: object) => admin.call<object>("POST", "/v1/load_lora_adapter", body);
  const unload = (body: object) => admin.call<object>("POST", "/v1/unload_lora_adapter", body);

  test("loads, refuses twice, loads in place, unloads, in vLLM's words", async () => {
    const paths = {
      inside: "orders",
      deep: "./deep/tickets",
      absolute: join(root, "loras/orders"),
      link: "link-inside",
    };
    for (const [name, path] of Object.entries(paths)) {
      const { status, body } = await load({ lora_name: name, lora_path: path });
      assert.deepEqual([status, body], [200, `Success: LoRA adapter '${name}' added successfully.`]);
    }
    const ask = async (model: string) =>
      (await server.client.completions.create({ model, prompt: "Please", max_tokens: 16, temperature: 0 }))
        .choices[0]!.text;
    assert.notEqual(await ask("inside"), await ask("deep"));
    const again = await load({ lora_name: "inside", lora_path: "deep/tickets" });
    assert.equal(again.status, 400);
    assert.equal(
      again.body.error!.message,
      "The lora adapter 'inside' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True.",
    );
    const inPlace = await load({ lora_name: "inside", lora_path: "deep/tickets", load_inplace: true });
    assert.deepEqual(
      [inPlace.status, inPlace.body],
      [200, "Success: LoRA adapter 'inside' added successfully."],
    );
    assert.equal(await ask("inside"), await ask("deep"));
    const gone = await unload({ lora_name: "inside", lora_int_id: 3 });
    assert.deepEqual([gone.status, gone.body], [200, "Success: LoRA adapter 'inside' removed successfully."]);
    const missing = await unload({ lora_name: "inside" });
    assert.equal(missing.status, 404);
    assert.equal(missing.body.error!.message, "The lora adapter 'inside' cannot be found.");
    assert.equal((await main.get("inside")).status, 404);
    assert.equal((await main.get("deep")).body.shared, true);
  });

  test("missing fields", async () => {
    const both = "Both 'lora_name' and 'lora_path' must be provided.";
    for (const body of [{}, { lora_name: "x" }, { lora_path: "orders" }, { lora_name: "", lora_path: "" }]) {
      const answer = await load(body);
      assert.deepEqual([answer.status, answer.body.error!.message], [400, both]);
    }
    const answer = await unload({});
    assert.equal(answer.status, 400);
    assert.equal(answer.body.error!.message, "'lora_name' needs to be provided to unload a LoRA adapter.");
  });

  test("nothing outside of the directory is read, nor told from what is not there", async () => {
    const outside = [
      "nowhere",
      "../outside",
      "link-outside",
      "../loras-too",
      join(root, "outside"),
      "/etc",
      "orders/adapter_config.json",
      "orders\0",
      "orders/../../outside",
    ];
    for (const path of outside) {
      const { status, body } = await load({ lora_name: "out", lora_path: path });
      assert.deepEqual(
        [status, body.error!.message],
        [404, `Loading lora out failed: No adapter found for ${path}`],
      );
    }
    const mixed = await load({ lora_name: "out", lora_path: "mixed" });
    assert.equal(mixed.body.error!.code, "adapter_weights_missing"); // the link's target is not given
    assert.equal((await main.get("out")).status, 404);
  });

  test("the main listener has no such route, and a server without a directory none at all", async () => {
    const body = { lora_name: "x", lora_path: "orders" };
    assert.equal((await main.call("POST", "/v1/load_lora_adapter", body)).status, 404);
    await using without = await startTiny({ admin: { host: "127.0.0.1", port: 0 } });
    const answer = await new AdapterCalls(without.adminUrl!).call("POST", "/v1/load_lora_adapter", body);
    assert.deepEqual([answer.status, answer.body.error!.code], [404, "lora_directory_missing"]);
  });
});
