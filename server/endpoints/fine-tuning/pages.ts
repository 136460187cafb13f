// Cursor pages of OpenAI's lists.

import { z } from "@hono/zod-openapi";
import { InvalidFieldError } from "../../errors.ts";

export const pageLimit = 20;

const limit = z.coerce.number().int().min(1).max(100);

/** `limit` is told apart from its default. */
export const openPageQuery = z.strictObject({
  after: z.string().exactOptional().openapi({ description: "The last id of the page before." }),
  limit: limit.exactOptional().openapi({ default: pageLimit }),
});

export const pageQuery = openPageQuery.extend({ limit: limit.default(pageLimit) });

export function pageAnswer<Item extends z.ZodType>(item: Item) {
  return z.object({
    object: z.literal("list"),
    data: z.array(item),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  });
}

export function pageOf<Item extends { readonly id: string }>(data: readonly Item[], hasMore: boolean) {
  return {
    object: "list",
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: hasMore,
  };
}

/** The number behind a prefix. Throws InvalidFieldError for the id of something else. */
export function numberedCursor(after: string | undefined, prefix: string): number | null {
  if (after === undefined) return null;
  const number = after.startsWith(prefix) ? after.slice(prefix.length) : "";
  if (!/^\d{1,15}$/.test(number)) throw new InvalidFieldError("after", "is no id of this list");
  return Number(number);
}
