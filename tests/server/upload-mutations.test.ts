// Spoilt uploads through POST /v1/adapters of a real server: each is answered 4xx with a code, or is a sound adapter
// after all; nothing of a refused one stays anywhere, and the server goes on. Thousands more of them, without HTTP,
// are in adapters-store/store-mutations.test.ts, whose kinds of damage these are.

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { archiveWriters, type FixtureEntry } from "../../adapters-store/archives/archive-fixture.ts";
import { memorySource } from "../../adapters-store/container/byte-source.ts";
import { readHeader, writeHeader } from "../../adapters-store/container/container-header.ts";
import { formatManifest, parseManifest } from "../../adapters-store/container/manifest.ts";
import { mutations } from "../../adapters-store/formats/byte-mutations-fixture.ts";
import { modulePath, writePeft } from "../../adapters-store/peft-fixture.ts";
import { mutationOf } from "../../adapters-store/upload-mutations-fixture.ts";
import { tensorOf } from "../../kernels/checkpoint/write-safetensors.ts";
import { until } from "../until.ts";
import { AdapterCalls, type NamedContent, peftFiles } from "./adapter-forms.ts";
import { startTiny, type TinyServer } from "./start-tiny.ts";

const storeMutations = 320;
const damagedFiles = 40; // of each kind of file
const lanes = 4;
const memoryLimitBytes = 400 << 20;

type Case = { readonly name: string; readonly files: readonly NamedContent[]; readonly code?: string };

test("spoilt uploads are refused with a code and leave nothing, or are sound adapters", async () => {
  await using server = await startTiny();
  const calls = new AdapterCalls(server.url);
  const valid = await validForms(calls);
  const cases = [
    ...Array.from({ length: storeMutations }, (_, seed) => storeMutation(seed)),
    ...wrongOnPurpose(valid),
    ...Object.values(valid).flatMap((forms) => forms.flatMap(damaged)),
  ];
  const before = await state(server, calls);
  const startBytes = process.memoryUsage.rss();
  let mostBytes = startBytes;
  const codes = new Map<string, number>();
  let next = 0;
  const lane = async (id: string) => {
    while (next < cases.length) {
      const spoilt = cases[next++]!;
      const { status, body } = await calls.upload({ id }, spoilt.files);
      mostBytes = Math.max(mostBytes, process.memoryUsage.rss());
      const code = status === 201 ? "accepted" : String(body.error?.code);
      codes.set(code, (codes.get(code) ?? 0) + 1);
      const told = `${spoilt.name}: ${status} ${JSON.stringify(body).slice(0, 300)}`;
      assert.ok(status === 201 || (status >= 400 && status < 500), told);
      if (spoilt.code !== undefined) assert.equal(code, spoilt.code, told);
      if (status === 201) {
        const gone = await calls.call("DELETE", `/v1/adapters/${id}`);
        assert.equal(gone.status, 200, told);
      } else {
        assert.match(code, /^[a-z0-9_]+$/, told);
        assert.ok(body.error!.message.length > 10, told);
        assert.equal((await calls.get(id)).status, 404, told);
      }
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, index) => lane(`spoilt-${index}`)));
  assert.ok(codes.size > 15, `only ${[...codes.keys()]}`);
  assert.ok((codes.get("accepted") ?? 0) < cases.length / 4, JSON.stringify([...codes]));
  assert.ok(mostBytes - startBytes < memoryLimitBytes, `${(mostBytes - startBytes) >> 20} MiB more`);
  const versions = join(server.dataDirectory, "adapters", "versions");
  await until(() => readdirSync(versions).length === 0); // files of the deleted ones leave behind the answer
  assert.deepEqual(await state(server, calls), before);
});

/** Small uploads in each form that the server takes. */
async function validForms(calls: AdapterCalls) {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-spoilt-"));
  writePeft(directory, {
    config: { target_modules: ["q_proj"] },
    tensors: ["lora_A", "lora_B"].map((factor, index) => {
      const shape = index === 0 ? [2, 256] : [256, 2];
      const values = Float32Array.from({ length: 512 }, (_, i) => Math.sin(i + index) / 10);
      return tensorOf(`${modulePath(0, "self_attn.q_proj")}.${factor}.weight`, shape, values);
    }),
  });
  const peft = peftFiles(directory);
  rmSync(directory, { recursive: true });
  assert.equal((await calls.upload({ id: "valid" }, peft)).status, 201);
  const response = await calls.fetch("GET", "/v1/adapters/valid/download?format=cotenant");
  const container = { name: "adapter.cotenant", content: Buffer.from(await response.arrayBuffer()) };
  const entries = peft.map(({ name, content }) => ({ name, content }));
  const archives = Object.entries(archiveWriters).map(([kind, write]) => archive(kind, write(entries)));
  for (const files of [[container], ...archives.map((one) => [one])]) {
    const { status, body } = await calls.upload({ id: "valid" }, files);
    assert.equal(status, 201, JSON.stringify(body));
  }
  assert.equal((await calls.call("DELETE", "/v1/adapters/valid")).status, 200);
  return { peft: [peft], container: [[container]], archives: archives.map((one) => [one]) };
}

