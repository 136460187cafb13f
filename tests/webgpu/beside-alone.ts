// Requests in company on WebGPU against the same requests alone on the CPU. CPU and WebGPU sum in different orders;
// what that makes is bounded by `tolerance`.

import assert from "node:assert/strict";
import type { CpuRunner } from "../../kernels/cpu/cpu-runner.ts";
import type { ModelRunner } from "../../kernels/model-runner.ts";
import { distance, logitRow, logSoftmax } from "../golden/golden-case.ts";

export const tolerance = 2e-4; // on log-probabilities, float32

export type Request = {
  readonly id: string;
  readonly version: string | null;
  readonly prompt: readonly number[];
  readonly steps: number;
};

export const tokens = (seed: number, count: number) =>
  Array.from({ length: count }, (_, index) => 4 + ((seed * 31 + index * (7 + seed)) % 150));

export const request = (id: string, version: string | null, length: number, steps = 4): Request => ({
  id,
  version,
  prompt: tokens(id.charCodeAt(0), length),
  steps,
});

export const tokenAt = (index: number) => 4 + ((index * 11) % 100);

export class BesideAlone {
  readonly #cpu: CpuRunner;
  readonly #runner: ModelRunner;
  readonly #expected = new Map<Request, Promise<Float64Array[]>>();

  constructor(cpu: CpuRunner, runner: ModelRunner) {
    this.#cpu = cpu;
    this.#runner = runner;
  }

  /** @returns log-probabilities after the prompt */
  async join({ id, version, prompt }: Request, device: ModelRunner = this.#runner): Promise<Float64Array> {
    device.open(id, { adapterVersion: version, prefix: null });
    const chunk = { sequence: id, tokenIds: prompt, promptLength: prompt.length };
    return logSoftmax(logitRow(await device.prefill({ ...chunk, logits: "last" }), 0));
  }

  /** @param at the index of each row's next token */
  async step(
    rows: readonly Request[],
    at: (row: Request) => number,
    device: ModelRunner = this.#runner,
  ): Promise<Float64Array[]> {
    const entries = rows.map((row) => ({ sequence: row.id, tokenId: tokenAt(at(row)) }));
    const logits = await device.decode(entries);
    return rows.map((_, index) => logSoftmax(logitRow(logits, index)));
  }

  /** After the prompt, and after each step, alone on the CPU. */
  async expectedOf(row: Request): Promise<Float64Array[]> {
    if (!this.#expected.has(row)) this.#expected.set(row, this.#alone(row));
    return this.#expected.get(row)!;
  }

  /** Its adapter's weights are others now. */
  forget(row: Request): void {
    this.#expected.delete(row);
  }

  async check(row: Request, index: number, found: Float64Array): Promise<void> {
    const worst = distance(found, (await this.expectedOf(row))[index]!);
    assert.ok(worst <= tolerance, `${row.id} (${row.version}), step ${index}: ${worst}`);
  }

  /** Each joins when a row is free, the first `together` of them at once; each leaves after its steps. */
  async checkTogether(requests: readonly Request[], together: number): Promise<void> {
    const waiting = [...requests];
    let running: Request[] = [];
    const done = new Map<string, number>();
    const check = async (row: Request, found: Float64Array) => {
      const index = done.get(row.id) ?? 0;
      done.set(row.id, index + 1);
      await this.check(row, index, found);
    };
    while (waiting.length > 0 || running.length > 0) {
      while (running.length < together && waiting.length > 0) {
        const row = waiting.shift()!;
        await check(row, await this.join(row));
        running.push(row);
      }
      running.reverse(); // entries come in any order
      const found = await this.step(running, ({ id }) => done.get(id)! - 1);
      for (const [index, row] of running.entries()) await check(row, found[index]!);
      for (const row of running) if (done.get(row.id)! > row.steps) this.#runner.close(row.id);
      running = running.filter((row) => this.#runner.isOpen(row.id));
    }
  }

  async #alone(row: Request): Promise<Float64Array[]> {
    const found = [await this.join(row, this.#cpu)];
    for (let index = 0; index < row.steps; index++) {
      found.push(...(await this.step([row], () => index, this.#cpu)));
    }
    this.#cpu.close(row.id);
    return found;
  }
}
