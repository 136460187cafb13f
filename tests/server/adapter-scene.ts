// For tests: the embedded base with two adapters, and what tests of adapters do with a server.

import assert from "node:assert/strict";
import { join } from "node:path";
import { AdapterCalls, type NamedContent, peftFiles, type UploadAnswer } from "./adapter-forms.ts";
import { tinyDirectory } from "./scripted-app.ts";
import { startTiny, type TinyServer } from "./start-tiny.ts";

export function demoFiles(demo: string): NamedContent[] {
  return peftFiles(join(tinyDirectory, "adapters", demo));
}

export const orders = demoFiles("orders-json");
export const tickets = demoFiles("ticket-router");
export const style = demoFiles("house-style");

const prompt = { prompt: "Please", temperature: 0, ignore_eos: true };

export class AdapterScene {
  readonly server: TinyServer;
  readonly calls: AdapterCalls;
  readonly texts = new Map<string, string>(); // of `ask`, by demo

  static async open(): Promise<AdapterScene> {
    const scene = new AdapterScene(await startTiny());
    for (const demo of ["orders-json", "ticket-router"]) {
      await scene.upload(`original-${demo}`, demoFiles(demo));
      scene.texts.set(demo, await scene.ask(`original-${demo}`));
    }
    assert.notEqual(scene.texts.get("orders-json"), scene.texts.get("ticket-router"));
    return scene;
  }

  /** Use `open`. */
  constructor(server: TinyServer) {
    this.server = server;
    this.calls = new AdapterCalls(server.url);
  }

  async upload(id: string, files: readonly NamedContent[], fields = {}): Promise<UploadAnswer> {
    const { status, body } = await this.calls.upload({ id, ...fields }, files);
    assert.equal(status, 201, body.error?.message);
    return body;
  }

  async download(id: string, format: string, version?: string): Promise<NamedContent> {
    const query = version === undefined ? "" : `&version=${version}`;
    const response = await this.calls.fetch("GET", `/v1/adapters/${id}/download?format=${format}${query}`);
    assert.equal(response.status, 200);
    const name = /filename="([^"]+)"/.exec(response.headers.get("content-disposition")!)![1]!;
    return { name, content: Buffer.from(await response.arrayBuffer()) };
  }

  async ask(model: string, maxTokens = 24): Promise<string> {
    const body = { ...prompt, model, max_tokens: maxTokens };
    return (await this.server.client.completions.create(body)).choices[0]!.text;
  }

  /** A stream of `longTokens` tokens that has begun, and a way to hear all of it. */
  async stream(model: string): Promise<{ readonly rest: () => Promise<string> }> {
    const body = { ...prompt, model, max_tokens: longTokens, stream: true } as const;
    const iterator = (await this.server.client.completions.create(body))[Symbol.asyncIterator]();
    let text = (await iterator.next()).value!.choices[0]!.text;
    const rest = async () => {
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
        text += next.value.choices[0]?.text ?? "";
      }
      return text;
    };
    return { rest };
  }

  async exposition(): Promise<string[]> {
    const response = await this.calls.fetch("GET", "/metrics");
    return (await response.text()).split("\n");
  }

  /** The sum over the series of a name, or of a name with its labels. */
  async metric(name: string): Promise<number> {
    const lines = await this.exposition();
    const found = lines.filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
    return found.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  close(): Promise<void> {
    return this.server[Symbol.asyncDispose]();
  }
}

export const longTokens = 300;
