// The one table of what a user can set. Flags, environment names, config keys, defaults, checks, --help and
// docs/configuration.md all come from it. A new option is one entry here.

import type { Device, Quantization } from "../scheduler/protocol.ts";
import { logLevels } from "./logger.ts";
import { cacheFolder, dataFolder } from "./options/default-folders.ts";
import { choice, folder, integer, type Option, optionalText, text } from "./options/kinds.ts";

export const optionsTable = {
  host: text({
    placeholder: "ADDRESS",
    default: "127.0.0.1",
    help: "Address to listen on. There is no authentication yet: keep it on loopback or behind a proxy.",
  }),
  port: integer({ default: 8000, min: 0, max: 65535, help: "Port to listen on; 0 takes any free one." }),
  model: optionalText({
    placeholder: "MODEL",
    defaultText: "the embedded model",
    help: "Base model: a Hugging Face checkpoint directory, or org/name[@revision] to download from the hub.",
  }),
  adapters: optionalText({
    placeholder: "DIR",
    defaultText: "none; the embedded model has its demo adapters",
    help: "Directory whose subfolders are PEFT adapters to serve from the start.",
  }),
  data: folder({ default: dataFolder, help: "What must last: uploaded adapters, jobs. Back it up." }),
  cache: folder({ default: cacheFolder, help: "What can be rebuilt: downloads, quantized weights." }),
  device: choice({
    choices: ["auto", "cpu", "webgpu", "cuda"] satisfies Device[],
    default: "auto",
    help: "Where the model runs.",
  }),
  quantize: choice({
    choices: ["auto", "int4", "int8", "none"] satisfies ("auto" | Quantization)[],
    default: "auto",
    help: "Weight precision; auto is none for the embedded model and int4 for every other.",
  }),
  maxRows: integer({ default: 16, min: 1, max: 1024, help: "Sequences that may run in one batch." }),
  maxContext: integer({
    default: 0,
    min: 0,
    max: 1_048_576,
    help: "Tokens of prompt and completion together; 0 is what the checkpoint allows, but at most 8192.",
  }),
  threads: integer({ default: 0, min: 0, max: 1024, help: "CPU threads of the engine; 0 is one per core." }),
  logLevel: choice({
    choices: logLevels,
    default: "info",
    help: "Least severe log line to write (to stdout).",
  }),
} as const satisfies Record<string, Option<unknown>>;

export type OptionName = keyof typeof optionsTable;

export type Options = {
  readonly [Name in OptionName]: ReturnType<(typeof optionsTable)[Name]["default"]>;
};

export const optionNames = Object.keys(optionsTable) as OptionName[];

/** maxRows -> max-rows: the flag without its dashes, and the key in a config file. */
export function keyOf(name: OptionName): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** maxRows -> COTENANT_MAX_ROWS. */
export function environmentNameOf(name: OptionName): string {
  return `COTENANT_${keyOf(name).replaceAll("-", "_").toUpperCase()}`;
}
