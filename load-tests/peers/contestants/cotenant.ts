// Cotenant as a person would start it, from the checkout that is measured.

import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Contestant } from "../contestant.ts";
import { launch } from "../launch.ts";

export const cotenant: Contestant = {
  needs: "nothing",
  install: () => undefined,

  async serve({ converted, bits, prefix, tree, clients }) {
    const { checkpoint, adapters, adapterNames, shape } = converted;
    const flags = {
      model: checkpoint,
      quantize: bits === "all" ? "none" : `int${bits}`,
      threads: "2",
      "max-rows": String(clients),
      adapters,
      data: join(prefix, "cotenant-data", `${shape}-${bits}`),
      cache: join(prefix, "cotenant-cache"),
      "log-level": "warn",
    };
    rmSync(flags.data, { recursive: true, force: true }); // another release's data would be refused
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
    const { url, stop } = await launch({
      command: (port) => [process.execPath, "server/cotenant.js", "serve", "--port", String(port), ...args],
      cwd: tree,
      readyPath: "/ready",
      logFile: join(prefix, "cotenant.log"),
    });
    const fields = { temperature: 0 };
    return {
      url,
      base: shape,
      adapters: adapterNames,
      modelFields: Object.fromEntries([shape, ...adapterNames].map((name) => [name, fields])),
      setting: `--quantize ${flags.quantize} --threads 2 --max-rows ${clients}`,
      stop,
    };
  },
};
