// node-llama-cpp behind completions-server.ts. Sequences of one model name share a context and so its batches; an
// adapter belongs to a context, so each has one of its own.

import { pathToFileURL } from "node:url";
import { serveCompletions } from "./completions-server.ts";

export type NodeLlamaCppStart = {
  readonly module: string; // path of the package's main file
  readonly model: string;
  readonly base: string;
  readonly adapters: Readonly<Record<string, string>>;
  readonly clients: number;
};

/** What is used of the package, which is not installed where this is checked. */
type Package = {
  getLlama(options: object): Promise<{ loadModel(options: object): Promise<Model> }>;
};
type Model = {
  tokenize(text: string): number[];
  detokenize(tokens: readonly number[]): string;
  createContext(options: object): Promise<Context>;
};
type Context = { getSequence(): Sequence };
type Sequence = {
  evaluate(tokens: readonly number[], options: object): AsyncIterable<number>;
  clearHistory(): Promise<void>;
};

const contextTokens = 640;

const start: NodeLlamaCppStart = JSON.parse(process.argv[3]!);
const { getLlama }: Package = await import(pathToFileURL(start.module).href);
const llama = await getLlama({ gpu: false, build: "never", maxThreads: 2, logLevel: "error" });
const model = await llama.loadModel({ modelPath: start.model });
const idle = new Map<string, Promise<Sequence[]>>(); // by model name

serveCompletions(Number(process.argv[2]), async ({ model: name, prompt, max_tokens: most }, write) => {
  const sequences = await sequencesOf(name);
  const sequence = sequences.pop();
  if (sequence === undefined) throw new Error(`more than ${start.clients} requests at once`);
  try {
    const tokens = model.tokenize(prompt);
    let count = 0;
    for await (const token of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
      write(model.detokenize([token]));
      count++;
      if (count === most) break;
    }
    return { prompt_tokens: tokens.length, completion_tokens: count };
  } finally {
    await sequence.clearHistory();
    sequences.push(sequence);
  }
});

function sequencesOf(name: string): Promise<Sequence[]> {
  let made = idle.get(name);
  if (made === undefined) {
    made = makeSequences(name);
    idle.set(name, made);
  }
  return made;
}

async function makeSequences(name: string): Promise<Sequence[]> {
  const lora = start.adapters[name];
  if (lora === undefined && name !== start.base) throw new Error(`${name} is not served`);
  const context = await model.createContext({
    sequences: start.clients,
    contextSize: contextTokens,
    threads: 2,
    ...(lora === undefined ? {} : { lora }),
  });
  return Array.from({ length: start.clients }, () => context.getSequence());
}
