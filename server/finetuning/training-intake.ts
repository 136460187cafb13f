// Writes a training file to disk as it arrives and checks each of its lines on the way. Knows no owners.

import { open } from "node:fs/promises";
import { type ExampleFormat, parseExample } from "./training-example.ts";
import { InvalidTrainingFileError, LineProblems } from "./training-file-errors.ts";
import { linesOf } from "./training-lines.ts";

export type Intake = {
  readonly path: string; // of a file that is not there yet
  readonly onBytes: (sizeBytes: number) => void; // may throw, which ends it
};

export type Examined = { readonly bytes: number; readonly format: ExampleFormat; readonly examples: number };

/** The file is synced. Throws InvalidTrainingFileError, and then some of the file may be there. */
export async function takeExamples(
  content: AsyncIterable<Uint8Array>,
  { path, onBytes }: Intake,
): Promise<Examined> {
  const file = await open(path, "wx");
  try {
    let bytes = 0;
    async function* written() {
      for await (const chunk of content) {
        bytes += chunk.byteLength;
        onBytes(chunk.byteLength);
        await file.writeFile(chunk); // goes on where the last one ended
        yield chunk;
      }
    }
    const checked = await checkLines(written());
    await file.sync();
    return { bytes, ...checked };
  } finally {
    await file.close();
  }
}

/** The file is synced. @returns its bytes */
export async function writeContent(content: Iterable<string>, { path, onBytes }: Intake): Promise<number> {
  const file = await open(path, "wx");
  try {
    let bytes = 0;
    for (const text of content) {
      const chunk = Buffer.from(text);
      await file.writeFile(chunk);
      bytes += chunk.byteLength;
      onBytes(chunk.byteLength);
    }
    await file.sync();
    return bytes;
  } finally {
    await file.close();
  }
}

async function checkLines(content: AsyncIterable<Uint8Array>): Promise<Omit<Examined, "bytes">> {
  const problems = new LineProblems();
  let format: ExampleFormat | null = null;
  let examples = 0;
  for await (const line of linesOf(content)) {
    const example: ReturnType<typeof parseExample> =
      "problem" in line ? line : parseExample(line.text, format);
    if ("problem" in example) problems.add(line.number, example.problem);
    else {
      format = example.format;
      examples++;
    }
  }
  problems.refuseAny();
  if (format === null)
    throw new InvalidTrainingFileError("the file has no example; send one JSON object per line");
  return { format, examples };
}
