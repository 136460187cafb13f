// Reads a request's query string by a schema; the first thing wrong becomes one RequestError that names the
// parameter. Knows no endpoint.

import { z } from "@hono/zod-openapi";
import { toRequestError } from "./json-body.ts";

/** A parameter that may come several times, or as `name[]`, as OpenAI's clients write lists. */
export function listParameter<Element extends z.ZodType>(element: Element) {
  return z.preprocess((value) => (typeof value === "string" ? [value] : value), z.array(element).optional());
}

/** Throws UnknownFieldError and InvalidFieldError. */
export function readQuery<Schema extends z.ZodType>(request: Request, schema: Schema): z.output<Schema> {
  const given: Record<string, string | string[]> = Object.create(null);
  const { searchParams } = new URL(request.url);
  for (const name of new Set(searchParams.keys())) {
    const values = searchParams.getAll(name);
    const isList = name.endsWith("[]");
    given[isList ? name.slice(0, -2) : name] = isList || values.length > 1 ? values : values[0]!;
  }
  const parsed = schema.safeParse(given, { jitless: true });
  if (parsed.success) return parsed.data;
  throw toRequestError(parsed.error.issues[0]!, []);
}
