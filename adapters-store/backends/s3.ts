// Objects in a bucket of S3 or of what speaks its protocol. The client is loaded by the first that opens one, so
// that a server without S3 never pays for it. Retries are ours: the client cannot send a file a second time, nor
// go on with an answer that broke off.

import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import type { PutObjectCommandInput, S3Client } from "@aws-sdk/client-s3";
import {
  conflict,
  type GetOptions,
  type LocalFolder,
  type ObjectBody,
  type PutCondition,
  type StorageBackend,
  StorageError,
  type StoredObject,
} from "./backend.ts";
import { failureOf, isConflict, retryDelayMs, retrying } from "./s3-failures.ts";

export type S3BackendOptions = {
  readonly bucket: string;
  readonly prefix?: string; // of every key; default: none
  readonly endpoint?: string; // default: Amazon's
  readonly region?: string; // default: the environment's
  readonly pathStyle?: boolean; // the bucket in the path and not in the host name, as most other servers want it
  /** Default: the environment's, in the order of Amazon's tools. */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string };
  readonly attempts?: number; // per request, default 5
};

type Sdk = typeof import("@aws-sdk/client-s3");
type Answer = { readonly body: Readable; readonly etag: string; readonly sizeBytes: number };

const singlePutLimitBytes = 5 * 2 ** 30; // S3's own

const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** Throws StorageError: `storage_conditions_unsupported`, and those of StorageBackend. */
export async function openS3Backend(options: S3BackendOptions): Promise<StorageBackend> {
  const sdk = await import("@aws-sdk/client-s3");
  const { endpoint, region, pathStyle = false, credentials } = options;
  const client = new sdk.S3Client({
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
    ...(credentials === undefined ? {} : { credentials }),
    forcePathStyle: pathStyle,
    maxAttempts: 1,
    logger: silent, // errors are thrown, and the one who catches them logs
    requestHandler: { connectionTimeout: 5_000, socketTimeout: 30_000 },
    // The newer checksums come as trailers, which other servers do not read; Content-MD5 they all check.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
  });
  const backend = new S3Backend(sdk, client, options);
  try {
    await backend.checkConditions();
  } catch (error) {
    await backend.close();
    throw error;
  }
  return backend;
}

class S3Backend implements StorageBackend {
  readonly #sdk: Sdk;
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #attempts: number;

  constructor(sdk: Sdk, client: S3Client, { bucket, prefix = "", attempts = 5 }: S3BackendOptions) {
    this.#sdk = sdk;
    this.#client = client;
    this.#bucket = bucket;
    this.#prefix = prefix === "" || prefix.endsWith("/") ? prefix : `${prefix}/`;
    this.#attempts = attempts;
  }

  /** Some servers take a conditional write and ignore its condition, and would lose what another process wrote. */
  async checkConditions(): Promise<void> {
    const key = "condition-check";
    const first = await this.put(key, Buffer.from("1"));
    const wasRefused = (condition: PutCondition) =>
      this.put(key, Buffer.from("2"), condition).then(
        () => false,
        (error: unknown) => {
          if (error instanceof StorageError && error.code === "storage_conflict") return true;
          throw error;
        },
      );
    const holds = (await wasRefused({ ifAbsent: true })) && (await wasRefused({ ifMatch: '"0"' }));
    const stillFirst = (await this.head(key))?.etag === first.etag;
    await this.delete(key);
    if (holds && stillFirst) return;
    throw new StorageError(
      "storage_conditions_unsupported",
      `${this.locate("")} ignores If-None-Match or If-Match of a PUT; use a server that honours them, such as Amazon S3, MinIO or versitygw`,
    );
  }

