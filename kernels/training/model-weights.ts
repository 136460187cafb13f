// A model whose weights lie in a file beside it, both there only while a session is opened: the runtime maps the file,
// packs what it multiplies with and lets go of the rest. Of weights in the model itself it would keep a copy.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExternalRange } from "../onnx/graph-builder.ts";

export const weightsFileName = "weights.bin";

/** Mapped from page to page. */
const alignment = 4096;

export class ModelWeights {
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  /**
   * @param values are no longer the caller's
   * @returns where they will lie in the file
   */
  add(values: Float32Array | Uint8Array | Int8Array): ExternalRange {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const padding = new Uint8Array(-this.#length & (alignment - 1));
    const offset = this.#length + padding.length;
    this.#parts.push(padding, bytes);
    this.#length = offset + bytes.length;
    return { offset, length: bytes.length };
  }

  /**
   * Once: afterwards the weights are gone.
   * @param open is given the model's path, in a temporary directory of the system's
   */
  async with<Opened>(model: Uint8Array, open: (modelPath: string) => Promise<Opened>): Promise<Opened> {
    const own = await mkdtemp(join(tmpdir(), "cotenant-graph-"));
    try {
      const modelPath = join(own, "model.onnx");
      await writeFile(join(own, weightsFileName), this.#parts);
      await writeFile(modelPath, model);
      return await open(modelPath);
    } finally {
      for (const { buffer } of this.#parts) (buffer as ArrayBuffer).transfer(0); // sooner than it would be collected
      await rm(own, { recursive: true, force: true });
    }
  }
}
