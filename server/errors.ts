// What can be wrong with a request, one class per failure. Statuses are http-error.ts's business.

import { CotenantError } from "../kernels/errors.ts";

/** A failure that the request caused; `param` is the path of the field to look at. */
export class RequestError extends CotenantError {
  readonly param: string | null;

  constructor(code: string, message: string, param: string | null = null) {
    super(code, message);
    this.param = param;
  }
}

export class InvalidFieldError extends RequestError {
  constructor(param: string, problem: string) {
    super("invalid_value", param === "" ? problem : `${param}: ${problem}`, param === "" ? null : param);
  }
}

export class UnknownFieldError extends RequestError {
  constructor(param: string) {
    super("unknown_parameter", `Unrecognized request argument supplied: ${param}`, param);
  }
}

/** A field that is known to OpenAI or vLLM and would change the answer, which is not possible here. */
export class UnsupportedFieldError extends RequestError {
  constructor(param: string, remedy: string) {
    super("unsupported_parameter", `${param} is not supported: ${remedy}`, param);
  }
}

export class MalformedJsonError extends RequestError {
  constructor(cause: string) {
    super("malformed_json", `the body is not valid JSON (${cause})`);
  }
}

export class MalformedMultipartError extends RequestError {
  constructor(problem: string) {
    super("malformed_multipart", `the multipart body cannot be read: ${problem}`);
  }
}

export class UnsupportedMediaTypeError extends RequestError {
  constructor(expected: string) {
    super("unsupported_media_type", `send this request with content-type: ${expected}`);
  }
}

export class BodyTooLargeError extends RequestError {
  constructor(limitBytes: number) {
    super("body_too_large", `the body is larger than the limit of ${limitBytes} bytes`);
  }
}

export class RouteNotFoundError extends RequestError {
  constructor(method: string, path: string) {
    super("route_not_found", `there is no ${method} ${path}; GET /openapi.json lists the routes`);
  }
}

export class MethodNotAllowedError extends RequestError {
  constructor(method: string, allowed: readonly string[]) {
    super("method_not_allowed", `${method} is not allowed here; use ${allowed.join(" or ")}`);
  }
}

export class ModelNotFoundError extends RequestError {
  constructor(name: string, param: string) {
    super(
      "model_not_found",
      `The model \`${name}\` does not exist. GET /v1/models lists those that do.`,
      param,
    );
  }
}

export class ContextLengthError extends RequestError {
  constructor(lengths: { readonly maximum: number; readonly prompt: number; readonly completion: number }) {
    const { maximum, prompt, completion } = lengths;
    super(
      "context_length_exceeded",
      `This model's maximum context length is ${maximum} tokens. However, you requested ${prompt + completion} tokens (${prompt} in the prompt, ${completion} in the completion). Shorten the prompt or lower max_tokens.`,
      "prompt",
    );
  }
}

/** Longer than the context could hold if every token were the vocabulary's longest; it was not encoded. */
export class TextTooLongError extends RequestError {
  constructor(lengths: { readonly maximum: number; readonly characters: number; readonly least: number }) {
    const { maximum, characters, least } = lengths;
    super(
      "context_length_exceeded",
      `This model's maximum context length is ${maximum} tokens. However, your prompt has ${characters} characters, which are at least ${least} tokens. Shorten the prompt.`,
      "prompt",
    );
  }
}

export class UntokenizableTextError extends RequestError {
  constructor() {
    super("untokenizable_text", "the text holds characters that this model's vocabulary has no token for");
  }
}

export class TokenizerMissingError extends RequestError {
  constructor() {
    super(
      "tokenizer_missing",
      "the model directory has no tokenizer.json, so text cannot be read or cut; send token ids, or serve a directory with a tokenizer",
    );
  }
}

export class ChatTemplateMissingError extends RequestError {
  constructor() {
    super(
      "chat_template_missing",
      "this model has no chat template (chat_template in tokenizer_config.json, or chat_template.jinja); use /v1/completions, or add one to the model directory and restart",
    );
  }
}

export class ChatTemplateError extends RequestError {
  constructor(cause: string) {
    super(
      "chat_template_refused",
      `the model's chat template cannot render these messages: ${cause}`,
      "messages",
    );
  }
}

/** The engine is still loading, closing, or gone; `reason` says which. */
export class NotReadyError extends RequestError {
  readonly retryAfterMs = 1000; // by then another server may answer at the address

  constructor(reason: string) {
    super("not_ready", `the server is not ready: ${reason}`);
  }
}

/** The engine died with the request, or before it: a new one is starting. */
export class EngineRestartingError extends RequestError {
  readonly retryAfterMs: number;

  constructor(retryAfterMs: number) {
    super("engine_restarting", "the engine failed and is restarting; send the request again");
    this.retryAfterMs = retryAfterMs;
  }
}
