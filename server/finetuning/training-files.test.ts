import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { trainingFileOf } from "./job-data.ts";
import { newFileId } from "./stored-file.ts";
import { type IncomingFile, TrainingFiles } from "./training-files.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "cotenant-training-"));
});

afterEach(() => rm(directory, { recursive: true }));

const content = '{"prompt": "a", "completion": "b"}\n';
const open = (isUsed: (id: string) => string | null = () => null) =>
  TrainingFiles.open(directory, { isUsed });

async function* bytesOf(text: string) {
  yield Buffer.from(text);
}

const incoming = (text = content): IncomingFile => ({
  owner: "acme",
  filename: "a.jsonl",
  content: bytesOf(text),
  onGrowth: () => {},
});

async function add(files: TrainingFiles, text?: string) {
  await using staged = await files.stage(incoming(text));
  return await staged.publish();
}

test("a file that is used by a job stays until the job is over", async () => {
  let job: string | null = "ftjob-1";
  const files = await open(() => job);
  const { id } = await add(files);
  await assert.rejects(files.delete("acme", id), { code: "file_in_use", message: /ftjob-1/ });
  assert.equal(trainingFileOf(files, "acme", id).examples, 1);
  job = null;
  await files.delete("acme", id);
  assert.throws(() => files.get("acme", id), { code: "file_not_found" });
  assert.deepEqual(await readdir(directory), ["incoming"]);
  assert.deepEqual(await readdir(join(directory, "incoming")), []);
});

test("a file that could not be deleted is still there, and is deleted later", async () => {
  const files = await open();
  const { id } = await add(files);
  const incomingFolder = join(directory, "incoming");
  await rm(incomingFolder, { recursive: true });
  await writeFile(incomingFolder, "in the way");
  await assert.rejects(files.delete("acme", id), { code: "EEXIST" });
  assert.equal(files.get("acme", id).id, id);
  await rm(incomingFolder);
  await files.delete("acme", id);
  assert.equal(files.storedBytes("acme"), 0);
});

test("a job's results are a file like another, there once and beyond any quota's refusal", async () => {
  const files = await open();
  const { id: examples } = await add(files);
  const id = newFileId();
  const results = (text: string) => ({
    id,
    owner: "acme",
    filename: "step_metrics.csv",
    content: [text, text],
  });
  await files.keepResults(results("step\n"));
  await files.keepResults(results("other\n"));
  const reopened = await open();
  for (const each of [files, reopened]) {
    const file = each.get("acme", id);
    assert.deepEqual(
      [file.purpose, file.bytes, file.filename],
      ["fine-tune-results", 10, "step_metrics.csv"],
    );
    assert.equal(await readFile(each.pathOf(file), "utf8"), "step\nstep\n");
    assert.equal(each.storedBytes("acme"), content.length + 10);
    const all = { after: null, limit: 10, order: "asc" } as const;
    const ids = (purpose?: "fine-tune" | "fine-tune-results") =>
      each.list("acme", { ...all, ...(purpose && { purpose }) }).files.map((one) => one.id);
    assert.deepEqual(ids(), [examples, id].sort());
    assert.deepEqual([ids("fine-tune"), ids("fine-tune-results")], [[examples], [id]]);
    assert.throws(() => trainingFileOf(each, "acme", id), { code: "invalid_value" });
  }
  assert.throws(() => files.get("globex", id), { code: "file_not_found" });
  await files.delete("acme", id);
  assert.equal(files.storedBytes("acme"), content.length);
});

test("what is staged and not published, or refused, is gone and counts for nothing", async () => {
  const files = await open();
  {
    await using _ = await files.stage(incoming());
    assert.equal(files.storedBytes("acme"), content.length);
  }
  await assert.rejects(files.stage(incoming("{")), { code: "invalid_training_file" });
  const onGrowth = () => {
    throw new Error("too much");
  };
  await assert.rejects(files.stage({ ...incoming(), onGrowth }), /too much/);
  assert.equal(files.storedBytes("acme"), 0);
  assert.deepEqual(await readdir(join(directory, "incoming")), []);
  assert.deepEqual(files.list("acme", { after: null, limit: 9, order: "asc" }), {
    files: [],
    hasMore: false,
  });
});

test("another owner neither finds, deletes nor lists a file, and it counts for its owner alone", async () => {
  const files = await open();
  const { id } = await add(files);
  assert.throws(() => files.get("globex", id), { code: "file_not_found" });
  await assert.rejects(files.delete("globex", id), { code: "file_not_found" });
  assert.equal(files.list("globex", { after: null, limit: 9, order: "asc" }).files.length, 0);
  assert.deepEqual([files.storedBytes("acme"), files.storedBytes("globex")], [content.length, 0]);
});

test("a server that was killed in the middle of an upload has whole files only", async () => {
  const kept = await add(await open());
  const module = new URL("./training-files.ts", import.meta.url).href;
  const script = `
    import { TrainingFiles } from ${JSON.stringify(module)};
    const files = await TrainingFiles.open(${JSON.stringify(directory)}, { isUsed: () => null });
    async function* content() {
      yield Buffer.from(${JSON.stringify(content)});
      console.log("half");
      await new Promise(() => setInterval(() => {}, 1000));
    }
    await files.stage({ owner: "acme", filename: "b.jsonl", content: content(), onGrowth: () => {} });`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  for await (const _ of child.stdout) child.kill("SIGKILL");
  assert.equal((await readdir(join(directory, "incoming"))).length, 1, "nothing was under way");
  const files = await open();
  assert.deepEqual(files.list("acme", { after: null, limit: 9, order: "asc" }).files, [kept]);
  assert.equal(files.storedBytes("acme"), content.length);
  assert.equal(await readFile(files.pathOf(kept), "utf8"), content);
  assert.deepEqual(await readdir(directory), [kept.id]);
});

test("a file that somebody cut is not taken for a whole one", async () => {
  const files = await open();
  const file = await add(files);
  await writeFile(files.pathOf(file), "{");
  await assert.rejects(open(), { code: "training_files_damaged", message: new RegExp(file.id) });
});
