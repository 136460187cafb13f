// The command line: which command, and how it ends. Exit status 0 = done, 1 = failed, 2 = wrong usage.

import { CotenantError } from "../kernels/errors.ts";
import { UnknownNameError, UsageError } from "./options/errors.ts";
import { readOptions } from "./options/read-options.ts";
import { optionsHelp } from "./options/render.ts";
import { packageVersion } from "./package-root.ts";

const help = `Usage: cotenant COMMAND [OPTIONS]

One frozen base model, many LoRA adapters in one batch, over an OpenAI-compatible API.

Commands:
  serve        Start the server (cotenant serve --help lists its options)
  finetune     Train an adapter on a running server, and follow it (cotenant finetune --help)
  keys         Make, rotate, revoke and list the keys of tenants (cotenant keys --help)

Options:
  --help       This text
  --version    The version
`;

const serveHelp = `Usage: cotenant serve [OPTIONS]

Without options it serves the embedded model with its demo adapters on http://127.0.0.1:8000.
Every option is also an environment variable (--max-rows: COTENANT_MAX_ROWS) and a key of the --config file.

Options:
${optionsHelp()}
`;

const commands = ["serve", "finetune", "keys"];

async function run([command, ...rest]: readonly string[]): Promise<number> {
  const wantsHelp = rest.includes("--help") || rest.includes("-h");
  switch (command) {
    case "serve": {
      if (wantsHelp) return print(serveHelp);
      const options = readOptions(rest, process.env);
      const { serve } = await import("./serve.ts"); // help and refusals need not wait for the engine's code
      return serve(options, process.env);
    }
    case "finetune": {
      const { finetuneHelp } = await import("./finetune-command/job-flags.ts");
      if (wantsHelp) return print(finetuneHelp);
      const { finetuneCommand } = await import("./finetune-command/finetune-command.ts");
      return finetuneCommand(rest, process.env);
    }
    case "keys": {
      const { keysCommand, keysHelp } = await import("./tenancy/keys-command.ts");
      return wantsHelp ? print(keysHelp) : keysCommand(rest, process.env);
    }
    case "--help":
    case "-h":
    case "help":
      return print(help);
    case "--version":
    case "-v":
      return print(`${packageVersion()}\n`);
    case undefined:
      throw new UsageError("missing_command", `no command given\n\n${help}`);
    default:
      throw new UnknownNameError("command", command, [...commands, "--help", "--version"]);
  }
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(); // whoever read it has seen enough: cotenant --help | head
});

try {
  process.exitCode = await run(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof CotenantError)) throw error; // a bug: keep its stack
  const isUsage = error instanceof UsageError;
  const hint = isUsage
    ? "\nSee: cotenant --help, cotenant serve --help, cotenant finetune --help, cotenant keys --help"
    : "";
  process.stderr.write(`cotenant: ${error.message} [${error.code}]${hint}\n`);
  process.exit(isUsage ? 2 : 1);
}
