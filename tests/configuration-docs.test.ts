import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { configurationDocument } from "../server/options/render.ts";
import { packageRoot } from "../server/package-root.ts";

test("docs/configuration.md is what the options table says; else run `npm run docs`", () => {
  assert.equal(readFileSync(join(packageRoot, "docs", "configuration.md"), "utf8"), configurationDocument());
});
