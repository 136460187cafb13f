// npm run load: one scenario against any OpenAI-compatible server. Exits 0 where all its checks hold, 1 where one
// does not, 2 on wrong usage or where the server cannot be used at all.

import { writeFileSync } from "node:fs";
import type { Check } from "./check.ts";
import { reportHtml } from "./html-report.ts";
import { HttpClient, UnexpectedAnswerError } from "./http-client.ts";
import { UsageError } from "./option-values.ts";
import { flagsHelp, type LoadOptions, readOptions } from "./options.ts";
import { ProgressLine } from "./progress-line.ts";
import { isPassed, type Report, reportJson, reportText } from "./report.ts";
import { runHeader } from "./run-header.ts";
import { type Scenario, ScenarioError } from "./scenario.ts";
import { scenarios } from "./scenarios/index.ts";
import { calibrate, findModels } from "./served-models.ts";
import { Stage } from "./stage.ts";

class UnusableServerError extends Error {}

if (import.meta.main) process.exit(await runLoad(process.argv.slice(2)));

export async function runLoad(args: readonly string[]): Promise<number> {
  try {
    const options = readOptions(args);
    if (options === null) {
      process.stdout.write(usage());
      return 0;
    }
    const scenario = Object.entries<Scenario>(scenarios).find(([name]) => name === options.scenario)?.[1];
    if (scenario === undefined)
      throw new UsageError(`--scenario ${options.scenario} is none of the list below`);
    const report = await runScenario(scenario, options, args);
    if (options.jsonFile !== null) writeFileSync(options.jsonFile, reportJson(report));
    if (options.htmlFile !== null) writeFileSync(options.htmlFile, await reportHtml(report));
    process.stdout.write(reportText(report));
    return isPassed(report) ? 0 : 1;
  } catch (error) {
    if (error instanceof UsageError) process.stderr.write(`${error.message}\n\n${usage()}`);
    else if (error instanceof UnusableServerError) process.stderr.write(`${error.message}\n`);
    else throw error;
    return 2;
  }
}

/** A scenario that breaks off is a failed one: what it measured until then is reported all the same. */
async function runScenario(
  scenario: Scenario,
  options: LoadOptions,
  args: readonly string[],
): Promise<Report> {
  const notes: string[] = [];
  const note = (text: string) => notes.push(text);
  const progress = new ProgressLine(process.stderr);
  await using client = new HttpClient(options.url);
  const { header, models, shape } = await prepare({ options, args, client, note });
  let checks: readonly Check[] = [];
  let failure: string | null = null;
  const stage = new Stage({
    options,
    client,
    models,
    shape,
    note,
    onProgress: (phase, seconds, counts) => progress.show(phase, seconds, counts),
    onCount: (what, done, of) => progress.showCount(what, done, of),
  });
  try {
    checks = await scenario.run(stage);
  } catch (error) {
    failure = (error as Error).message;
    const isExpected = error instanceof ScenarioError || error instanceof UnexpectedAnswerError;
    if (!isExpected) process.stderr.write(`${(error as Error).stack}\n`);
  }
  await stage.deleteUploads();
  progress.end();
  const { scenario: name, slo } = options;
  return { header, scenario: name, slo, checks, failure, notes, phases: stage.phases };
}

type Start = {
  readonly options: LoadOptions;
  readonly args: readonly string[];
  readonly client: HttpClient;
  readonly note: (text: string) => void;
};

async function prepare({ options, args, client, note }: Start) {
  const { endpoint, vllmFields, tenants, url } = options;
  try {
    const header = await runHeader(args, client);
    const models = await findModels(client, options, note);
    const tokensPerWord = await calibrate(client, models, { key: tenants[0]!.key, endpoint });
    return { header, models, shape: { endpoint, vllmFields, tokensPerWord } };
  } catch (error) {
    throw new UnusableServerError(`${url} cannot be measured: ${(error as Error).message}`);
  }
}

function usage(): string {
  const list = Object.entries<Scenario>(scenarios).map(
    ([name, { summary, passes }]) =>
      `  ${name.padEnd(16)} ${summary};\n${" ".repeat(19)}passes when ${passes}`,
  );
  return `npm run load -- --url URL --scenario NAME [flags]\n\n${flagsHelp()}\n\nScenarios:\n${list.join("\n")}\n`;
}
