// Lists and records of bounded size. Zod collects a complaint per element, and millions of them stop the HTTP
// thread, so sizes are checked before elements.

import { z } from "@hono/zod-openapi";

export function boundedList<Schema extends z.ZodType>(element: Schema, maximum: number) {
  return z.array(z.unknown()).max(maximum, `has more than ${maximum} members`).pipe(z.array(element));
}

export function boundedRecord<Key extends z.ZodType<string, string>, Value extends z.ZodType>(
  entry: { readonly key: Key; readonly value: Value },
  maximum: number,
) {
  return z
    .custom<Record<string, unknown>>(
      (value) => typeof value === "object" && value !== null && !Array.isArray(value),
      {
        message: "expected an object",
      },
    )
    .openapi({ type: "object" })
    .refine((value) => Object.keys(value).length <= maximum, `has more than ${maximum} members`)
    .pipe(z.record(entry.key, entry.value));
}

/** Token ids, checked as one; the vocabulary is checked later. */
export function tokenIdList(maximum: number) {
  return z
    .unknown()
    .transform((value, context): readonly number[] => {
      const problem = (message: string, path: number[] = []) => {
        context.addIssue({ code: "custom", message, path });
        return z.NEVER;
      };
      if (!Array.isArray(value)) return problem("expected a list of token ids");
      if (value.length > maximum) return problem(`has more than ${maximum} members`);
      const wrong = value.findIndex((id) => !isTokenId(id));
      return wrong < 0 ? value : problem("is not a token id", [wrong]);
    })
    .openapi({ type: "array", items: { type: "integer", minimum: 0 } });
}

export function isTokenId(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0;
}
