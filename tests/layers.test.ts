// The layering rule: imports go one way, one file owns each outside package, and no folder is a junk drawer.

import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { test } from "node:test";
import { packageRoot } from "../server/package-root.ts";

/** Outermost first: a layer imports itself and what stands after it. */
const layers = ["server", "scheduler", "finetuning", "adapters-store", "kernels"];

/** Who may import a package: one file, or one for each of its uses. Tests, scripts and examples may import anything. */
const owners: Record<string, string | readonly string[]> = {
  "@aws-sdk/client-s3": "adapters-store/backends/s3.ts",
  "@hono/node-server": "server/listen.ts",
  "@huggingface/hub": "server/hub.ts",
  "@huggingface/jinja": "server/text/chat-template.ts",
  "@huggingface/tokenizers": "server/text/tokenizer.ts",
  "lru-cache": ["adapters-store/residency/idle-versions.ts", "kernels/cpu/prefix-cache.ts"],
  "onnxruntime-node": ["kernels/session.ts", "kernels/webgpu/gpu-session.ts"],
  pino: "server/logger.ts",
  "prom-client": "server/metrics/instruments.ts",
  "simple-ascii-chart": "server/finetune-command/loss-chart.ts",
  "tar-stream": "adapters-store/archives/tar.ts",
  vega: ["server/finetuning/loss-plot.ts", "load-tests/load/charts.ts"],
  yauzl: "adapters-store/archives/zip.ts",
};

/** The same for packages that only load tests use. */
const toolOwners: Record<string, string> = {
  undici: "load-tests/load/http-client.ts",
  "vega-lite": "load-tests/load/charts.ts",
};

/** Packages that are a way to write a layer rather than a service behind one file. */
const vocabulary: Record<string, readonly string[]> = {
  hono: ["server"],
  "@hono/zod-openapi": ["server"],
  zod: ["server", "load-tests"],
};

type Import = { readonly file: string; readonly specifier: string };

const importPattern =
  /(?:^|\n)\s*(?:import|export)\s[^;"]*?from\s+"([^"]+)"|(?:^|\n)\s*import\s+"([^"]+)"|\bimport\(\s*"([^"]+)"/g;

const sources = globSync(
  [...layers, "load-tests"].map((folder) => `${folder}/**/*.ts`),
  { cwd: packageRoot },
)
  .map((file) => file.replaceAll(sep, "/"))
  .filter((file) => !file.endsWith(".test.ts"));

const imports: Import[] = sources.flatMap((file) => {
  const code = readFileSync(join(packageRoot, file), "utf8");
  return [...code.matchAll(importPattern)].map((match) => ({
    file,
    specifier: (match[1] ?? match[2] ?? match[3])!,
  }));
});

const folderOf = (file: string) => file.split("/")[0]!;
const targetOf = ({ file, specifier }: Import) =>
  relative(packageRoot, join(packageRoot, dirname(file), specifier)).replaceAll(sep, "/");
const packageOf = (specifier: string) =>
  specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");

test("imports are found", () => {
  assert.ok(imports.length > 50);
});

test("no layer imports one that stands before it", () => {
  const leftward = imports.filter(({ file, specifier }) => {
    if (!specifier.startsWith(".") || !layers.includes(folderOf(file))) return false;
    const target = folderOf(targetOf({ file, specifier }));
    if (target === "tests" && file.endsWith("-fixture.ts")) return false; // what tests share, fixtures may
    return layers.indexOf(target) < layers.indexOf(folderOf(file));
  });
  assert.deepEqual(leftward, []);
});

test("load-tests speak HTTP to the server; their benches drive the engine below it", () => {
  const below = ["load-tests", "scheduler", "finetuning", "kernels", "scripts"]; // scripts start a server to measure
  const inward = imports.filter((one) => {
    const isOurs = folderOf(one.file) === "load-tests" && one.specifier.startsWith(".");
    return isOurs && !below.includes(folderOf(targetOf(one)));
  });
  assert.deepEqual(inward, []);
});

test("one file owns each outside package", () => {
  const strays = imports.filter(({ file, specifier }) => {
    if (specifier.startsWith(".") || specifier.startsWith("node:")) return false;
    const name = packageOf(specifier);
    const files = [owners[name] ?? toolOwners[name]].flat();
    return !files.includes(file) && !vocabulary[name]?.includes(folderOf(file));
  });
  assert.deepEqual(strays, []);
});

test("every runtime dependency has an owner, and every owner its dependency", () => {
  const manifest: { dependencies: Record<string, string> } = JSON.parse(
    readFileSync(join(packageRoot, "package.json"), "utf8"),
  );
  const owned = [...Object.keys(owners), ...Object.keys(vocabulary)].sort();
  assert.deepEqual(Object.keys(manifest.dependencies).sort(), owned);
});

test("no folder or file is named after nothing in particular", () => {
  const vague = sources.filter((file) => /(^|\/)(utils?|helpers?|common|misc|types)(\/|\.ts$)/.test(file));
  assert.deepEqual(vague, []);
});
