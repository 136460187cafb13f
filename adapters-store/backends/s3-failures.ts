// What a failed request to S3 means, and whether to try it again.

import { setTimeout as delay } from "node:timers/promises";
import { conflict, missing, StorageError } from "./backend.ts";

const firstDelayMs = 100;

/** Throws StorageError for the last failure, or for the first that trying again cannot help. */
export async function retrying<T>(
  request: () => Promise<T>,
  { location, attempts }: { readonly location: string; readonly attempts: number },
): Promise<T> {
  for (let failures = 1; ; failures++) {
    try {
      return await request();
    } catch (error) {
      if (!isTransient(error) || failures >= attempts) throw failureOf(error, location);
      await delay(retryDelayMs(failures));
    }
  }
}

/** Doubles with each failure; the half of it is random, so that many who failed at once do not return at once. */
export function retryDelayMs(failures: number): number {
  return firstDelayMs * 2 ** (failures - 1) * (0.5 + Math.random() / 2);
}

export function failureOf(cause: unknown, location: string): StorageError {
  if (cause instanceof StorageError) return cause;
  const status = statusOf(cause);
  if (status === 412 || status === 409) return conflict(location, cause);
  const name = cause instanceof Error ? cause.name : "";
  if (status === 404 && name !== "NoSuchBucket") return missing(location, cause);
  const why = cause instanceof Error ? `${name}: ${cause.message}` : String(cause);
  return new StorageError(
    "storage_unavailable",
    `${location} cannot be used (${why}); check the endpoint, the bucket, the credentials and the network`,
    { cause },
  );
}

export function isConflict(error: unknown): boolean {
  return error instanceof StorageError && error.code === "storage_conflict";
}

/** Lost connections, overload, and S3's 409, which asks to repeat a conditional write. */
function isTransient(error: unknown): boolean {
  if (error instanceof StorageError) return false;
  const status = statusOf(error);
  if (status !== undefined) return status >= 500 || status === 429 || status === 409 || status === 408;
  return error instanceof Error && ("code" in error || error.name === "TimeoutError");
}

function statusOf(error: unknown): number | undefined {
  if (typeof error !== "object" || error === null || !("$metadata" in error)) return undefined;
  return (error.$metadata as { readonly httpStatusCode?: number }).httpStatusCode;
}
