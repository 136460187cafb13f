import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { plainRecipe, readRecipes } from "./recipe.ts";

const folder = mkdtempSync(join(tmpdir(), "cotenant-recipes-"));
after(() => rmSync(folder, { recursive: true }));

test("a recipe leaves to the server what it does not set", () => {
  const path = fileOf([{ name: "first", task: "orders" }]);
  assert.deepEqual(readRecipes(path), [{ ...plainRecipe("orders"), name: "first" }]);
  assert.deepEqual(plainRecipe("orders").adapter, { type: "lora" });
  const settings = { type: "mezo", rank: 4, rank_pattern: { k_proj: 2 } };
  const further = { name: "second", task: "orders", examples: 8, from: "first", adapter: settings };
  const [, second] = readRecipes(fileOf([{ name: "first", task: "orders" }, further]));
  assert.deepEqual(second, { ...further, hyperparameters: {} });
});

test("what cannot be trained in the file's order is refused by name", () => {
  const first = { name: "first", task: "orders" };
  assert.throws(() => readRecipes(fileOf([first, first])), /two recipes are called first/);
  assert.throws(() => readRecipes(fileOf([{ ...first, from: "later" }])), /first continues later/);
  assert.throws(() => readRecipes(fileOf([{ ...first, epochs: 2 }])), /epochs/);
  assert.throws(() => readRecipes(fileOf([{ ...first, examples: 0 }])), /examples/);
});

test("the recipes that are committed can be read", () => {
  for (const name of ["adapters", "methods"]) {
    const path = new URL(`../../models/tiny/training/${name}.json`, import.meta.url).pathname;
    assert.ok(readRecipes(path).length > 0);
  }
});

function fileOf(recipes: readonly object[]): string {
  const path = join(folder, "recipes.json");
  writeFileSync(path, JSON.stringify(recipes));
  return path;
}
