// What a caller may ask of compression, checked and turned into encodings.

import { AdapterError } from "../../kernels/errors.ts";
import type { Encoding } from "../codecs/encode-floats.ts";

/** A method that says itself how much it keeps. */
export type FixedCompression =
  | { readonly method: "f32" | "f16" | "bf16" }
  | { readonly method: "int8" | "int4"; readonly groupSize?: number } // default 64, 32
  | { readonly method: "compeft"; readonly density: number; readonly alpha?: number }
  | { readonly method: "sparse"; readonly density: number };

export type CompressionOptions =
  | FixedCompression
  /** A codec for each group of modules, with the least weight error at that size. */
  | { readonly method: "skillpack"; readonly targetRatio: number }
  /** One method for all modules, the most precise one of at least that ratio. */
  | { readonly targetRatio: number };

/** Throws AdapterError `compression_option_invalid`. */
export function encodingOf(options: FixedCompression): Encoding {
  switch (options.method) {
    case "f32":
    case "f16":
    case "bf16":
      return { codec: options.method };
    case "int8":
    case "int4": {
      const groupSize = options.groupSize ?? (options.method === "int8" ? 64 : 32);
      if (Number.isInteger(groupSize) && groupSize > 0 && groupSize <= 2 ** 20 && groupSize % 2 === 0) {
        return { codec: options.method, groupSize };
      }
      throw invalid(`groupSize ${groupSize} is not an even number from 2 to ${2 ** 20}`);
    }
    case "compeft": {
      const { alpha } = options;
      checkDensity(options.density);
      if (alpha === undefined) return { codec: "ternary", density: options.density };
      if (Number.isFinite(alpha) && alpha > 0) return { codec: "ternary", density: options.density, alpha };
      throw invalid(`alpha ${alpha} is not above 0`);
    }
    case "sparse":
      checkDensity(options.density);
      return { codec: "sparse", density: options.density };
  }
}

export function checkTargetRatio(targetRatio: number): void {
  if (Number.isFinite(targetRatio) && targetRatio >= 1) return;
  throw invalid(`targetRatio ${targetRatio} is not 1 or more`);
}

function checkDensity(density: number): void {
  if (!(density > 0 && density <= 1)) throw invalid(`density ${density} is not above 0 and at most 1`);
}

function invalid(what: string): AdapterError {
  return new AdapterError("compression_option_invalid", `${what}; see docs/container.md for the methods`);
}
