// The flags of `npm run load`: one table for parsing, --help and defaults.

import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { conversationLengths, type Lengths } from "./lengths.ts";
import {
  positiveNumber,
  readLengths,
  readPopularity,
  readTenants,
  refuse,
  type Tenant,
  wholeNumber,
} from "./option-values.ts";
import type { Popularity } from "./popularity.ts";
import type { Endpoint } from "./send-request.ts";
import type { Slo } from "./summary.ts";

export type LoadOptions = {
  readonly url: string;
  readonly scenario: string;
  readonly tenants: readonly Tenant[]; // at least one
  readonly adminKey: string | null; // for /metrics; null: the first tenant's
  readonly durationSeconds: number;
  readonly drainSeconds: number;
  readonly seed: number;
  readonly clients: number | null; // null: open loop, or the scenario's number
  readonly variation: number;
  readonly popularity: Popularity | null; // null: the scenario's
  readonly prompt: Lengths;
  readonly output: Lengths;
  readonly base: string | null;
  readonly adapters: readonly string[] | null; // null: what the server lists
  readonly checkpoint: string | null; // generate adapters for it
  readonly count: number | null; // of adapters; null: the scenario's
  readonly rank: number;
  readonly compress: string | null; // of generated adapters; null: the scenario's way
  readonly slots: number | null;
  readonly contextTokens: number | null;
  readonly endpoint: Endpoint;
  readonly vllmFields: boolean;
  readonly slo: Slo;
  readonly workers: number;
  readonly jsonFile: string | null;
  readonly htmlFile: string | null;
};

type Flag = { readonly value: string | null; readonly default?: string; readonly help: string };

const flags = {
  url: { value: "URL", help: "the server, such as http://127.0.0.1:8000" },
  scenario: { value: "NAME", help: "what to run; the list is below" },
  key: { value: "[NAME=]KEY", help: "API key of a tenant; again for another tenant" },
  "admin-key": { value: "KEY", help: "for /metrics, where scenarios read it; default the first --key" },
  duration: { value: "SECONDS", default: "60", help: "of sending, over all phases of the scenario" },
  drain: { value: "SECONDS", default: "60", help: "for open answers after each phase; then they are left" },
  rate: { value: "R[,R...]", default: "2", help: "requests per second; one for each key, or one for all" },
  clients: { value: "N", help: "closed loop of so many clients instead of a rate" },
  variation: { value: "V", default: "3", help: "of bursty gaps: their standard deviation over their mean" },
  popularity: { value: "NAME", help: "identical, distinct, uniform, zipf[:ALPHA] or skewed" },
  "prompt-tokens": { value: "MEDIAN[:SIGMA]", help: "log-normal; default 90:1.2, like ShareGPT's" },
  "output-tokens": { value: "MEDIAN[:SIGMA]", help: "log-normal; default 130:0.9" },
  base: { value: "NAME", help: "the base model; default the first of GET /v1/models without a parent" },
  adapters: { value: "A,B,...", help: "adapters to ask for; default those of GET /v1/models" },
  model: { value: "DIR", help: "checkpoint that generated adapters fit; they are uploaded and deleted" },
  count: { value: "N", help: "how many adapters many-adapters and cold-adapters use" },
  rank: { value: "R", default: "16", help: "of generated adapters" },
  compress: { value: "METHOD", help: "how the server stores generated adapters: int8, or options as JSON" },
  slots: { value: "N", help: "adapters the server holds at once (cliff); default max_lora of its metrics" },
  context: { value: "TOKENS", help: "longest prompt and answer; default max_model_len of GET /v1/models" },
  endpoint: { value: "NAME", default: "completions", help: "completions or chat" },
  "vllm-fields": { value: null, help: "send ignore_eos, so that answers have their planned length" },
  "slo-ttft-ms": { value: "MS", default: "2000", help: "goodput: longest time to the first token" },
  "slo-tpot-ms": { value: "MS", default: "200", help: "goodput: longest mean time per further token" },
  seed: { value: "N", default: "1", help: "of everything that is drawn" },
  workers: { value: "N", default: String(Math.min(4, availableParallelism())), help: "processes that send" },
  json: { value: "FILE", help: "write all figures there" },
  html: { value: "FILE", help: "write a report with plots there" },
} as const satisfies Record<string, Flag>;

