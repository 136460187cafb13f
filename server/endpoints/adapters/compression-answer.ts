// What answers say of a compression's cost in bytes and in the weights.

import { z } from "@hono/zod-openapi";
import type { CompressedFile } from "../../../adapters-store/store-derive.ts";

export const compressionReport = z.object({
  encodings: z.record(z.string(), z.unknown()).openapi({ description: "By group of modules." }),
  ratio: z.number().openapi({ description: "Of the same values with 16 bits to the file." }),
  weight_error: z.object({ total: z.number(), by_kind: z.record(z.string(), z.number()) }).openapi({
    description: "Norm of the change in what the adapter adds to the weights, relative to that.",
  }),
  bytes_before: z.int(),
  bytes_after: z.int(),
});

type Sizes = { readonly before: number; readonly after: number };

export function compressionReportOf({ packed }: Pick<CompressedFile, "packed">, sizes: Sizes) {
  const { encodings, ratio, weightError } = packed;
  return {
    encodings: { ...encodings },
    ratio,
    weight_error: { total: weightError.total, by_kind: { ...weightError.byKind } },
    bytes_before: sizes.before,
    bytes_after: sizes.after,
  };
}
