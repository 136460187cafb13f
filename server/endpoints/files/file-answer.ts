// A file as OpenAI's API shows it.

import { z } from "@hono/zod-openapi";
import { filePurposes, type StoredFile } from "../../finetuning/stored-file.ts";

export const fileAnswer = z
  .object({
    id: z.string(),
    object: z.literal("file"),
    bytes: z.int(),
    created_at: z.int(),
    filename: z.string(),
    purpose: z.enum(filePurposes),
    status: z.literal("processed"),
    status_details: z.null(),
  })
  .openapi("File");

/** There is none that is not checked yet: an upload is answered when it is. */
export function fileAnswerOf(file: StoredFile): z.output<typeof fileAnswer> {
  return {
    id: file.id,
    object: "file",
    bytes: file.bytes,
    created_at: file.createdAtSeconds,
    filename: file.filename,
    purpose: file.purpose,
    status: "processed",
    status_details: null,
  };
}