type FlagName = keyof typeof flags;

/** Throws UsageError. Null where --help is asked for. */
export function readOptions(args: readonly string[]): LoadOptions | null {
  const values = parsed(args);
  if (values.has("help")) return null;
  const text = (name: FlagName) => values.get(name)?.at(-1) ?? defaultOf(name);
  const needed = (name: FlagName) => text(name) ?? refuse(`--${name} is needed`);
  const positive = (name: FlagName) => positiveNumber(name, needed(name));
  const whole = (name: FlagName) => wholeNumber(name, needed(name));
  const optional = (name: FlagName) => (text(name) === null ? null : whole(name));
  const url = needed("url");
  if (!URL.canParse(url)) refuse(`--url ${url} is not a URL`);
  const endpoint = needed("endpoint");
  if (endpoint !== "completions" && endpoint !== "chat") refuse(`--endpoint is completions or chat`);
  const popularity = text("popularity");
  return {
    url,
    scenario: needed("scenario"),
    tenants: readTenants(values.get("key") ?? [], needed("rate")),
    adminKey: text("admin-key"),
    durationSeconds: positive("duration"),
    drainSeconds: positive("drain"),
    seed: Number(/^\d+$/.test(needed("seed")) ? needed("seed") : refuse("--seed is a whole number")),
    clients: optional("clients"),
    variation: positive("variation"),
    popularity: popularity === null ? null : readPopularity(popularity),
    prompt: readLengths("prompt-tokens", text("prompt-tokens"), conversationLengths.prompt),
    output: readLengths("output-tokens", text("output-tokens"), conversationLengths.output),
    base: text("base"),
    adapters: text("adapters")?.split(",") ?? null,
    checkpoint: text("model"),
    count: optional("count"),
    rank: whole("rank"),
    compress: text("compress"),
    slots: optional("slots"),
    contextTokens: optional("context"),
    endpoint,
    vllmFields: values.has("vllm-fields"),
    slo: { ttftMs: positive("slo-ttft-ms"), tpotMs: positive("slo-tpot-ms") },
    workers: whole("workers"),
    jsonFile: text("json"),
    htmlFile: text("html"),
  };
}

export function flagsHelp(): string {
  const rows = Object.entries(flags).map(([name, flag]: [string, Flag]) => {
    const usage = flag.value === null ? `--${name}` : `--${name} ${flag.value}`;
    return `  ${usage.padEnd(32)} ${flag.help}${flag.default === undefined ? "" : ` (${flag.default})`}`;
  });
  return rows.join("\n");
}

/** The command as it may be shown: keys are secrets. */
export function redacted(args: readonly string[]): string[] {
  const isKey = (flag: string | undefined) => flag === "--key" || flag === "--admin-key";
  return args.map((argument, index) => {
    if (isKey(args[index - 1])) return "***";
    const [flag] = argument.split("=");
    return argument.includes("=") && isKey(flag) ? `${flag}=***` : argument;
  });
}

function parsed(args: readonly string[]): Map<string, string[]> {
  const options = Object.fromEntries(
    Object.entries(flags).map(([name, { value }]: [string, Flag]) => {
      return [
        name,
        value === null ? ({ type: "boolean" } as const) : ({ type: "string", multiple: true } as const),
      ];
    }),
  );
  try {
    const { values } = parseArgs({ args: [...args], options: { ...options, help: { type: "boolean" } } });
    return new Map(Object.entries(values).map(([name, value]) => [name, [value].flat().map(String)]));
  } catch (error) {
    return refuse((error as Error).message);
  }
}

function defaultOf(name: FlagName): string | null {
  const flag: Flag = flags[name];
  return flag.default ?? null;
}
