// For tests: small valid PEFT uploads, and seeded ways to spoil them. The seed decides everything, so that a failing
// case can be made again alone.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { archiveWriters, type FixtureEntry } from "./archives/archive-fixture.ts";
import { loraPair, modulePath, type PeftFixture, writePeft } from "./peft-fixture.ts";

export type Upload =
  | { readonly kind: "files"; readonly files: ReadonlyMap<string, Buffer> }
  | { readonly kind: "archive"; readonly bytes: Buffer };
export type Mutation = { readonly name: string; readonly upload: Upload };

type Random = { int(below: number): number; pick<T>(items: readonly T[]): T };
type Files = Map<string, Buffer>;
type Tensor = { dtype: unknown; shape: unknown; data_offsets: unknown };
type Header = Record<string, Tensor>;

const configName = "adapter_config.json";
const weightsName = "adapter_model.safetensors";

const fixtures: readonly PeftFixture[] = [
  {},
  { config: { use_rslora: true, rank_pattern: { q_proj: 2 }, layers_to_transform: [0, 1, 2] } },
  {
    config: { target_modules: "all-linear", r: 3 },
    tensors: [
      ...loraPair(modulePath(0, "self_attn.qkv_proj"), [3, 8, 24]),
      ...loraPair(modulePath(2, "mlp.down_proj"), [3, 20, 8]),
    ],
  },
];

const written = fixtures.map(writeFixture);

/** What the fixtures are before they are spoilt. */
export function validUploads(): Upload[] {
  return fixtures.flatMap((_, index): Upload[] => {
    const files = filesOf(index);
    const archives = Object.values(archiveWriters).map((write) => write(entriesOf(files)));
    return [{ kind: "files", files }, ...archives.map((bytes) => ({ kind: "archive", bytes }) as const)];
  });
}

export function mutationOf(seed: number): Mutation {
  const random = randomOf(seed);
  const files = filesOf(seed % fixtures.length);
  const [name, mutate] = random.pick(Object.entries(mutations));
  const upload = mutate(files, random) ?? ({ kind: "files", files } as const);
  return { name: `${name} (seed ${seed})`, upload };
}

const oddNumbers = [0, -1, 1, 2, 7, 0.5, 1e9, 2 ** 31, 2 ** 32, 2 ** 53, 1e308, -(2 ** 63)];
const oddValues = [
  ...oddNumbers,
  null,
  true,
  "",
  "2",
  "q_proj",
  [],
  {},
  [null],
  [[8]],
  { a: 1 },
  "\ud800",
  "__proto__",
];
const dtypes = ["F16", "BF16", "F64", "I8", "U8", "BOOL", "F8_E4M3", "f32", "", 32, null];
const paths = ["../x", "/etc/x", "a/b/c", "C:\\x", "..", "x\0y", ".hidden", "__MACOSX/._x", "x".repeat(140)];
const badFloats = [NaN, Infinity, -Infinity, 3.4e38, -3.4e38, 1e30, 1e-45];

