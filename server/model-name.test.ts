import assert from "node:assert/strict";
import { test } from "node:test";
import { resolveModel } from "./model-name.ts";
import type { ServedAdapter } from "./served-adapters.ts";

function resolve(model: string, adapterId: string | null = null, baseName = "org/base"): string {
  const adapters = ["orders", "acme/tickets"];
  const directory = {
    baseName,
    adapter: (id: string) =>
      adapters.includes(id) ? ({ id, version: `v-${id}` } as ServedAdapter) : undefined,
  };
  const { name, adapter } = resolveModel({ model, adapterId }, directory);
  assert.equal(adapter?.version ?? baseName, adapter ? `v-${name}` : name);
  return name;
}

const notFound = { code: "model_not_found" };

test("model names the base, an adapter, or an adapter of the base", () => {
  assert.equal(resolve("org/base"), "org/base");
  assert.equal(resolve("orders"), "orders");
  assert.equal(resolve("acme/tickets"), "acme/tickets");
  assert.equal(resolve("org/base:orders"), "orders");
  assert.equal(resolve(" org/base : orders "), "orders");
  assert.equal(resolve("org/base:"), "org/base");
});

test("a base whose own name has a colon is found", () => {
  assert.equal(resolve("base:7b", null, "base:7b"), "base:7b");
  assert.equal(resolve("base:7b:orders", null, "base:7b"), "orders");
});

test("an unknown name is refused and never the base", () => {
  for (const name of [
    "nobody",
    "org/base:nobody",
    "other:orders",
    "org/base2:orders",
    ":orders",
    "orders:",
  ]) {
    assert.throws(() => resolve(name), notFound, name);
  }
});

test("LoRAX's adapter_id names the adapter, and may not contradict model", () => {
  assert.equal(resolve("org/base", "orders"), "orders");
  assert.equal(resolve("orders", "orders"), "orders");
  assert.equal(resolve("org/base", "__base_model__"), "org/base");
  assert.equal(resolve("orders", ""), "orders");
  assert.throws(() => resolve("org/base", "nobody"), { ...notFound, param: "adapter_id" });
  assert.throws(() => resolve("orders", "acme/tickets"), { code: "invalid_value", param: "adapter_id" });
  assert.throws(() => resolve("orders", "__base_model__"), { code: "invalid_value" });
});
