import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { nearestName } from "../../kernels/nearest-name.ts";
import { environmentNameOf, keyOf, optionNames, optionsTable } from "../options.ts";
import { readOptions } from "./read-options.ts";
import { optionsHelp } from "./render.ts";

const home = { XDG_DATA_HOME: "/xdg/data", XDG_CACHE_HOME: "/xdg/cache" };

function configFile(context: { after(fn: () => void): void }, content: string): string {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-config-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "config.json");
  writeFileSync(path, content);
  return path;
}

test("defaults", () => {
  assert.deepEqual(readOptions([], home), {
    host: "127.0.0.1",
    port: 8000,
    keys: null,
    insecureNoKeys: "no",
    adminHost: "127.0.0.1",
    adminPort: null,
    model: null,
    adapters: null,
    data: "/xdg/data/cotenant",
    cache: "/xdg/cache/cotenant",
    device: "auto",
    quantize: "auto",
    maxRows: 16,
    maxContext: 0,
    threads: 0,
    plainGraphBytes: 268_435_456,
    policy: "fair-share",
    deviceSlots: 0,
    ttftTargetMs: 2000,
    tpotTargetMs: 200,
    maxQueue: 1024,
    maxQueuePerTenant: 256,
    maxKvBytes: 0,
    prefixCacheBytes: 268_435_456,
    sharePrefixes: "no",
    batchInvariant: "no",
    trainingShare: "0.05..0.9",
    trainingMemoryBytes: 1_073_741_824,
    hostCacheBytes: null,
    loraDirectory: null,
    adapterStore: null,
    maxConnections: 2048,
    drainSeconds: 30,
    logLevel: "info",
  });
});

test("flag wins over environment, environment over config file", (context) => {
  const config = configFile(context, '{ "port": 1, "max-rows": 1, "threads": 1, "model": "from-file" }');
  const options = readOptions(["--config", config, "--port=3"], {
    ...home,
    COTENANT_PORT: "2",
    COTENANT_MAX_ROWS: "2",
  });
  assert.deepEqual([options.port, options.maxRows, options.threads, options.model], [3, 2, 1, "from-file"]);
  assert.equal(readOptions([], { ...home, COTENANT_CONFIG: config }).port, 1);
});

test("every option can be given by flag, environment and file", (context) => {
  const samples: Record<string, string> = {
    string: "sample",
    number: "7",
    URL: "s3://sample",
    "MIN..MAX": "0..0.5",
  };
  for (const name of optionNames) {
    const { placeholder, jsonType } = optionsTable[name];
    const text = placeholder.includes("|")
      ? placeholder.split("|").at(-1)!
      : (samples[placeholder] ?? samples[jsonType]!);
    const content = JSON.stringify({ [keyOf(name)]: jsonType === "number" ? Number(text) : text });
    const expected = readOptions([`--${keyOf(name)}`, text], home);
    assert.equal(String(expected[name]), text);
    assert.deepEqual(readOptions([], { ...home, [environmentNameOf(name)]: text }), expected);
    assert.deepEqual(readOptions(["--config", configFile(context, content)], home), expected);
    assert.ok(optionsHelp().includes(`--${keyOf(name)} ${placeholder}`));
  }
});

test("what is unknown is refused by name, with the nearest known one", (context) => {
  const refused: [flags: string[], environment: Record<string, string>, message: RegExp][] = [
    [["--prot", "1"], {}, /unknown flag --prot; did you mean --port\?/],
    [["--zzzzzzzz"], {}, /unknown flag --zzzzzzzz$/],
    [["serve"], {}, /unexpected word "serve"/],
    [["--port", "1", "--port", "2"], {}, /--port is given twice/],
    [["--port"], {}, /--port needs a value/],
    [["--port", "80.5"], {}, /--port must be a whole number from 0 to 65535, not "80.5"/],
    [["--port", "65536"], {}, /--port must be/],
    [["--device", "gpu"], {}, /--device must be one of auto, cpu, webgpu, cuda, not "gpu"/],
    [["--model", ""], {}, /--model must not be empty/],
    [[], { COTENANT_PROT: "1" }, /environment variable COTENANT_PROT; did you mean COTENANT_PORT\?/],
    [[], { COTENANT_THREADS: "many" }, /COTENANT_THREADS must be/],
    [[], { XDG_CACHE_HOME: "relative" }, /XDG_CACHE_HOME must be an absolute path/],
    [["--config", "/nowhere.json"], {}, /config file \/nowhere.json: cannot be read/],
    [["--config", configFile(context, "{")], {}, /is not JSON/],
    [["--config", configFile(context, "[]")], {}, /must hold one JSON object/],
    [["--config", configFile(context, '{"modle":"x"}')], {}, /modle; did you mean model\?/],
    [["--config", configFile(context, '{"port":"80"}')], {}, /port must be a number/],
  ];
  for (const [flags, environment, message] of refused) {
    assert.throws(() => readOptions(flags, { ...home, ...environment }), message);
  }
});

test("nearest name", () => {
  assert.equal(nearestName("serv", ["serve", "help"]), "serve");
  assert.equal(nearestName("train", ["serve", "help"]), undefined);
});