/** Each changes `files`, or gives the upload that becomes of them. */
const mutations: Record<string, (files: Files, random: Random) => Upload | undefined> = {
  "header length": (files, { pick, int }) => {
    const bytes = files.get(weightsName)!;
    const length = bytes.readBigUInt64LE(0);
    const near = length + BigInt(int(33) - 16);
    bytes.writeBigUInt64LE(pick([0n, 1n, near, near, 2n ** 27n, 2n ** 40n, 2n ** 63n, 2n ** 64n - 1n]), 0);
  },
  offsets: (files, random) =>
    editTensor(files, random, (tensor, header) => {
      const other = random.pick(Object.values(header)).data_offsets as number[];
      const [start, end] = tensor.data_offsets as [number, number];
      tensor.data_offsets = random.pick<unknown>([
        [end, start],
        other,
        [start, end + random.int(9) - 4],
        [start + random.int(9) - 4, end],
        [random.pick(oddValues), end],
        [start, random.pick(oddValues)],
        [start],
        random.pick(oddValues),
      ]);
    }),
  shapes: (files, random) =>
    editTensor(files, random, (tensor) => {
      const shape = [...(tensor.shape as unknown[])];
      shape[random.int(2)] = random.pick(oddValues);
      const [rows, columns] = tensor.shape as [number, number];
      tensor.shape = random.pick<unknown>([
        shape,
        [columns, rows],
        [rows * columns],
        [1, rows, columns],
        [2 ** 32, 2 ** 32],
        random.pick(oddValues),
      ]);
    }),
  dtypes: (files, random) =>
    editTensor(files, random, (tensor) => {
      tensor.dtype = random.pick(dtypes);
    }),
  "tensor names": (files, random) =>
    editHeader(files, (header) => {
      const names = Object.keys(header);
      const name = random.pick(names);
      const next = random.pick([
        name.replace(/layers\.\d+/, `layers.${random.pick(["3", "99", "-1", "01", "1e1", "999999999"])}`),
        name.replace("lora_A", "lora_B"),
        name.replace(".weight", ""),
        name.replace(/[qd]\w+_proj/, random.pick(["k_proj", "v_proj", "x_proj", "constructor"])),
        random.pick([
          "",
          "__proto__",
          "__metadata__",
          "x".repeat(5000),
          "base_model.model.lm_head.lora_A.weight",
        ]),
        random.pick(names),
      ]);
      const tensor = header[name]!;
      delete header[name];
      Object.defineProperty(header, next, { value: tensor, enumerable: true, configurable: true });
    }),
  "tensor fields": (files, random) =>
    editTensor(files, random, (tensor) => {
      const fields = tensor as unknown as Record<string, unknown>;
      if (random.int(2) === 0) delete fields[random.pick(["dtype", "shape", "data_offsets"])];
      else fields[random.pick(["dtype", "shape", "data_offsets", "extra"])] = random.pick(oddValues);
    }),
  "missing tensors": (files, random) =>
    editHeader(files, (header) => {
      const count = 1 + random.int(Object.keys(header).length);
      for (let i = 0; i < count; i++) delete header[random.pick(Object.keys(header)) ?? ""];
    }),
  "duplicate keys": (files, random) => {
    const name = random.pick([configName, weightsName]);
    if (name === configName) {
      const text = files.get(configName)!.toString();
      const key = random.pick(["r", "lora_alpha", "peft_type", "target_modules", "\\u0072"]);
      files.set(configName, Buffer.from(text.replace("{", `{"${key}":${random.pick(["2", "1", "null"])},`)));
      return;
    }
    const { json, data } = split(files);
    const first = /"[^"]+":\{[^}]*\}/.exec(json.replace(/"__metadata__":\{[^}]*\},?/, ""))![0];
    files.set(weightsName, join8(json.replace("{", `{${first},`), data));
  },
  "not finite": (files, random) => {
    const { json, data } = split(files);
    const at = random.int(data.length / 4) * 4;
    for (let i = 0; i < 1 + random.int(3); i++) data.writeFloatLE(random.pick(badFloats), at);
    files.set(weightsName, join8(json, data));
  },
  "cut short": (files, random) => {
    const name = random.pick([configName, weightsName]);
    files.set(name, files.get(name)!.subarray(0, random.int(files.get(name)!.length)));
  },
  "flipped bits": (files, random) => {
    const bytes = files.get(random.pick([configName, weightsName]))!;
    for (let i = 0; i <= random.int(4); i++) bytes[random.int(bytes.length)]! ^= 1 << random.int(8);
  },
  "bytes put in or left out": (files, random) => {
    const name = random.pick([configName, weightsName]);
    const bytes = files.get(name)!;
    const at = random.int(bytes.length);
    const added = Buffer.from(Array.from({ length: random.int(20) }, () => random.int(256)));
    files.set(name, Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at + random.int(20))]));
  },
  "config fields": (files, random) => {
    const config = JSON.parse(files.get(configName)!.toString());
    const fields = [...Object.keys(config), "use_dora", "use_rslora", "rank_pattern", "alpha_pattern"];
    const more = [
      "exclude_modules",
      "layers_to_transform",
      "layers_pattern",
      "modules_to_save",
      "init_lora_weights",
    ];
    const field = random.pick([...fields, ...more, "lora_bias", "unknown_field", "__proto__"]);
    if (random.int(6) === 0) delete config[field];
    else
      config[field] = random.pick([
        ...oddValues,
        1e30,
        ["k_proj"],
        { q_proj: 1 },
        { q_proj: 0 },
        "PREFIX_TUNING",
      ]);
    files.set(configName, Buffer.from(JSON.stringify(config)));
  },
  "config text": (files, random) => {
    const text = files.get(configName)!.toString();
    const nested = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
    const next = random.pick([
      `\ufeff${text}`,
      `${text}x`,
      "[]",
      "null",
      "",
      nested,
      text.replace("{", '{"__proto__":{"r":9},'),
    ]);
    files.set(configName, Buffer.from(next));
  },
  "file names": (files, random) => {
    const name = random.pick([configName, weightsName]);
    const bytes = files.get(name)!;
    if (random.int(2) === 0) files.delete(name);
    files.set(random.pick(["adapter_model.bin", "x.pt", name.toUpperCase(), `${name} `, ...paths]), bytes);
  },
  "archive bytes": (files, random) => {
    const bytes = archiveOf(files, random);
    for (let i = 0; i <= random.int(3); i++) bytes[random.int(bytes.length)]! ^= 1 << random.int(8);
    return {
      kind: "archive",
      bytes: random.int(4) === 0 ? bytes.subarray(0, random.int(bytes.length)) : bytes,
    };
  },
  "archive entries": (files, random) => {
    const entries = entriesOf(files);
    const extra: FixtureEntry = random.pick([
      { name: random.pick(paths), content: Buffer.from("x") },
      { name: "link", tarType: random.pick(["1", "2", "3", "6"]), unixMode: 0o120777 },
      entries[0]!,
      { name: "other/file", content: Buffer.from("x") },
      { name: "zeros", content: Buffer.alloc(18_000_000) },
      {
        name: "pax",
        tarType: random.pick(["x", "g", "L"]),
        content: Buffer.alloc(random.int(6_000_000), "9"),
      },
    ]);
    entries.splice(random.int(entries.length + 1), 0, extra);
    return { kind: "archive", bytes: random.pick(Object.values(archiveWriters))(entries) };
  },
  "archive of a spoilt file": (files, random) => {
    mutations[random.pick(["header length", "shapes", "not finite", "cut short", "config fields"])]!(
      files,
      random,
    );
    return { kind: "archive", bytes: archiveOf(files, random) };
  },
};

