// The command line of npm run peers.

import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { fail } from "../../scripts/command-line.ts";
import { type ModelShapeName, modelShapes } from "../../scripts/model-shapes.ts";
import { mostClients } from "./cells.ts";
import type { Bits } from "./contestant.ts";
import { type ContestantName, contestants } from "./contestants/index.ts";

const usage = `npm run peers -- [flags]

  --prefix DIR        where peers are installed and checkpoints converted, kept between runs
                      (cotenant-peers in the temporary folder)
  --tree DIR          the checkout whose server is measured (this one)
  --contestants LIST  (${Object.keys(contestants).join(",")})
  --shapes LIST       (smollm2-135m,qwen2.5-0.5b)
  --bits LIST         (4,8)
  --clients LIST      (1,4,8,16)
  --rounds N          each goes through all contestants (3)
  --only TEXT         cells whose name has this in it
  --goals             cells that have a goal
  --check             only compare answers without quantization, and end
  --quick             smollm2-135m, 4 bits, 8 clients, one round
  --json FILE         write what was measured
  --join LIST         measure nothing: one table of these JSON files`;

export type Options = {
  readonly prefix: string;
  readonly tree: string;
  readonly contestants: readonly ContestantName[];
  readonly shapes: readonly ModelShapeName[];
  readonly bits: readonly Bits[];
  readonly clients: readonly number[];
  readonly rounds: number;
  readonly only: string;
  readonly goals: boolean;
  readonly check: boolean;
  readonly jsonFile: string | null;
  readonly join: readonly string[];
};

const flags = {
  prefix: { type: "string", default: join(tmpdir(), "cotenant-peers") },
  tree: { type: "string", default: resolve(import.meta.dirname, "../..") },
  contestants: { type: "string", default: Object.keys(contestants).join(",") },
  shapes: { type: "string", default: "smollm2-135m,qwen2.5-0.5b" },
  bits: { type: "string", default: "4,8" },
  clients: { type: "string", default: "1,4,8,16" },
  rounds: { type: "string", default: "3" },
  only: { type: "string", default: "" },
  goals: { type: "boolean", default: false },
  check: { type: "boolean", default: false },
  quick: { type: "boolean", default: false },
  json: { type: "string" },
  join: { type: "string", default: "" },
  help: { type: "boolean", default: false },
} as const;

/** Ends the process where the command line is wrong or asks for help. */
export function readOptions(args: readonly string[]): Options {
  const { values } = parse(args);
  if (values.help) {
    process.stdout.write(`${usage}\n`);
    process.exit(0);
  }
  const quick = values.quick
    ? { shapes: "smollm2-135m", bits: "4", clients: "8", rounds: "1" }
    : { shapes: values.shapes, bits: values.bits, clients: values.clients, rounds: values.rounds };
  const { rounds } = quick;
  return {
    prefix: resolve(values.prefix),
    tree: resolve(values.tree),
    contestants: namesOf("contestants", values.contestants, contestants),
    shapes: namesOf("shapes", quick.shapes, modelShapes),
    bits: listOf(quick.bits).map((text) => {
      if (text === "4" || text === "8") return text === "4" ? 4 : 8;
      return fail(`--bits: ${text} is neither 4 nor 8`);
    }),
    clients: listOf(quick.clients).map((text) => {
      const count = Number(text);
      if (Number.isInteger(count) && count >= 1 && count <= mostClients) return count;
      return fail(`--clients: ${text} is no number from 1 to ${mostClients}`);
    }),
    rounds: /^[1-9]\d?$/.test(rounds)
      ? Number(rounds)
      : fail(`--rounds: ${rounds} is no number from 1 to 99`),
    only: values.only,
    goals: values.goals,
    check: values.check,
    jsonFile: values.json ?? null,
    join: listOf(values.join),
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: flags });
  } catch (error) {
    return fail(`${(error as Error).message}\n\n${usage}`);
  }
}

function namesOf<Name extends string>(
  flag: string,
  text: string,
  known: Readonly<Record<Name, unknown>>,
): Name[] {
  return listOf(text).map((name) => {
    if (Object.hasOwn(known, name)) return name as Name;
    return fail(`--${flag}: ${name} is none of ${Object.keys(known).join(", ")}`);
  });
}

function listOf(text: string): string[] {
  return text === "" ? [] : text.split(",");
}
