import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { candidateOptions } from "../adapters-store/compress/compress.ts";
import type { CompressedFile } from "../adapters-store/store-derive.ts";
import { type CompressionTools, compressMeasured, compressWithin } from "./compression.ts";
import type { DerivedVersion } from "./derived-versions.ts";
import type { ServedAdapter } from "./served-adapters.ts";

const task = {
  adapter: { version: "v1", summary: { decodedBytes: 8 } as ServedAdapter["summary"] },
  prompts: [[1, 2, 3]],
  owner: "acme",
  sharer: "acme",
  signal: new AbortController().signal,
};

/** Tools whose candidates have the given divergences, and what became of files and versions. */
function scene(divergences: readonly number[]) {
  const open = new Set<number>(); // files, by candidate
  const compared: number[] = [];
  const known = new Map<string, DerivedVersion>();
  let leases = 0;
  let last = -1;
  const tools: CompressionTools = {
    deriver: {
      compress: async (_, options) => {
        const index = candidateOptions.findIndex((each) => JSON.stringify(each) === JSON.stringify(options));
        open.add(index);
        last = index;
        const dispose = async () => void open.delete(index);
        return {
          index,
          decode: async () => ({}),
          [Symbol.asyncDispose]: dispose,
        } as unknown as CompressedFile;
      },
    },
    derived: {
      register: (version, derived) => void known.set(version, derived),
      forget: (version) => void known.delete(version),
      leaseAll: async (versions, { owner }) => {
        assert.equal(owner, "acme");
        assert.ok(versions.includes("v1") && versions.some((version) => known.has(version)));
        leases++;
        const release = () => void leases--;
        return { release, [Symbol.dispose]: release };
      },
    },
    compare: async ({ a, b, prompts }) => {
      assert.equal(leases, 1);
      assert.deepEqual([a, known.has(b!), prompts], ["v1", true, task.prompts]);
      compared.push(last);
      const meanKl = divergences[last]!;
      return { meanKl, maxKl: 2 * meanKl, top1Agreement: 1, tokens: 3 };
    },
  };
  const isClean = () => open.size === 0 && known.size === 0 && leases === 0;
  return { tools, open, compared, isClean };
}

test("the smallest candidate within the limit is found, and nothing of the others stays", async () => {
  const divergence = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), {
    minLength: candidateOptions.length,
    maxLength: candidateOptions.length,
  });
  const limit = fc.double({ min: 0, max: 1, noNaN: true });
  await fc.assert(
    fc.asyncProperty(divergence, limit, async (unsorted, maxKl) => {
      const divergences = unsorted.toSorted((one, other) => one - other);
      const { tools, open, compared, isClean } = scene(divergences);
      const expected = divergences.findLastIndex((each) => each <= maxKl);
      if (expected < 0) {
        const refused = { code: "compression_target_unreachable" };
        await assert.rejects(compressWithin(task, maxKl, tools), refused);
      } else {
        await using found = await compressWithin(task, maxKl, tools);
        assert.equal(found.outputs.meanKl, divergences[expected]);
        assert.deepEqual([...open], [expected]);
      }
      assert.ok(isClean());
      assert.ok(compared.length <= Math.ceil(Math.log2(candidateOptions.length + 1)));
    }),
    { numRuns: 200 },
  );
});

test("a failure to compare leaves no file, no version and no lease", async () => {
  const { tools, isClean } = scene([]);
  const failing = { ...tools, compare: () => Promise.reject(new Error("engine")) };
  await assert.rejects(compressMeasured(task, { method: "f16" }, failing), /engine/);
  await assert.rejects(compressWithin(task, 1, failing), /engine/);
  assert.ok(isClean());
});
