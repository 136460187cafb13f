// POST /v1/files: a training file is checked as it arrives, and is there once the whole form was right.

import { z } from "@hono/zod-openapi";
import {
  BodyTooLargeError,
  InvalidFieldError,
  UnknownFieldError,
  UnsupportedFieldError,
} from "../../errors.ts";
import type { StagedFile } from "../../finetuning/training-files.ts";
import { type MultipartPart, readMultipart } from "../../multipart.ts";
import { jsonResponse, plainEndpoint } from "../endpoint.ts";
import { fileAnswer, fileAnswerOf } from "./file-answer.ts";

const purpose = "fine-tune";
const limits = { sizeBytes: 512 * 2 ** 20, parts: 8 }; // OpenAI's size
const fieldLimitBytes = 1024;
const fileNameLength = 255;

const uploadForm = z.object({
  purpose: z.literal(purpose),
  file: z.string().openapi({
    format: "binary",
    description: `Lines of JSON, all chat examples ({"messages"}), completions ({"prompt", "completion"}) or preferences ({"input", "preferred_output", "non_preferred_output"}).`,
  }),
});

export const uploadFile = plainEndpoint({
  method: "post",
  path: "/v1/files",
  access: "manage",
  listener: "main",
  summary: "Upload a file of training examples",
  request: { body: { required: true, content: { "multipart/form-data": { schema: uploadForm } } } },
  responses: { 200: jsonResponse("The file, which is checked.", fileAnswer) },
  async handle({ raw, tenant }, context) {
    const { trainingFiles, adaptersOf, uploads } = context.readiness.serving;
    const seen = new Set<string>();
    await using form = new AsyncDisposableStack();
    const folder = form.use(await uploads.open(tenant.id)); // stays empty, but counts what is under way
    const onGrowth = (sizeBytes: number) => {
      folder.makeRoom(sizeBytes);
      adaptersOf(tenant).checkStoredBytes();
    };
    onGrowth(0);
    let staged: StagedFile | null = null;
    for await (const part of readMultipart(raw, limits)) {
      const { name, content } = part;
      if (seen.has(name)) throw new InvalidFieldError(name, "is given twice; give it once");
      seen.add(name);
      if (name === "purpose") await checkPurpose(part);
      else if (name === "file") {
        const filename = fileNameOf(part);
        staged = form.use(await trainingFiles.stage({ owner: tenant.id, filename, content, onGrowth }));
      } else if (/^expires_after(\[|$)/.test(name))
        throw new UnsupportedFieldError("expires_after", "files stay until they are deleted; leave it out");
      else throw new UnknownFieldError(name);
    }
    if (!seen.has("purpose")) throw new InvalidFieldError("purpose", `is missing; send ${purpose}`);
    if (staged === null) throw new InvalidFieldError("file", "is missing; send it as a file part");
    return Response.json(fileAnswerOf(await staged.publish()));
  },
});

async function checkPurpose({ content }: MultipartPart): Promise<void> {
  let text = "";
  for await (const chunk of content) {
    text += Buffer.from(chunk).toString("latin1");
    if (text.length > fieldLimitBytes) throw new BodyTooLargeError(fieldLimitBytes);
  }
  if (text !== purpose)
    throw new InvalidFieldError("purpose", `must be ${purpose}, the only use of files here`);
}

/** A label; where the bytes go is the server's choice. */
function fileNameOf({ fileName }: MultipartPart): string {
  if (fileName === null || fileName === "" || fileName.length > fileNameLength || /\p{Cc}/u.test(fileName)) {
    throw new InvalidFieldError(
      "file",
      `must be a file with a name of at most ${fileNameLength} characters, such as examples.jsonl`,
    );
  }
  return fileName;
}
