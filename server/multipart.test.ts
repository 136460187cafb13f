import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type MultipartLimits, readMultipart } from "./multipart.ts";

const limits: MultipartLimits = { sizeBytes: 1 << 20, parts: 4 };

function request(
  bytes: Uint8Array,
  cuts: readonly number[],
  type = "multipart/form-data; boundary=XyZ",
): Request {
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  const chunks = ends.map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end));
  const body = ReadableStream.from(chunks);
  return new Request("http://test/", {
    method: "POST",
    body,
    duplex: "half",
    headers: { "content-type": type },
  });
}

async function read(from: Request, given: MultipartLimits = limits) {
  const parts: { name: string; fileName: string | null; content: Buffer }[] = [];
  for await (const { name, fileName, content } of readMultipart(from, given)) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of content) chunks.push(chunk);
    parts.push({ name, fileName, content: Buffer.concat(chunks) });
  }
  return parts;
}

function encode(parts: readonly { name: string; fileName: string | null; content: Buffer }[]): Buffer {
  const encoded = parts.flatMap(({ name, fileName, content }) => [
    Buffer.from(
      `--XyZ\r\ncontent-disposition: form-data; name="${name}"${fileName === null ? "" : `; filename="${fileName}"`}\r\n\r\n`,
    ),
    content,
    Buffer.from("\r\n"),
  ]);
  return Buffer.concat([...encoded, Buffer.from("--XyZ--\r\n")]);
}

const word = fc.string({ unit: fc.constantFrom("a", "b", "-", "."), minLength: 1, maxLength: 6 });
// Bytes that look like boundaries as often as not.
const content = fc
  .array(fc.constantFrom("\r\n", "--", "XyZ", "--XyZ-", "\r\n--Xy", "a", "\0\xff"), { maxLength: 12 })
  .map((bits) => Buffer.from(bits.join(""), "latin1"))
  .filter((bytes) => !`\r\n${bytes.toString("latin1")}\r\n`.includes("\r\n--XyZ"));
const part = fc.record({ name: word, fileName: fc.option(word), content }, { noNullPrototype: true });

test("parts come out as they went in, however the body is cut into chunks", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(part, { maxLength: 4 }),
      fc.array(fc.nat(), { maxLength: 8 }),
      async (parts, cuts) => {
        if (parts.length === 0) return;
        assert.deepEqual(await read(request(encode(parts), cuts)), parts);
      },
    ),
    { numRuns: 500 },
  );
});

test("a body cut short is refused wherever it ends", async () => {
  const whole = encode([{ name: "id", fileName: null, content: Buffer.from("x") }]);
  for (let length = 0; length < whole.length - 4; length++) {
    await assert.rejects(read(request(whole.subarray(0, length), [])), { code: "malformed_multipart" });
  }
});

test("limits and media type", async () => {
  const one = { name: "a", fileName: null, content: Buffer.alloc(100) };
  await assert.rejects(read(request(encode([one, one]), []), { ...limits, parts: 1 }), {
    code: "malformed_multipart",
  });
  await assert.rejects(read(request(encode([one]), []), { ...limits, sizeBytes: 50 }), {
    code: "body_too_large",
  });
  await assert.rejects(read(request(encode([one]), [], "application/json")), {
    code: "unsupported_media_type",
  });
});