function archiveOf(files: Files, random: Random): Buffer {
  return random.pick(Object.values(archiveWriters))(entriesOf(files));
}

function entriesOf(files: ReadonlyMap<string, Buffer>): FixtureEntry[] {
  return [...files].map(([name, content]) => ({ name, content }));
}

function editTensor(files: Files, random: Random, edit: (tensor: Tensor, header: Header) => void): undefined {
  editHeader(files, (header) => edit(header[random.pick(Object.keys(header))]!, header));
}

function editHeader(files: Files, edit: (header: Header) => void): undefined {
  const { json, data } = split(files);
  const { __metadata__: metadata, ...header } = JSON.parse(json);
  edit(header);
  files.set(weightsName, join8(JSON.stringify({ __metadata__: metadata, ...header }), data));
}

function split(files: Files): { json: string; data: Buffer } {
  const bytes = files.get(weightsName)!;
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  return { json: bytes.toString("utf8", 8, end), data: Buffer.from(bytes.subarray(end)) };
}

/** A safetensors file: the header's length in eight bytes, the header, the data. */
function join8(json: string, data: Buffer): Buffer {
  const header = Buffer.from(json);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, data]);
}

/** New buffers each time: mutations write into them. */
function filesOf(index: number): Files {
  return new Map([...written[index]!].map(([name, bytes]) => [name, Buffer.from(bytes)]));
}

function writeFixture(fixture: PeftFixture): Files {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-upload-"));
  writePeft(directory, fixture);
  const files = new Map([configName, weightsName].map((name) => [name, readFileSync(join(directory, name))]));
  rmSync(directory, { recursive: true });
  return files;
}

/** mulberry32, by Tommy Ettinger. */
function randomOf(seed: number): Random {
  let state = seed * 2_654_435_761;
  const int = (below: number) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % Math.max(1, below);
  };
  return { int, pick: (items) => items[int(items.length)]! };
}
