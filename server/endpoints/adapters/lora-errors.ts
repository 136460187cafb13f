// vLLM's refusals of its two adapter routes, in vLLM's words (vllm/entrypoints/openai/models/serving.py).

import { RequestError } from "../../errors.ts";

export class LoraFieldsMissingError extends RequestError {
  constructor(message: string) {
    super("lora_fields_missing", message);
  }
}

export class LoraAlreadyLoadedError extends RequestError {
  constructor(name: string) {
    super(
      "lora_already_loaded",
      `The lora adapter '${name}' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True.`,
    );
  }
}

export class LoraNotFoundError extends RequestError {
  constructor(message: string) {
    super("lora_not_found", message);
  }
}

/** vLLM has no such route either until it is told to. */
export class LoraDirectoryMissingError extends RequestError {
  constructor() {
    super(
      "lora_directory_missing",
      "adapters cannot be loaded by path; start the server with --lora-directory DIR, or upload them to POST /v1/adapters",
    );
  }
}
