// llama.cpp's server. Its adapters are loaded at the start, and a request says which one it wants.

import { join } from "node:path";
import type { Contestant, GgufType, ServeJob } from "../contestant.ts";
import { installLlamaCpp, llamaCommand, llamaCppNeeds, llamaVersion } from "../install/llama-cpp.ts";
import { launch } from "../launch.ts";

const contextTokens = 640; // of each client: the longest prompt and answer that are measured

export const ggufTypes = { 4: "Q4_0", 8: "Q8_0", all: "F32" } as const satisfies Record<
  ServeJob["bits"],
  GgufType
>;

export function llamaServer(ownFlags: readonly string[]): Contestant {
  return {
    needs: llamaCppNeeds,
    install: installLlamaCpp,

    async serve({ converted, bits, prefix, clients }) {
      const { ggufAdapters, adapterNames, shape } = converted;
      const flags = [
        ...["-t", "2", "--parallel", String(clients), "-c", String(clients * contextTokens)],
        ...["--cache-ram", "0"], // prompts never come again: keeping them would only cost
        ...ownFlags,
      ];
      const { url, stop } = await launch({
        command: (port) => [
          ...llamaCommand(prefix, "llama-server"),
          ...["-m", converted.gguf(ggufTypes[bits]), "--lora", ggufAdapters.join(",")],
          ...["--lora-init-without-apply", "--host", "127.0.0.1", "--port", String(port)],
          ...flags,
        ],
        cwd: prefix,
        readyPath: "/health",
        logFile: join(prefix, "llama-server.log"),
      });
      // Adapters that a request does not list have the scale 0; only a request without a list takes the server's.
      const fields = (id: number, scale: number) => ({
        ...greedy,
        cache_prompt: false,
        lora: [{ id, scale }],
      });
      const ofAdapters = adapterNames.map((name, id) => [name, fields(id, 1)]);
      return {
        url,
        base: shape,
        adapters: adapterNames,
        modelFields: { [shape]: fields(0, 0), ...Object.fromEntries(ofAdapters) },
        setting: `${llamaVersion(prefix)}, ${ggufTypes[bits]} throughout, ${flags.join(" ")}`,
        stop,
      };
    },
  };
}

/** Nothing but the likeliest token: its usual chain of samplers costs more. */
const greedy = { temperature: 0, samplers: ["top_k"], top_k: 1 };
