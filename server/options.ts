// The one table of what a user can set. Flags, environment names, config keys, defaults, checks, --help and
// docs/configuration.md all come from it. A new option is one entry here.

import { defaultPlainGraphBytes } from "../kernels/base-memory.ts";
import { schedulingPolicyNames } from "../scheduler/policies/index.ts";
import type { Device, Quantization } from "../scheduler/protocol.ts";
import { defaultScheduling } from "../scheduler/scheduling-options.ts";
import { logLevels } from "./logger.ts";
import { adapterStore } from "./options/adapter-store.ts";
import { cacheFolder, dataFolder } from "./options/default-folders.ts";
import {
  choice,
  folder,
  integer,
  type Option,
  optionalInteger,
  optionalText,
  text,
} from "./options/kinds.ts";
import { trainingShare } from "./options/training-share.ts";

export const optionsTable = {
  host: text({
    placeholder: "ADDRESS",
    default: "127.0.0.1",
    help: "Address to listen on; one that others can reach needs --keys.",
  }),
  port: integer({ default: 8000, min: 0, max: 65535, help: "Port to listen on; 0 takes any free one." }),
  keys: optionalText({
    placeholder: "FILE",
    defaultText: "none; everybody who reaches the server is one tenant",
    help: "Tenants, their keys, roles and quotas; made by cotenant keys add, read again when it changes.",
  }),
  insecureNoKeys: choice({
    choices: ["no", "yes"],
    default: "no",
    help: "yes lets others reach a server without --keys, by any name: where a proxy or the network keeps strangers out.",
  }),
  adminHost: text({
    placeholder: "ADDRESS",
    default: "127.0.0.1",
    help: "Address of the admin listener; one that others can reach needs --keys.",
  }),
  adminPort: optionalInteger({
    defaultText: "none; no admin listener",
    min: 0,
    max: 65535,
    help: "Port of the admin listener (all tenants' usage, metrics), for keys with the role admin; 0 takes any free one.",
  }),
  model: optionalText({
    placeholder: "MODEL",
    defaultText: "the embedded model",
    help: "Base model: a Hugging Face checkpoint directory, or org/name[@revision] to download from the hub.",
  }),
  adapters: optionalText({
    placeholder: "DIR",
    defaultText: "none; the embedded model has its demo adapters",
    help: "Directory whose subfolders are PEFT adapters to serve from the start; read into memory once the server is ready, as far as --host-cache-bytes has room.",
  }),
  loraDirectory: optionalText({
    placeholder: "DIR",
    defaultText: "none; no such routes",
    help: "Directory from which the admin listener's /v1/load_lora_adapter, vLLM's route, may load adapters.",
  }),
  adapterStore,
  data: folder({ default: dataFolder, help: "What must last: uploaded adapters, jobs, usage. Back it up." }),
  cache: folder({ default: cacheFolder, help: "What can be rebuilt: downloads, quantized weights." }),
  device: choice({
    choices: ["auto", "cpu", "webgpu", "cuda"] satisfies Device[],
    default: "auto",
    help: "Where the model runs; auto is a GPU where one is found and computes what the CPU does, else the CPU (docs/webgpu.md).",
  }),
  quantize: choice({
    choices: ["auto", "int4", "int8", "f16", "none"] satisfies ("auto" | Quantization)[],
    default: "auto",
    help: "Weight precision; auto is none for the embedded model and int4 for every other. f16 is for GPUs that have it (docs/webgpu.md).",
  }),
  maxRows: integer({ default: 16, min: 1, max: 1024, help: "Sequences that may run in one batch." }),
  maxContext: integer({
    default: 0,
    min: 0,
    max: 1_048_576,
    help: "Tokens of prompt and completion together; 0 is what the checkpoint allows, but at most 8192.",
  }),
  threads: integer({ default: 0, min: 0, max: 1024, help: "CPU threads of the engine; 0 is one per core." }),
  plainGraphBytes: integer({
    default: defaultPlainGraphBytes,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    help: "Bases of at most so many bytes of matrices are in memory twice on the CPU, so that steps in which nobody has an adapter are 1.1 to 1.4 times as fast; 0 is never.",
  }),
  policy: choice({
    choices: schedulingPolicyNames,
    default: defaultScheduling.policy,
    help: "Whose prompt is read first: the tenant served least, the earliest, the most urgent, or whose adapter is at hand.",
  }),
  deviceSlots: integer({
    default: defaultScheduling.deviceSlots,
    min: 0,
    max: 1024,
    help: "Different adapters in one batch; 0 is as many as rows.",
  }),
  ttftTargetMs: integer({
    default: defaultScheduling.ttftTargetMs,
    min: 1,
    max: 3_600_000,
    help: "Time to the first token, in milliseconds, that scheduling aims at.",
  }),
  tpotTargetMs: integer({
    default: defaultScheduling.tpotTargetMs,
    min: 1,
    max: 3_600_000,
    help: "Time between two tokens, in milliseconds, that reading other prompts may not exceed, nor finetuning on an answer's average.",
  }),
  maxQueue: integer({
    default: defaultScheduling.maxQueue,
    min: 1,
    max: 1_000_000,
    help: "Requests that may wait for a row; more are refused with 429.",
  }),
  maxQueuePerTenant: integer({
    default: defaultScheduling.maxQueuePerTenant,
    min: 1,
    max: 1_000_000,
    help: "Requests of one tenant that may wait for a row.",
  }),
  maxKvBytes: integer({
    default: defaultScheduling.maxKvBytes,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    help: "Keys and values of running sequences, in bytes; 0 is enough for every row's whole context.",
  }),
  prefixCacheBytes: integer({
    default: defaultScheduling.prefixCacheBytes,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    help: "Keys and values of prompts that are kept for later ones, in bytes; 0 keeps none.",
  }),
  sharePrefixes: choice({
    choices: ["no", "yes"],
    default: "no",
    help: "Whether tenants share the base's cached prompts; see SECURITY.md for what their timing tells.",
  }),
  batchInvariant: choice({
    choices: ["no", "yes"],
    default: "no",
    help: "Whether to start only where an answer's last bits do not depend on who shares its batch; see docs/quantization.md.",
  }),
  trainingShare,
  trainingMemoryBytes: integer({
    default: defaultScheduling.trainingMemoryBytes,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    help: "Memory of all finetuning jobs together, in bytes: who needs more is refused, the others wait for each other; 0 trains nothing.",
  }),
  hostCacheBytes: optionalInteger({
    defaultText: "a quarter of the memory that this process may use, or what all else leaves",
    min: 1,
    max: Number.MAX_SAFE_INTEGER,
    help: "Decoded adapters that are kept in memory, in bytes; the least recently used leave for others.",
  }),
  maxConnections: integer({
    default: 2048,
    min: 1,
    max: 1_000_000,
    help: "Connections that may be open at once; more are closed as they come.",
  }),
  drainSeconds: integer({
    default: 30,
    min: 0,
    max: 86_400,
    help: "Time that answers under way have to end after SIGTERM; the rest ends with an error.",
  }),
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