  async put(key: string, body: ObjectBody, condition?: PutCondition): Promise<StoredObject> {
    const { sizeBytes, md5 } = await measure(body);
    if (sizeBytes > singlePutLimitBytes) {
      throw new StorageError(
        "storage_object_too_large",
        `${this.locate(key)} would have ${sizeBytes} bytes; S3 takes ${singlePutLimitBytes} in one piece`,
      );
    }
    const input: PutObjectCommandInput = {
      ...this.#object(key),
      ContentLength: sizeBytes,
      ContentMD5: md5,
      ...(condition && ("ifAbsent" in condition ? { IfNoneMatch: "*" } : { IfMatch: condition.ifMatch })),
    };
    try {
      const etag = await this.#retrying(key, async () => {
        const stream = body instanceof Uint8Array ? body : createReadStream(body.path);
        try {
          const answer = await this.#client.send(new this.#sdk.PutObjectCommand({ ...input, Body: stream }));
          return answer.ETag ?? "";
        } finally {
          if (stream instanceof Readable) stream.destroy();
        }
      });
      return { key, sizeBytes, etag };
    } catch (error) {
      if (condition === undefined || !isConflict(error) || !(body instanceof Uint8Array)) throw error;
      return await this.#ownWrite(key, body, error);
    }
  }

  async get(key: string, { range, ifMatch }: GetOptions = {}): Promise<Readable> {
    const first = await this.#open(key, { range, ifMatch });
    return Readable.from(this.#resuming(key, first, range?.start ?? 0), { objectMode: false });
  }

  async head(key: string): Promise<StoredObject | null> {
    try {
      const answer = await this.#retrying(key, () =>
        this.#client.send(new this.#sdk.HeadObjectCommand(this.#object(key))),
      );
      return { key, sizeBytes: answer.ContentLength ?? 0, etag: answer.ETag ?? "" };
    } catch (error) {
      if (error instanceof StorageError && error.code === "storage_object_missing") return null;
      throw error;
    }
  }

  async *list(prefix: string): AsyncIterable<StoredObject> {
    let token: string | undefined;
    do {
      const page = await this.#retrying(prefix, () =>
        this.#client.send(
          new this.#sdk.ListObjectsV2Command({
            Bucket: this.#bucket,
            Prefix: this.#prefix + prefix,
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
        ),
      );
      for (const { Key = "", Size = 0, ETag = "" } of page.Contents ?? []) {
        yield { key: Key.slice(this.#prefix.length), sizeBytes: Size, etag: ETag };
      }
      token = page.NextContinuationToken;
    } while (token !== undefined);
  }

  async delete(key: string): Promise<void> {
    await this.#retrying(key, () => this.#client.send(new this.#sdk.DeleteObjectCommand(this.#object(key))));
  }

  async openFolder(prefix: string, names: readonly string[], scratch: string): Promise<LocalFolder> {
    const remove = () => rm(scratch, { recursive: true, force: true });
    await mkdir(scratch, { recursive: true });
    try {
      for (const name of names) {
        await pipeline(await this.get(prefix + name), createWriteStream(join(scratch, name)));
      }
    } catch (error) {
      await remove();
      throw error;
    }
    return { directory: scratch, [Symbol.asyncDispose]: remove };
  }

  locate(key: string): string {
    return `s3://${this.#bucket}/${this.#prefix}${key}`;
  }

  async close(): Promise<void> {
    this.#client.destroy();
  }

  #object(key: string) {
    return { Bucket: this.#bucket, Key: this.#prefix + key };
  }

  #open(key: string, { range, ifMatch }: { range: GetOptions["range"]; ifMatch: string | undefined }) {
    return this.#retrying(key, async (): Promise<Answer> => {
      const { Body, ETag, ContentLength } = await this.#client.send(
        new this.#sdk.GetObjectCommand({
          ...this.#object(key),
          ...(range === undefined ? {} : { Range: `bytes=${range.start}-${range.end - 1}` }),
          ...(ifMatch === undefined ? {} : { IfMatch: ifMatch }),
        }),
      );
      const body = Body as Readable;
      if (ifMatch !== undefined && ETag !== ifMatch) {
        body.destroy();
        throw conflict(this.locate(key)); // not every server looks at the condition of a GET
      }
      return { body, etag: ETag ?? "", sizeBytes: ContentLength ?? 0 };
    });
  }

  /** Asks for the rest, of the same object, where an answer breaks off. */
  async *#resuming(key: string, first: Answer, start: number): AsyncGenerator<Uint8Array> {
    const end = start + first.sizeBytes;
    let answer = first;
    let at = start;
    for (let failures = 0; ; ) {
      let broken: unknown = new Error(`the answer ended before byte ${end}`);
      try {
        for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
          at += chunk.byteLength;
          failures = 0;
          yield chunk;
        }
      } catch (error) {
        broken = error;
      }
      if (at === end) return;
      failures++;
      if (failures >= this.#attempts) throw failureOf(broken, this.locate(key));
      await delay(retryDelayMs(failures));
      answer = await this.#open(key, { range: { start: at, end }, ifMatch: first.etag });
    }
  }

  /** A write whose answer was lost is refused when it is repeated; what it wrote is there. */
  async #ownWrite(key: string, body: Uint8Array, refusal: unknown): Promise<StoredObject> {
    const found = await this.head(key);
    if (found === null || found.sizeBytes !== body.byteLength) throw refusal;
    const content = await buffer(await this.get(key, { ifMatch: found.etag }));
    if (!content.equals(body)) throw refusal;
    return found;
  }

  #retrying<T>(key: string, request: () => Promise<T>): Promise<T> {
    return retrying(request, { location: this.locate(key), attempts: this.#attempts });
  }
}

async function measure(body: ObjectBody): Promise<{ sizeBytes: number; md5: string }> {
  const hash = createHash("md5");
  if (body instanceof Uint8Array) {
    return { sizeBytes: body.byteLength, md5: hash.update(body).digest("base64") };
  }
  await pipeline(createReadStream(body.path), hash);
  return { sizeBytes: (await stat(body.path)).size, md5: hash.digest("base64") };
}
