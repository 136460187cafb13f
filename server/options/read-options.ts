// Reads every option from its sources: flag, then environment, then config file, then default. Anything that no
// table entry knows is an error that names it.

import {
  environmentNameOf,
  keyOf,
  type OptionName,
  type Options,
  optionNames,
  optionsTable,
} from "../options.ts";
import { readConfigFile } from "./config-file.ts";
import { InvalidOptionError, UnknownNameError, UsageError } from "./errors.ts";
import type { Environment } from "./kinds.ts";

const configFlag = "--config";
const configVariable = "COTENANT_CONFIG";

/** A value as text, and what the user set to give it (for error messages). */
export type Given = { readonly source: string; readonly text: string };

/** Throws UsageError (or a subclass) for anything unknown, repeated or malformed. */
export function readOptions(flags: readonly string[], environment: Environment): Options {
  const fromFlags = readFlags(flags);
  const fromEnvironment = readEnvironment(environment);
  const configPath = fromFlags.get(configFlag) ?? fromEnvironment.get(configVariable);
  const fromFile = configPath === undefined ? new Map<OptionName, Given>() : readConfigFile(configPath.text);

  const valueFor = (name: OptionName): unknown => {
    const given =
      fromFlags.get(`--${keyOf(name)}`) ?? fromEnvironment.get(environmentNameOf(name)) ?? fromFile.get(name);
    if (given === undefined) return optionsTable[name].default(environment);
    const parsed = optionsTable[name].parse(given.text);
    if ("problem" in parsed) throw new InvalidOptionError(given.source, given.text, parsed.problem);
    return parsed.value;
  };
  // Each value has the type of its own table entry, which Object.fromEntries cannot say.
  return Object.fromEntries(optionNames.map((name) => [name, valueFor(name)])) as Options;
}

function readFlags(flags: readonly string[]): Map<string, Given> {
  const known = [configFlag, ...optionNames.map((name) => `--${keyOf(name)}`)];
  const values = new Map<string, Given>();
  const rest = [...flags];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const equals = word.indexOf("=");
    const flag = equals === -1 ? word : word.slice(0, equals);
    if (!flag.startsWith("-"))
      throw new UsageError("unexpected_word", `unexpected word ${JSON.stringify(flag)}`);
    if (!known.includes(flag)) throw new UnknownNameError("flag", flag, known);
    if (values.has(flag)) throw new UsageError("repeated_flag", `${flag} is given twice`);
    const text = equals === -1 ? rest.shift() : word.slice(equals + 1);
    if (text === undefined) throw new UsageError("missing_value", `${flag} needs a value`);
    values.set(flag, { source: flag, text });
  }
  return values;
}

function readEnvironment(environment: Environment): Map<string, Given> {
  const known = [configVariable, ...optionNames.map(environmentNameOf)];
  const values = new Map<string, Given>();
  for (const [variable, text] of Object.entries(environment)) {
    if (!variable.startsWith("COTENANT_") || text === undefined) continue;
    if (!known.includes(variable)) throw new UnknownNameError("environment variable", variable, known);
    values.set(variable, { source: variable, text });
  }
  return values;
}
