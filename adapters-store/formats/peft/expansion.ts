// The bounds of methods whose low-rank form is much larger than what they store: an upload's size does not bound it.

import { AdapterError } from "../../../kernels/errors.ts";

const largestRank = 512;
const largestBytes = 2 ** 30; // of one adapter

/** Fields of LoHa and LoKr that concern training or convolutions. */
export const factoredTrainingFields = [
  "init_weights",
  "module_dropout",
  "rank_dropout",
  "rank_dropout_scale",
  "use_effective_conv2d",
];

/** Counts what an adapter's modules expand to; ask before a module is expanded. */
export class Expansion {
  #bytes = 0;

  /** Throws AdapterError `adapter_rank_too_large` or `adapter_expansion_too_large`. */
  add(path: string, rank: number, width: { readonly in: number; readonly out: number }): void {
    if (rank > largestRank) {
      throw new AdapterError(
        "adapter_rank_too_large",
        `${path}: written as a low-rank matrix it has rank ${rank}, the limit is ${largestRank}; train it with a smaller r, or convert it with PEFT's convert_to_lora`,
      );
    }
    this.#bytes += rank * (width.in + width.out) * Float32Array.BYTES_PER_ELEMENT;
    if (this.#bytes <= largestBytes) return;
    throw new AdapterError(
      "adapter_expansion_too_large",
      `up to ${path}, the adapter takes ${this.#bytes} bytes written as low-rank matrices, the limit is ${largestBytes}; train fewer modules or a smaller r, or convert it with PEFT's convert_to_lora`,
    );
  }
}
