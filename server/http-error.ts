// The one place that maps an error's code to an HTTP status and to OpenAI's error body. Knows no routes.

import { z } from "@hono/zod-openapi";
import { AdapterError, CotenantError } from "../kernels/errors.ts";
import { RequestError } from "./errors.ts";

export const errorBody = z
  .object({
    error: z.object({
      message: z.string(),
      type: z.string(),
      param: z.string().nullable(),
      code: z.string(),
    }),
  })
  .openapi("Error");

export type ErrorBody = z.output<typeof errorBody>;

export type HttpFailure = {
  readonly status: number;
  readonly body: ErrorBody;
  readonly headers: Readonly<Record<string, string>>;
};

const statusByCode: Readonly<Record<string, number>> = {
  invalid_value: 400,
  unknown_parameter: 400,
  unsupported_parameter: 400,
  malformed_json: 400,
  invalid_token_id: 400,
  adapters_conflict: 400,
  too_many_adapters: 400,
  request_too_large: 400,
  answer_too_large: 400,
  malformed_multipart: 400,
  context_length_exceeded: 400,
  untokenizable_text: 400,
  tokenizer_missing: 400,
  invalid_training_file: 400,
  training_does_not_fit: 400,
  training_settings_invalid: 400,
  training_unsupported: 400,
  chat_template_missing: 400,
  chat_template_refused: 400,
  lora_already_loaded: 400,
  lora_fields_missing: 400,
  missing_api_key: 401,
  invalid_api_key: 401,
  insufficient_permissions: 403,
  foreign_host: 403,
  foreign_origin: 403,
  quota_exceeded: 403,
  route_not_found: 404,
  model_not_found: 404,
  adapter_not_found: 404, // it was removed between the look-up and the submission
  adapter_version_unknown: 404,
  lora_directory_missing: 404,
  lora_not_found: 404,
  request_not_found: 404,
  file_not_found: 404,
  job_not_found: 404,
  ledger_not_found: 404,
  method_not_allowed: 405,
  request_timed_out: 408,
  adapter_id_taken: 409,
  adapter_id_read_only: 409,
  adapter_in_use: 409,
  adapter_moved: 409,
  adapter_pins_exceed_cache: 409,
  adapter_version_current: 409,
  file_in_use: 409,
  job_state: 409,
  body_too_large: 413,
  storage_object_too_large: 413,
  adapter_larger_than_cache: 413,
  unsupported_media_type: 415,
  rate_limit_exceeded: 429,
  queue_full: 429,
  bodies_too_many: 429,
  answers_too_many: 429,
  uploads_too_many: 429,
  encodings_too_many: 429,
  plots_too_many: 429,
  request_cancelled: 499, // nginx's; its client asked for it elsewhere
  adapter_cache_busy: 429,
  adapter_jobs_busy: 429,
  compositions_exhausted: 429,
  adapter_store_damaged: 500,
  adapter_changed: 500,
  adapter_cache_pinned: 503,
  adapter_size_changed: 503,
  storage_unavailable: 503,
  storage_conflict: 503, // somebody else wrote; what is there now has been read again
  plot_timed_out: 503,
  not_ready: 503,
  engine_failed: 503,
  engine_restarting: 503,
  server_closing: 503,
};

const typeByStatus: Readonly<Record<number, string>> = {
  403: "permission_error",
  404: "not_found_error",
  409: "conflict_error",
  429: "rate_limit_error",
  503: "service_unavailable_error",
};

/** Errors of no known code become a 500 whose body says nothing of the cause; the caller logs it. */
export function toHttpFailure(error: unknown): HttpFailure {
  const status = statusOf(error);
  if (status === 500 || !(error instanceof CotenantError)) return internalFailure;
  const type = typeByStatus[status] ?? "invalid_request_error";
  const param = error instanceof RequestError ? error.param : null;
  const body = { error: { message: error.message, type, param, code: error.code } };
  return { status, body, headers: headersOf(status, error) };
}

/** What tells a client's library whether and when to try again. */
function headersOf(status: number, error: CotenantError): Record<string, string> {
  if (status === 401) return { "www-authenticate": "Bearer" };
  if (!("retryAfterMs" in error)) return status === 429 ? { "retry-after": "1" } : {};
  if (typeof error.retryAfterMs === "number") {
    const waitMs = Math.ceil(error.retryAfterMs);
    return { "retry-after": String(Math.ceil(waitMs / 1000)), "retry-after-ms": String(waitMs) };
  }
  return status === 429 || status === 408 ? { "x-should-retry": "false" } : {}; // OpenAI's clients would try again, and heed this
}

function statusOf(error: unknown): number {
  if (!(error instanceof CotenantError)) return 500;
  // Whatever else is wrong with an adapter is wrong with the files that the client sent.
  return statusByCode[error.code] ?? (error instanceof AdapterError ? 400 : 500);
}

const internalFailure: HttpFailure = {
  status: 500,
  headers: {},
  body: {
    error: {
      message: "The server failed while answering; the log has the cause under this response's x-request-id.",
      type: "server_error",
      param: null,
      code: "internal_error",
    },
  },
};
