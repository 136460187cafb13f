// The embedded base on a free port with a data directory of its own, for end-to-end tests.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { defaultScheduling } from "../../scheduler/scheduling-options.ts";
import { type ServeOptions, startServer } from "../../server/start.ts";

export const tinyName = "tiny";

export type TinyServer = {
  readonly url: string;
  readonly adminUrl: string | null;
  readonly client: OpenAI;
  readonly adapters: readonly string[]; // ids
  readonly dataDirectory: string;
  readonly failure: Promise<never>;
  readonly [Symbol.asyncDispose]: () => Promise<void>;
};

const repository = fileURLToPath(new URL("../..", import.meta.url));

export async function startTiny(overrides: Partial<ServeOptions> = {}): Promise<TinyServer> {
  const dataDirectory = await mkdtemp(join(tmpdir(), "cotenant-test-"));
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    admin: null,
    keysFile: null,
    refusesWebPages: overrides.keysFile === undefined,
    modelDirectory: join(repository, "models/tiny"),
    modelName: tinyName,
    adaptersDirectory: null,
    dataDirectory,
    cacheDirectory: join(repository, "node_modules/.cache/cotenant-test"),
    device: "cpu",
    quantize: "int8",
    maxRows: 16,
    maxContext: 0,
    threads: 0,
    scheduling: defaultScheduling,
    hostCacheBytes: 2 ** 28,
    loraDirectory: null,
    maxConnections: 4096,
    drainSeconds: 5,
    logLevel: "silent",
    ...overrides,
  });
  return {
    url: server.url,
    adminUrl: server.adminUrl,
    client: new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 }),
    adapters: server.adapters.map(({ id }) => id),
    dataDirectory: overrides.dataDirectory ?? dataDirectory,
    failure: server.failure,
    async [Symbol.asyncDispose]() {
      await server.close();
      await rm(dataDirectory, { recursive: true, force: true });
    },
  };
}

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}
