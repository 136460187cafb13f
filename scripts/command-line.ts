// Flags of the scripts: --help, and a refusal of whatever is unknown, missing or not a whole number.

import { parseArgs } from "node:util";

export class CommandLine {
  readonly #values: Readonly<Record<string, string | boolean | undefined>>;

  /** Ends the process with the usage where --help is given or a flag is unknown. */
  constructor(usage: string, names: readonly string[]) {
    const options = Object.fromEntries(names.map((name) => [name, { type: "string" } as const]));
    try {
      this.#values = parseArgs({ options: { ...options, help: { type: "boolean" } } }).values;
    } catch (error) {
      fail(`${(error as Error).message}\n\n${usage}`);
    }
    if (this.#values.help === true) {
      process.stdout.write(`${usage}\n`);
      process.exit(0);
    }
  }

  string(name: string, fallback?: string): string {
    const value = this.#values[name] ?? fallback;
    if (typeof value === "string" && value !== "") return value;
    fail(`--${name} is needed; see --help`);
  }

  /** The first one unless the flag is given. */
  oneOf<Choice extends string>(name: string, choices: readonly Choice[]): Choice {
    const text = this.string(name, choices[0]);
    return (
      choices.find((choice) => choice === text) ?? fail(`--${name} must be one of ${choices.join(", ")}`)
    );
  }

  whole(name: string, fallback?: number): number {
    const text = this.string(name, fallback?.toString());
    if (/^\d{1,9}$/.test(text)) return Number(text);
    fail(`--${name} must be a whole number, not ${text}`);
  }
}

/** Ends the process with a message and status 2. */
export function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}
