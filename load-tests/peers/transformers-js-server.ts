// transformers.js behind completions-server.ts. Its `generate` runs one sequence (or several of one length, from their
// start to their end together, which requests are not): further requests wait their turn.

import { pathToFileURL } from "node:url";
import { serveCompletions, type Usage } from "./completions-server.ts";

export type TransformersJsStart = {
  readonly module: string; // path of the package's main file
  readonly model: string; // directory
  readonly dtype: string; // says which of the directory's graphs
  readonly threads: number;
};

/** What is used of the package, which is not installed where this is checked. */
type Package = {
  readonly env: { allowRemoteModels: boolean; localModelPath: string };
  readonly AutoTokenizer: { from_pretrained(directory: string): Promise<Tokenizer> };
  readonly AutoModelForCausalLM: { from_pretrained(directory: string, options: object): Promise<Model> };
};
type Tokenizer = {
  (text: string): { readonly input_ids: { readonly dims: readonly number[] } };
  decode(tokens: readonly bigint[], options: object): string;
};
type Model = { generate(options: object): Promise<unknown> };

const start: TransformersJsStart = JSON.parse(process.argv[3]!);
const { env, AutoTokenizer, AutoModelForCausalLM }: Package = await import(pathToFileURL(start.module).href);
env.allowRemoteModels = false;
env.localModelPath = "/";
const tokenizer = await AutoTokenizer.from_pretrained(start.model);
const model = await AutoModelForCausalLM.from_pretrained(start.model, {
  dtype: start.dtype,
  device: "cpu",
  session_options: { intraOpNumThreads: start.threads, interOpNumThreads: 1 },
});

let last: Promise<unknown> = Promise.resolve();

serveCompletions(Number(process.argv[2]), ({ prompt, max_tokens: most }, write) => {
  const turn = last.then(() => complete(prompt, most, write));
  last = turn.catch(() => {});
  return turn;
});

async function complete(prompt: string, most: number, write: (text: string) => void): Promise<Usage> {
  const inputs = tokenizer(prompt);
  let puts = 0; // the first is the prompt
  const streamer = {
    put([tokens]: readonly [readonly bigint[]]) {
      if (puts++ > 0) write(tokenizer.decode(tokens, { skip_special_tokens: false }));
    },
    end() {},
  };
  const settings = { max_new_tokens: most, do_sample: false, eos_token_id: null };
  await model.generate({ ...inputs, ...settings, streamer });
  return { prompt_tokens: inputs.input_ids.dims[1]!, completion_tokens: puts - 1 };
}
