// `cotenant finetune`: makes a job on a running server and follows it. The only thing on stdout is what a script can
// take, the trained model's name or, with --detach, the job's id; everything for people goes to stderr.

import { stat } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { CotenantError } from "../../kernels/errors.ts";
import { curlLine } from "../curl-line.ts";
import { UsageError } from "../options/errors.ts";
import type { Environment } from "../options/kinds.ts";
import { exampleRequest } from "./example-request.ts";
import { followJob } from "./follow-job.ts";
import { defaultServer, type FinetuneFlags, type NewJob, readFlags } from "./job-flags.ts";
import { type Job, ServerClient, ServerError } from "./server-client.ts";
import { createDisplay, type DisplayOutput } from "./training-display.ts";
import { lossText, type TrainingProgress } from "./training-progress.ts";

export type FinetuneTerminal = {
  readonly result: Pick<DisplayOutput, "write">;
  readonly people: DisplayOutput;
  readonly interrupted: AbortSignal; // by Ctrl-C
};

const interruptedStatus = 130;
const retryMs = 500;

/** Returns the exit status. Throws UsageError, and CotenantError with the server's words. */
export async function finetuneCommand(
  args: readonly string[],
  environment: Environment,
  terminal: FinetuneTerminal = processTerminal(),
): Promise<number> {
  const flags = readFlags(args, environment);
  const client = new ServerClient(flags.server, flags.key);
  const { result, interrupted } = terminal;
  try {
    const id = await begin(client, flags, terminal);
    if (id === null) return 0;
    if (flags.detach) {
      result.write(`${id}\n`);
      return 0;
    }
    return await follow(client, { id, flags }, terminal);
  } catch (error) {
    if (!interrupted.aborted || error instanceof CotenantError) throw error;
    terminal.people.write("\nStopped before the job was made; nothing is left on the server.\n");
    return interruptedStatus;
  }
}

/** The first Ctrl-C stops what can be stopped; the second one ends the process, as nobody handles it any more. */
function processTerminal(): FinetuneTerminal {
  const interruption = new AbortController();
  process.once("SIGINT", () => interruption.abort());
  return { result: process.stdout, people: process.stderr, interrupted: interruption.signal };
}

/** The job to follow; null where there is nothing more to do. */
async function begin(
  client: ServerClient,
  { task }: FinetuneFlags,
  terminal: FinetuneTerminal,
): Promise<string | null> {
  switch (task.kind) {
    case "create": {
      const { id } = await createJob(client, task.job, terminal);
      terminal.people.write(`Job ${id}\n`);
      return id;
    }
    case "change": {
      const { id, status } = await client.change(task.id, task.action);
      terminal.people.write(`Job ${id} is ${status}\n`);
      return task.action === "resume" ? id : null;
    }
    case "follow":
      return task.id;
    default:
      return task satisfies never;
  }
}

/** Files whose job is refused are deleted again. */
async function createJob(
  client: ServerClient,
  { file, validationFile, base, request }: NewJob,
  { people, interrupted }: FinetuneTerminal,
): Promise<Job> {
  const paths = validationFile === null ? [file] : [file, validationFile];
  const sizes = await Promise.all(paths.map(sizeOf));
  const servedBase = await whenReady(() => client.baseName(interrupted), { people, interrupted });
  await using uploaded = new AsyncDisposableStack();
  const ids: string[] = [];
  for (const [index, path] of paths.entries()) {
    people.write(`Uploading ${path} (${Math.ceil(sizes[index]! / 1000)} kB)\n`);
    const id = await client.upload(path, interrupted);
    uploaded.defer(() => client.deleteFile(id).catch(() => {})); // the refusal is what its owner has to know
    ids.push(id);
  }
  interrupted.throwIfAborted();
  const [training_file, validation_file] = ids;
  // Not to be interrupted: nobody would know whether there is a job.
  const job = await client.createJob({
    model: base ?? servedBase,
    training_file,
    validation_file,
    ...request,
  });
  uploaded.move();
  return job;
}

/** A server that is still loading its model is waited for. */
async function whenReady<T>(
  ask: () => Promise<T>,
  { people, interrupted }: Pick<FinetuneTerminal, "people" | "interrupted">,
): Promise<T> {
  for (let isFirst = true; ; isFirst = false) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof ServerError && error.code === "not_ready")) throw error;
      if (isFirst) people.write(`Waiting: ${error.message}\n`);
    }
    await delay(retryMs, undefined, { signal: interrupted });
  }
}

async function sizeOf(path: string): Promise<number> {
  const status = await stat(path).catch(() => null);
  if (status?.isFile()) return status.size;
  throw new UsageError("file_unreadable", `${path} is no file that can be read`);
}

async function follow(
  client: ServerClient,
  { id, flags }: { readonly id: string; readonly flags: FinetuneFlags },
  terminal: FinetuneTerminal,
): Promise<number> {
  const { people, interrupted } = terminal;
  const display = createDisplay(people);
  let job: Job;
  try {
    job = await followJob(client, id, {
      signal: interrupted,
      onEvent: (event) => display.show(event),
      onInterruption: ({ code }) =>
        display.note(`The connection is lost (${code}). The job goes on; trying to connect again`),
    });
  } catch (error) {
    display.end();
    if (!interrupted.aborted && !(error instanceof ServerError && error.isPassing)) throw error;
    const actions = remedies(id, flags, ["follow", "pause", "cancel"]);
    people.write(`\nJob ${id} goes on at the server.\n${actions}\n`);
    if (!interrupted.aborted) throw error;
    return interruptedStatus;
  }
  display.end();
  return await report(job, { flags, client, progress: display.progress }, terminal);
}

type Followed = {
  readonly flags: FinetuneFlags;
  readonly client: ServerClient;
  readonly progress: TrainingProgress;
};

async function report(
  { id, status, fine_tuned_model: model, error }: Job,
  { flags, client, progress }: Followed,
  { people, result }: FinetuneTerminal,
): Promise<number> {
  if (status !== "succeeded" || model === null) {
    const reason = error === null ? "" : `: ${error.message}`;
    const remedy = status === "paused" ? `\n${remedies(id, flags, ["resume", "cancel"])}` : "";
    throw new CotenantError(error?.code ?? `job_${status}`, `job ${id} is ${status}${reason}${remedy}`);
  }
  const losses = [
    ...lastLoss("training", progress.training),
    ...lastLoss("validation", progress.validation),
  ].join(", ");
  people.write(`Trained in ${progress.step} steps: ${losses}\n`);
  result.write(`${model}\n`);
  const { path, body } = await exampleRequest(
    model,
    flags.task.kind === "create" ? flags.task.job.file : null,
  );
  const keyVariable = flags.key === null ? null : "COTENANT_API_KEY";
  people.write(`Call it:\n${curlLine({ url: `${client.url}${path}`, keyVariable }, body)}\n`);
  return 0;
}

function lastLoss(name: string, curve: TrainingProgress["training"]): string[] {
  const last = curve.at(-1);
  return last === undefined ? [] : [`${name} loss ${lossText(last[1])}`];
}

function remedies(id: string, { server }: FinetuneFlags, actions: readonly string[]): string {
  const where = server === defaultServer ? "" : ` --server ${server}`;
  return actions
    .map((action) => `${`${action}:`.padEnd(8)} cotenant finetune --${action} ${id}${where}`)
    .join("\n");
}
