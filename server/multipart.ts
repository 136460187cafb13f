// Reads multipart/form-data (RFC 7578) as a stream: parts come one after another and nothing is collected, so an
// upload's size costs no memory. Knows no fields.

import { BodyTooLargeError, MalformedMultipartError, UnsupportedMediaTypeError } from "./errors.ts";

export type MultipartPart = {
  readonly name: string;
  readonly fileName: string | null;
  /** Must be read to its end before the next part is asked for. */
  readonly content: AsyncGenerator<Uint8Array>;
};

export type MultipartLimits = { readonly sizeBytes: number; readonly parts: number };

const headerLimitBytes = 16 * 1024;
const drainLimitBytes = 2 ** 26;
const boundaryPattern = /^multipart\/form-data\s*;.*?\bboundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i;
const lineBreak = Buffer.from("\r\n");
const endOfHeaders = Buffer.from("\r\n\r\n");

export async function* readMultipart(
  request: Request,
  limits: MultipartLimits,
): AsyncGenerator<MultipartPart> {
  const match = boundaryPattern.exec(request.headers.get("content-type") ?? "");
  if (!match) throw new UnsupportedMediaTypeError("multipart/form-data with a boundary");
  const delimiter = Buffer.from(`\r\n--${match[1] ?? match[2]}`);
  const input = new Input(request.body, limits.sizeBytes);
  try {
    for await (const _ of input.until(delimiter)); // the preamble says nothing
    for (let parts = 0; !(await isClosing(input)); parts++) {
      if (parts === limits.parts) throw new MalformedMultipartError(`it has more than ${limits.parts} parts`);
      const disposition = await readDisposition(input);
      const content = input.until(delimiter);
      yield { ...disposition, content };
      for await (const _ of content); // what the reader left
    }
  } finally {
    await input.drain(); // a client that is still sending would not hear why its upload is refused
  }
}

/** After a delimiter: `--` closes the body, a line break opens a part. */
async function isClosing(input: Input): Promise<boolean> {
  const mark = (await input.take(2)).toString("latin1");
  if (mark === "--") return true;
  if (mark === "\r\n") return false;
  throw new MalformedMultipartError("a boundary is followed by neither a line break nor --");
}

async function readDisposition(input: Input): Promise<Omit<MultipartPart, "content">> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of input.until(endOfHeaders)) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > headerLimitBytes) throw new MalformedMultipartError("a part's headers are too long");
    chunks.push(chunk);
  }
  const headers = Buffer.concat(chunks).toString("utf8");
  const line = headers.split("\r\n").find((header) => /^content-disposition\s*:/i.test(header)) ?? "";
  const name = parameterOf(line, "name");
  if (name === null) throw new MalformedMultipartError("a part has no name");
  return { name, fileName: parameterOf(line, "filename") };
}

function parameterOf(line: string, parameter: string): string | null {
  const match = new RegExp(`;\\s*${parameter}=(?:"([^"]*)"|([^\\s;]+))`, "i").exec(line);
  return match ? (match[1] ?? match[2] ?? "") : null;
}

/** A byte stream that is read up to marks. */
class Input {
  readonly #reader: AsyncIterator<Uint8Array>;
  readonly #limitBytes: number;
  #sizeBytes = 0;
  #buffer: Buffer = lineBreak; // the first delimiter may stand at the very start

  constructor(body: ReadableStream<Uint8Array> | null, limitBytes: number) {
    this.#reader = (body ?? new ReadableStream<Uint8Array>())[Symbol.asyncIterator]();
    this.#limitBytes = limitBytes;
    if (body === null) throw new MalformedMultipartError("it is empty");
  }

  async take(count: number): Promise<Buffer> {
    while (this.#buffer.length < count) await this.#fill();
    const taken = this.#buffer.subarray(0, count);
    this.#buffer = this.#buffer.subarray(count);
    return taken;
  }

  /** Everything before the mark, which is taken too. */
  async *until(mark: Buffer): AsyncGenerator<Uint8Array> {
    for (;;) {
      const at = this.#buffer.indexOf(mark);
      if (at >= 0) {
        const last = this.#buffer.subarray(0, at);
        this.#buffer = this.#buffer.subarray(at + mark.length);
        if (last.length > 0) yield last;
        return;
      }
      const certain = Math.max(0, this.#buffer.length - mark.length + 1); // the rest may be the mark's start
      const part = this.#buffer.subarray(0, certain);
      this.#buffer = this.#buffer.subarray(certain);
      if (part.length > 0) yield part;
      await this.#fill();
    }
  }

  /** Reads on to the end, or for so long that the rest may be cut. */
  async drain(): Promise<void> {
    try {
      for (let leftBytes = drainLimitBytes; leftBytes > 0; ) {
        const next = await this.#reader.next();
        if (next.done) return;
        leftBytes -= next.value.byteLength;
      }
    } catch {} // the client is gone
  }

  async #fill(): Promise<void> {
    const next = await this.#reader.next();
    if (next.done) throw new MalformedMultipartError("it ends before its closing boundary");
    this.#sizeBytes += next.value.byteLength;
    if (this.#sizeBytes > this.#limitBytes) throw new BodyTooLargeError(this.#limitBytes);
    this.#buffer =
      this.#buffer.length === 0 ? Buffer.from(next.value) : Buffer.concat([this.#buffer, next.value]);
  }
}
