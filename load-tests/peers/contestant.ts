// The contract of whoever is measured: it serves one checkpoint at so many bits, with adapters if it can, behind
// OpenAI's completions route.

import type { OnnxPrecision } from "./onnx/build-onnx.ts";

export type Bits = 4 | 8;

/** One checkpoint in everybody's format. */
export type Converted = {
  readonly shape: string;
  readonly checkpoint: string; // Hugging Face directory
  readonly adapters: string; // directory of PEFT directories
  readonly adapterNames: readonly string[]; // of its subfolders
  readonly ggufAdapters: readonly string[]; // paths, in the order of the names
  gguf(type: GgufType): string; // path; made when it is first asked for
  onnx(precision: OnnxPrecision): string; // directory; as above
};

export type GgufType = "Q4_0" | "Q8_0" | "F32";

export type ServeJob = {
  readonly converted: Converted;
  readonly bits: Bits | "all"; // all: not quantized, to compare answers
  readonly prefix: string; // where peers are installed
  readonly tree: string; // the checkout whose server is measured
  readonly clients: number; // at most so many at once
};

export type Served = {
  readonly url: string;
  readonly base: string; // what requests call the model
  readonly adapters: readonly string[]; // empty where it serves none: it is then in no cell with adapters
  /** What a request to a model has beside the fields that all have. */
  readonly modelFields: Readonly<Record<string, object>>;
  readonly setting: string; // version and flags that matter, for the report
  stop(): Promise<void>;
};

export type Contestant = {
  readonly needs: string; // what `install` wants of the machine, for people
  install(prefix: string): void; // does nothing where it is there already
  serve(job: ServeJob): Promise<Served>;
};
