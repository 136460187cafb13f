// Errors of the layers below as a request's: with the path of the field, as for every field of a request.

import { SettingsError } from "../../finetuning/settings.ts";
import { RequestError } from "../errors.ts";

/** @param field of the request that the work is about, where it is about one */
export function namingFields<Result>(work: () => Result, field?: string): Result {
  try {
    const result = work();
    if (!(result instanceof Promise)) return result;
    return result.catch((error: unknown) => {
      throw renamed(error, field);
    }) as Result;
  } catch (error) {
    throw renamed(error, field);
  }
}

function renamed(error: unknown, field?: string): unknown {
  if (error instanceof SettingsError) return new RequestError(error.code, error.message, error.param);
  if (error instanceof RequestError && field !== undefined) {
    return new RequestError(error.code, error.message, field);
  }
  return error;
}
