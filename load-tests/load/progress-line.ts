// One line that says how a phase goes: rewritten in place on a terminal, now and then anywhere else.

import type { Progress } from "./worker-protocol.ts";

export type PhaseProgress = Progress & { readonly failed: number };

type Output = Pick<NodeJS.WriteStream, "write" | "isTTY">;

const everyMs = { terminal: 500, file: 10_000 };

export class ProgressLine {
  readonly #output: Output;
  readonly #nowMs: () => number;
  #phase = "";
  #startedMs = 0;
  #shownMs = 0;
  #shown: { readonly chunks: number; readonly atMs: number } = { chunks: 0, atMs: 0 };

  constructor(output: Output, nowMs: () => number = () => performance.now()) {
    this.#output = output;
    this.#nowMs = nowMs;
  }

  show(phase: string, seconds: number, { sent, open, chunks, failed }: PhaseProgress): void {
    const nowMs = this.#nowMs();
    if (!this.#isDue(phase, nowMs)) return;
    const sinceMs = nowMs - this.#shown.atMs;
    const speed = sinceMs > 0 ? ((chunks - this.#shown.chunks) * 1000) / sinceMs : 0;
    this.#shown = { chunks, atMs: nowMs };
    const elapsed = Math.round((nowMs - this.#startedMs) / 1000);
    const time = elapsed > seconds ? `drains, ${elapsed} s` : `${elapsed}/${Math.round(seconds)} s`;
    this.#write(
      `${phase}: ${time}  sent ${sent}  open ${open}  failed ${failed}  ${speed.toFixed(0)} tokens/s`,
    );
  }

  /** What takes its time before or after the phases. */
  showCount(what: string, done: number, of: number): void {
    if (this.#isDue(what, this.#nowMs())) this.#write(`${what}: ${done} of ${of}`);
  }

  #isDue(phase: string, nowMs: number): boolean {
    if (phase !== this.#phase) {
      this.end();
      this.#phase = phase;
      this.#startedMs = nowMs;
      this.#shownMs = Number.NEGATIVE_INFINITY;
      this.#shown = { chunks: 0, atMs: nowMs };
    }
    if (nowMs - this.#shownMs < (this.#output.isTTY ? everyMs.terminal : everyMs.file)) return false;
    this.#shownMs = nowMs;
    return true;
  }

  #write(line: string): void {
    this.#output.write(this.#output.isTTY ? `\r\x1b[2K${line}` : `${line}\n`);
  }

  /** What is written next begins on a line of its own. */
  end(): void {
    if (this.#phase !== "" && this.#output.isTTY) this.#output.write("\n");
    this.#phase = "";
  }
}
