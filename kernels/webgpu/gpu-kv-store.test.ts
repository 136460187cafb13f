// Where sequences lie, without a device: whatever comes and goes, each finds its own keys and values at the front of
// its arena, and arenas keep to the budget.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { bytesPerToken } from "../cpu/kv-arena.ts";
import type { GpuKvMoves, KvBuffers } from "./gpu-kv-moves.ts";
import { type GpuKvSequence, GpuKvStore } from "./gpu-kv-store.ts";
import type { GpuBuffer } from "./gpu-session.ts";

const shape = { layers: 1, kvHeads: 1, headDim: 1 };
const tokenBytes = bytesPerToken(shape);
const [maxRows, maxContext] = [6, 1000];

/** Buffers that only know whose keys and values each row has. */
type Marked = KvBuffers & { readonly marks: (string | null)[] };

class Memory {
  tokens = 0;

  allocate(rows: number, capacity: number): Promise<Marked> {
    this.tokens += rows * capacity;
    const dispose = () => {
      this.tokens -= rows * capacity;
    };
    const buffer = { dispose } as unknown as GpuBuffer;
    return Promise.resolve({ buffers: [buffer], rows, capacity, marks: new Array(rows).fill(null) });
  }

  write(from: Marked, to: Marked, row: number): Promise<void> {
    assert.equal(from.capacity, to.capacity);
    assert.ok(row + from.rows <= to.rows);
    for (let index = 0; index < from.rows; index++) to.marks[row + index] = from.marks[index]!;
    return Promise.resolve();
  }

  async read(from: Marked, row: number): Promise<Marked> {
    const own = await this.allocate(1, from.capacity);
    own.marks[0] = from.marks[row]!;
    return own;
  }

  async widen(from: Marked, capacity: number): Promise<Marked> {
    const own = await this.allocate(1, capacity);
    own.marks[0] = from.marks[0]!;
    return own;
  }
}

const step = fc.record({
  comes: fc.option(fc.integer({ min: 1, max: 500 })), // a prompt's tokens
  leaves: fc.option(fc.nat(maxRows - 1)),
  grows: fc.nat(300), // tokens, of every sequence
  runs: fc.array(fc.nat(maxRows - 1), { maxLength: maxRows }),
});

test("rows keep what is theirs, and arenas their budget", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 25 }),
      fc.constantFrom(1024, 2048, 4096),
      async (steps, budgetTokens) => {
        const memory = new Memory();
        const maxBytes = budgetTokens * tokenBytes;
        const moves = memory as unknown as GpuKvMoves;
        const store = new GpuKvStore({ shape, maxRows, maxContext, maxBytes }, moves);
        const open: { readonly name: string; readonly sequence: GpuKvSequence }[] = [];
        for (const [index, { comes, leaves, grows, runs }] of steps.entries()) {
          if (leaves !== null && leaves < open.length) store.close(open.splice(leaves, 1)[0]!.sequence);
          if (comes !== null && open.length < maxRows)
            await enter(store, open, { name: `${index}`, tokens: comes });
          const running = [...new Set(runs)].flatMap((place) => open[place] ?? []);
          const sequences = running.map(({ sequence }) => sequence);
          if (
            !hasRoom(() => store.reserve(sequences, ({ reserved }) => Math.min(maxContext, reserved + grows)))
          ) {
            continue;
          }
          for (const { kv, sequences: members } of await store.groups(sequences)) {
            const names = members.map((one) => running.find(({ sequence }) => sequence === one)!.name);
            assert.deepEqual((kv as Marked).marks.slice(0, names.length), names);
            assert.ok(members.every(({ reserved }) => reserved <= kv.capacity));
          }
          const owned = open.reduce((sum, { sequence }) => sum + (sequence.own?.capacity ?? 0), 0);
          assert.ok((memory.tokens - owned) * tokenBytes <= maxBytes, `${memory.tokens} tokens`);
        }
        for (const { sequence } of open) store.close(sequence);
        store.dispose();
        assert.equal(memory.tokens, 0);
      },
    ),
    { numRuns: 500 },
  );
});

type Entering = { readonly name: string; readonly tokens: number };

async function enter(
  store: GpuKvStore,
  open: { readonly name: string; readonly sequence: GpuKvSequence }[],
  { name, tokens }: Entering,
): Promise<void> {
  let sequence: GpuKvSequence | null = null;
  if (!hasRoom(() => (sequence = store.open(tokens)))) return;
  open.push({ name, sequence: sequence! });
  ((await store.takeOut(sequence!)) as Marked).marks[0] = name; // its prompt is read
}

function hasRoom(use: () => unknown): boolean {
  try {
    use();
    return true;
  } catch (error) {
    assert.equal((error as { code: string }).code, "kv_memory_exhausted");
    return false;
  }
}
