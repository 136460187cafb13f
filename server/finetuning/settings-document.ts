// docs/finetuning-settings.md, made of the tables that requests are checked against.

import { type MethodName, methods } from "../../finetuning/methods/index.ts";
import type { Method } from "../../finetuning/methods/method.ts";
import type { SettingKind, SettingsTable } from "../../finetuning/settings.ts";
import { computed, hyperparameters } from "./hyperparameters.ts";

export function settingsDocument(): string {
  const sections = Object.entries<Method>(methods).map(([name, method]) =>
    methodSection(name as MethodName, method),
  );
  return `# Settings of finetuning jobs

Made from the tables that requests are checked against by \`npm run docs\`; do not edit. What they are for is in
[finetuning.md](finetuning.md).

## \`hyperparameters\`

Every one may be \`"auto"\`, or left out, which is the same.

${table(hyperparameters, computed)}

${sections.join("\n\n")}
`;
}

function methodSection(name: MethodName, { summary, learningRate, settings }: Method): string {
  return `## \`method.adapter\` of type \`${name}\`

${summary}. Its learning rate is ${learningRate} unless one is given.

${table(settings)}`;
}

/** @param defaults in words, instead of the table's */
function table(settings: SettingsTable, defaults: Readonly<Record<string, string>> = {}): string {
  const rows = Object.entries(settings).map(([name, setting]) => {
    const value = defaults[name] ?? `\`${JSON.stringify(setting.default)}\``;
    return `| \`${name}\` | ${valuesOf(setting)} | ${value} | ${setting.help} |`;
  });
  return ["| setting | values | default | |", "|---|---|---|---|", ...rows].join("\n");
}

function valuesOf(setting: SettingKind): string {
  const choices = (names: readonly string[]) => names.map((name) => `\`${name}\``).join(", ");
  switch (setting.kind) {
    case "integer":
      return `whole, ${setting.min} to ${setting.max}`;
    case "number":
      return `${setting.min} to ${setting.max}`;
    case "flag":
      return "`true`, `false`";
    case "choice":
      return choices(setting.choices);
    case "choices":
      return `a list of ${choices(setting.choices)}`;
    case "numbers":
      return `an object of ${choices(setting.names)}, each ${setting.min} to ${setting.max}`;
    default:
      return setting satisfies never;
  }
}
