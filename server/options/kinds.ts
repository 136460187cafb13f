// The kinds of value an option can take: how its text is read, what --help shows in its place.

/** A process's environment, as process.env has it. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Text that is not a value: `problem` finishes the sentence "--name ...". */
export type Parsed<Value> = { readonly value: Value } | { readonly problem: string };

export type Option<Value> = {
  readonly help: string;
  readonly placeholder: string; // stands for the value in --help
  readonly defaultText: string; // stands for the default in --help
  readonly jsonType: "string" | "number"; // of the value in a config file
  default(environment: Environment): Value;
  parse(text: string): Parsed<Value>;
};

function parseText(value: string): Parsed<string> {
  return value.trim() === "" ? { problem: "must not be empty" } : { value };
}

export function text(of: { placeholder: string; default: string; help: string }): Option<string> {
  return {
    ...of,
    defaultText: of.default,
    jsonType: "string",
    default: () => of.default,
    parse: parseText,
  };
}

/** Text whose absence means something; `defaultText` says what. */
export function optionalText(of: {
  placeholder: string;
  defaultText: string;
  help: string;
}): Option<string | null> {
  return { ...of, jsonType: "string", default: () => null, parse: parseText };
}

export function folder(of: { default: DefaultFolder; help: string }): Option<string> {
  return {
    help: of.help,
    placeholder: "DIR",
    defaultText: of.default.documented,
    jsonType: "string",
    default: of.default.path,
    parse: parseText,
  };
}

/** A folder that depends on the machine, and how to write it for every machine at once. */
export type DefaultFolder = {
  readonly documented: string;
  readonly path: (environment: Environment) => string;
};

export function integer(of: { default: number; min: number; max: number; help: string }): Option<number> {
  return {
    help: of.help,
    placeholder: "N",
    defaultText: String(of.default),
    jsonType: "number",
    default: () => of.default,
    parse: (digits) => {
      const value = Number(digits);
      const valid = /^\d+$/.test(digits) && value >= of.min && value <= of.max;
      return valid ? { value } : { problem: `must be a whole number from ${of.min} to ${of.max}` };
    },
  };
}

/** A whole number whose absence means something; `defaultText` says what. */
export function optionalInteger(of: {
  defaultText: string;
  min: number;
  max: number;
  help: string;
}): Option<number | null> {
  return { ...integer({ ...of, default: of.min }), defaultText: of.defaultText, default: () => null };
}

export function choice<const Choice extends string>(of: {
  choices: readonly Choice[];
  default: NoInfer<Choice>;
  help: string;
}): Option<Choice> {
  return {
    help: of.help,
    placeholder: of.choices.join("|"),
    defaultText: of.default,
    jsonType: "string",
    default: () => of.default,
    parse: (name) => {
      const value = of.choices.find((known) => known === name);
      return value === undefined ? { problem: `must be one of ${of.choices.join(", ")}` } : { value };
    },
  };
}