function archive(kind: string, content: Uint8Array): NamedContent {
  return { name: `adapter.${kind}`, content };
}

function storeMutation(seed: number): Case {
  const { name, upload } = mutationOf(seed);
  if (upload.kind === "archive") {
    const kind = upload.bytes.subarray(0, 2).toString("latin1") === "PK" ? "zip" : "tar";
    return { name, files: [archive(kind, upload.bytes)] };
  }
  return { name, files: [...upload.files].map(([file, content]) => ({ name: file, content })) };
}

/** What the issue names one by one, each with the code that must be said. */
function wrongOnPurpose({ peft, container }: Awaited<ReturnType<typeof validForms>>): Case[] {
  const files = peft[0]!;
  const config = (change: (fields: Record<string, unknown>) => void): NamedContent[] =>
    files.map((file) => {
      if (file.name !== "adapter_config.json") return file;
      const fields = JSON.parse(Buffer.from(file.content).toString());
      change(fields);
      return { ...file, content: Buffer.from(JSON.stringify(fields)) };
    });
  const bomb: FixtureEntry[] = [...files, { name: "zeros", content: Buffer.alloc(64 << 20) }];
  const climber: FixtureEntry[] = [...files, { name: "../../x", content: Buffer.from("x") }];
  const twice: FixtureEntry[] = [...files, files[0]!];
  const doubled = files.map((file) =>
    file.name === "adapter_config.json"
      ? { ...file, content: Buffer.from(Buffer.from(file.content).toString().replace("{", '{"r":3,')) }
      : file,
  );
  const zip = archiveWriters.zip;
  return [
    { name: "zip bomb", files: [archive("zip", zip(bomb))], code: "archive_too_large" },
    { name: "path in a zip", files: [archive("zip", zip(climber))], code: "archive_path_invalid" },
    {
      name: "path in a tar",
      files: [archive("tar", archiveWriters.tar(climber))],
      code: "archive_path_invalid",
    },
    { name: "a file twice in a zip", files: [archive("zip", zip(twice))], code: "adapter_file_duplicate" },
    {
      name: "no zip at all",
      files: [archive("zip", Buffer.from("PK\x03\x04 or not"))],
      code: "archive_malformed",
    },
    { name: "duplicate key in the config", files: doubled, code: "adapter_config_malformed" },
    {
      name: "a module that is not targeted",
      files: config((fields) => {
        fields.target_modules = ["w_pack"];
      }),
      code: "adapter_module_not_targeted",
    },
    { name: "no module of the base", files: ofOtherModules(files), code: "no_modules_matched" },
    { name: "another base", files: [ofAnotherBase(container[0]![0]!)], code: "adapter_base_mismatch" },
    {
      name: "a path as a file's name",
      files: [files[0]!, { ...files[1]!, name: "..\\adapter_model.safetensors" }],
      code: "invalid_value",
    },
    {
      name: "another method",
      files: config((fields) => {
        fields.peft_type = "OFT";
      }),
      code: "peft_type_unsupported",
    },
  ];
}

/** Tensors as those of another architecture are called. */
function ofOtherModules(files: readonly NamedContent[]): NamedContent[] {
  const other = (text: string) =>
    text.replaceAll("self_attn.q_proj", "attention.qlin").replaceAll("q_proj", "qlin");
  return files.map(({ name, content }) => {
    if (name === "adapter_config.json")
      return { name, content: Buffer.from(other(Buffer.from(content).toString())) };
    const end = 8 + Number(Buffer.from(content).readBigUInt64LE(0));
    const header = Buffer.from(other(Buffer.from(content.subarray(8, end)).toString()));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    return { name, content: Buffer.concat([length, header, content.subarray(end)]) };
  });
}

/** The same container but for the base's fingerprint, under right lengths and checksums. */
function ofAnotherBase({ name, content }: NamedContent): NamedContent {
  const { manifestText, tensorsAt } = readHeader(memorySource(content));
  const manifest = parseManifest(manifestText);
  const header = writeHeader(formatManifest({ ...manifest, base: "0".repeat(64) }));
  return { name, content: Buffer.concat([header, content.subarray(tensorsAt)]) };
}

/** One of the form's files, damaged by seed. */
function damaged(form: readonly NamedContent[]): Case[] {
  return form.flatMap((file) =>
    [...mutations([file.content], damagedFiles)].map((content, seed) => ({
      name: `${file.name}, damage ${seed}`,
      files: form.map((each) => (each === file ? { ...each, content } : each)),
    })),
  );
}

/** Everything on disk that an upload could leave, what is listed, and what the base answers. */
async function state({ client, dataDirectory }: TinyServer, calls: AdapterCalls) {
  const { body } = await calls.call<{ readonly data: readonly { readonly id: string }[] }>(
    "GET",
    "/v1/adapters",
  );
  const { choices } = await client.completions.create({
    model: "tiny",
    prompt: "Please",
    max_tokens: 12,
    temperature: 0,
  });
  const files = readdirSync(dataDirectory, { recursive: true, encoding: "utf8" });
  return {
    adapters: body.data.map(({ id }) => id),
    files: files.filter((path) => !path.startsWith("usage.")).sort(),
    text: choices[0]!.text,
  };
}
