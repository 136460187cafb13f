// A real server process that speaks S3: s3rver from npm, which checks signatures and checksums and keeps objects as
// files, but knows no conditional PUT; that check is added here. COTENANT_TEST_S3=http://key:secret@host:port/bucket
// runs the same tests against any other server, such as versitygw or MinIO. Run directly, this file is that process.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import type { S3BackendOptions } from "../adapters-store/backends/s3.ts";
import { KeyedTurns } from "../adapters-store/store-turns.ts";

export type S3Server = { readonly options: S3BackendOptions; close(): Promise<void> };

const bucket = "adapters";
if (process.argv[1] === fileURLToPath(import.meta.url))
  await serve(process.argv[2]!, process.argv[3] !== "unconditional");

/** Keeps its objects below `folder`, and finds those of a server before it. */
export async function startS3Server(folder: string, conditions = true): Promise<S3Server> {
  const given = process.env.COTENANT_TEST_S3;
  if (given !== undefined && conditions) return { options: optionsOf(new URL(given)), close: async () => {} };
  const file = fileURLToPath(import.meta.url);
  const mode = conditions ? "conditional" : "unconditional";
  const child = spawn(process.execPath, ["--no-deprecation", file, folder, mode], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NODE_TEST_CONTEXT: undefined },
  });
  const [line] = (await once(child.stdout.setEncoding("utf8"), "data")) as [string];
  return {
    options: optionsOf(new URL(line.trim())),
    close: async () => {
      child.kill();
      await once(child, "exit");
    },
  };
}

function optionsOf(url: URL): S3BackendOptions {
  return {
    bucket: url.pathname.slice(1),
    endpoint: url.origin,
    region: "us-east-1",
    pathStyle: true,
    credentials: { accessKeyId: url.username, secretAccessKey: url.password },
  };
}

/** What is used of s3rver, which has no types: a Koa application. */
type Koa = {
  readonly middleware: ((context: KoaContext, next: () => Promise<void>) => Promise<void>)[];
  readonly store: { getObject(bucket: string, key: string): Promise<{ metadata: { etag: string } } | null> };
  run(): Promise<AddressInfo>;
};
type KoaContext = {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | undefined>>;
  status: number;
  type: string;
  body: unknown;
};

async function serve(directory: string, conditions: boolean): Promise<void> {
  const S3rver: new (options: object) => Koa = createRequire(import.meta.url)("s3rver");
  const configureBuckets = [{ name: bucket }];
  const server = new S3rver({ directory, port: 0, address: "127.0.0.1", silent: true, configureBuckets });
  const puts = new KeyedTurns();
  server.middleware.unshift(async (context, next) => {
    const { "if-none-match": ifNoneMatch, "if-match": ifMatch } = context.headers;
    if (context.method !== "PUT" || !conditions || (ifNoneMatch ?? ifMatch) === undefined) return next();
    await puts.run(context.path, () => conditionalPut(context, next, server.store));
  });
  const { port } = await server.run();
  console.log(`http://S3RVER:S3RVER@127.0.0.1:${port}/${bucket}`);
}

/** As S3 does it: If-None-Match holds where there is no object, If-Match where there is one with that ETag. */
async function conditionalPut(context: KoaContext, next: () => Promise<void>, store: Koa["store"]) {
  const { "if-none-match": ifNoneMatch, "if-match": ifMatch } = context.headers;
  const [, , ...key] = decodeURIComponent(context.path).split("/");
  const found = await store.getObject(bucket, key.join("/")).catch(() => null);
  const holds =
    (ifNoneMatch === undefined || found === null) &&
    (ifMatch === undefined || found?.metadata.etag === ifMatch);
  if (holds) return next();
  const code = found === null ? "NoSuchKey" : "PreconditionFailed";
  context.status = found === null ? 404 : 412;
  context.type = "application/xml";
  context.body = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`;
}
