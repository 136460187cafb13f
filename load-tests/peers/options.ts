// The command line of npm run peers.

import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type ModelShapeName, modelShapes } from "../../scripts/model-shapes.ts";
import { refuse } from "../load/option-values.ts";
import { type Cell, cellsFor, mostClients } from "./cells.ts";
import type { Bits } from "./contestant.ts";
import { type ContestantName, contestants } from "./contestants/index.ts";
import { goalOf } from "./goals.ts";
import type { Run } from "./results.ts";

export const usage = `npm run peers -- [flags]

  --prefix DIR        where peers are installed and checkpoints converted, kept between runs; 20 GB when all is there
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
  --quick             other defaults: smollm2-135m, 4 bits, 8 clients, one round
  --json FILE         write what was measured
  --join LIST         measure nothing: one table of these JSON files
`;

export type Options = {
  readonly prefix: string;
  readonly tree: string;
  readonly contestants: readonly ContestantName[];
  readonly shapes: readonly ModelShapeName[];
  readonly bits: readonly Bits[];
  readonly cells: readonly Cell[]; // at least one
  readonly rounds: number;
  readonly check: boolean;
  readonly jsonFile: string | null;
  readonly joined: readonly Run[]; // of --join
};

const flags = {
  prefix: { type: "string", default: join(tmpdir(), "cotenant-peers") },
  tree: { type: "string", default: resolve(import.meta.dirname, "../..") },
  contestants: { type: "string", default: Object.keys(contestants).join(",") },
  shapes: { type: "string" },
  bits: { type: "string" },
  clients: { type: "string" },
  rounds: { type: "string" },
  only: { type: "string", default: "" },
  goals: { type: "boolean", default: false },
  check: { type: "boolean", default: false },
  quick: { type: "boolean", default: false },
  json: { type: "string" },
  join: { type: "string" },
  help: { type: "boolean", default: false },
} as const;

const defaults = { shapes: "smollm2-135m,qwen2.5-0.5b", bits: "4,8", clients: "1,4,8,16", rounds: "3" };
const quickDefaults = { shapes: "smollm2-135m", bits: "4", clients: "8", rounds: "1" };

/** Throws UsageError. Null where --help is asked for. */
export function readOptions(args: readonly string[]): Options | null {
  const values = parsed(args);
  if (values.help) return null;
  const { shapes, bits, clients, rounds } = { ...(values.quick ? quickDefaults : defaults), ...values };
  return {
    prefix: resolve(values.prefix),
    tree: resolve(values.tree),
    contestants: namesOf("contestants", values.contestants, contestants),
    shapes: namesOf("shapes", shapes, modelShapes),
    bits: listOf("bits", bits).map((text) => {
      if (text === "4" || text === "8") return text === "4" ? 4 : 8;
      return refuse(`--bits: ${text} is neither 4 nor 8`);
    }),
    cells: cellsOf(clientsOf(clients), values),
    rounds: /^[1-9]\d?$/.test(rounds)
      ? Number(rounds)
      : refuse(`--rounds: ${rounds} is no number from 1 to 99`),
    check: values.check,
    jsonFile: values.json ?? null,
    joined: values.join === undefined ? [] : listOf("join", values.join).map(readRun),
  };
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: flags }).values;
  } catch (error) {
    return refuse((error as Error).message);
  }
}

function clientsOf(text: string): number[] {
  return listOf("clients", text).map((one) => {
    const count = Number(one);
    if (Number.isInteger(count) && count >= 1 && count <= mostClients) return count;
    return refuse(`--clients: ${one} is no number from 1 to ${mostClients}`);
  });
}

function cellsOf(
  clients: readonly number[],
  { only, goals }: { readonly only: string; readonly goals: boolean },
): Cell[] {
  const all = cellsFor(clients);
  const cells = all.filter((cell) => cell.name.includes(only) && (!goals || goalOf(cell) !== null));
  if (cells.length > 0) return cells;
  return refuse(
    `no cell is left by --only and --goals; there are: ${all.map(({ name }) => name).join("; ")}`,
  );
}

function namesOf<Name extends string>(
  flag: string,
  text: string,
  known: Readonly<Record<Name, unknown>>,
): Name[] {
  return listOf(flag, text).map((name) => {
    if (Object.hasOwn(known, name)) return name as Name;
    return refuse(`--${flag}: ${name} is none of ${Object.keys(known).join(", ")}`);
  });
}

function listOf(flag: string, text: string): string[] {
  return text === "" ? refuse(`--${flag} names nothing`) : text.split(",");
}

function readRun(file: string): Run {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    return refuse(`--join: ${(error as Error).message}; give files that --json wrote`);
  }
}
