// The options table as text: for `cotenant serve --help` and for docs/configuration.md.

import { environmentNameOf, keyOf, optionNames, optionsTable } from "../options.ts";

const configHelp = "JSON file with any of these options; its keys are the flags' names without the dashes.";

export function optionsHelp(): string {
  const lines = optionNames.map((name) => {
    const option = optionsTable[name];
    return helpEntry(`--${keyOf(name)} ${option.placeholder}`, `${option.help} [${option.defaultText}]`);
  });
  return [...lines, helpEntry("--config FILE", configHelp)].join("\n");
}

function helpEntry(flag: string, help: string): string {
  return `  ${flag}\n      ${help}`;
}

export function configurationDocument(): string {
  const rows = optionNames.map((name) => {
    const option = optionsTable[name];
    const cells = [
      `\`--${keyOf(name)}\``,
      `\`${environmentNameOf(name)}\``,
      option.placeholder.replaceAll("|", ", "),
      option.defaultText,
      option.help,
    ];
    return `| ${cells.join(" | ")} |`;
  });
  return `# Configuration

<!-- Made by \`npm run docs\` from server/options.ts. Do not edit. -->

Each option of \`cotenant serve\` is a flag, an environment variable and a key of the config file. The first source
that has it wins: flag, environment, config file, default. An unknown flag, \`COTENANT_\` variable or key is an
error that names it; so is a value that does not fit. Paths are relative to the working directory.

| Flag | Environment | Value | Default | What it does |
|---|---|---|---|---|
${rows.join("\n")}
| \`--config\` | \`COTENANT_CONFIG\` | FILE | none | ${configHelp} |

A config file:

\`\`\`json
{ "model": "/models/my-base", "adapters": "/models/my-adapters", "port": 8080, "max-rows": 32 }
\`\`\`

Downloads from the hub also read the variables that every Hugging Face tool reads:

| Variable | What it does |
|---|---|
| \`HF_TOKEN\` | Access token, for gated and private models. |
| \`HF_ENDPOINT\` | Address of the hub or of a mirror. Default: https://huggingface.co |
`;
}
