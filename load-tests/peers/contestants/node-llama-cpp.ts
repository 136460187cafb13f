// node-llama-cpp in a process of its own behind node-llama-cpp-server.ts, as an application would embed it.

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Contestant } from "../contestant.ts";
import { installLlamaCpp, llamaCppNeeds } from "../install/llama-cpp.ts";
import { installNodeLlamaCpp, nodeLlamaCppModule, nodeLlamaCppVersion } from "../install/node-llama-cpp.ts";
import { launch } from "../launch.ts";
import { ggufTypes } from "./llama-server.ts";

const script = fileURLToPath(new URL("../node-llama-cpp-server.ts", import.meta.url));

export const nodeLlamaCpp: Contestant = {
  needs: `npm, and for llama.cpp's quantizer ${llamaCppNeeds}`,
  install(prefix) {
    installLlamaCpp(prefix);
    installNodeLlamaCpp(prefix);
  },

  async serve({ converted, bits, prefix, clients }) {
    const { ggufAdapters, adapterNames, shape } = converted;
    const start = {
      module: nodeLlamaCppModule(prefix),
      model: converted.gguf(ggufTypes[bits]),
      base: shape,
      adapters: Object.fromEntries(adapterNames.map((name, index) => [name, ggufAdapters[index]!])),
      clients,
    };
    const { url, stop } = await launch({
      command: (port) => [process.execPath, script, String(port), JSON.stringify(start)],
      cwd: prefix,
      readyPath: "/health",
      logFile: join(prefix, "node-llama-cpp.log"),
    });
    return {
      url,
      base: shape,
      adapters: adapterNames,
      modelFields: {},
      setting: `${nodeLlamaCppVersion(prefix)}, ${ggufTypes[bits]}, 2 threads, a context of ${clients} sequences for each adapter`,
      stop,
    };
  },
};
