// The registry of adapter formats.

import { AdapterError } from "../../kernels/errors.ts";
import type { AdapterFormat } from "../adapter-format.ts";
import { cotenant } from "./cotenant.ts";
import { gguf } from "./gguf.ts";
import { onnxAdapter } from "./onnx-adapter.ts";
import { peft } from "./peft.ts";

export const adapterFormats = {
  cotenant,
  peft,
  gguf,
  "onnx-adapter": onnxAdapter,
} as const satisfies Record<string, AdapterFormat>;
export type AdapterFormatName = keyof typeof adapterFormats;

export type ClaimedFiles = {
  readonly format: AdapterFormatName;
  readonly fileNames: readonly string[];
};

/** Null where no format knows the files; throws AdapterError where one does and lacks another of them. */
export function findFormat(fileNames: readonly string[]): ClaimedFiles | null {
  for (const [format, { claim }] of Object.entries(adapterFormats)) {
    const claimed = claim(fileNames);
    if (claimed !== null) return { format: format as AdapterFormatName, fileNames: claimed };
  }
  return null;
}

/** As `findFormat`; throws AdapterError `adapter_format_unknown` instead of null. */
export function claimFiles(fileNames: readonly string[]): ClaimedFiles {
  const claimed = findFormat(fileNames);
  if (claimed !== null) return claimed;
  throw new AdapterError(
    "adapter_format_unknown",
    `[${fileNames.slice(0, 10)}] is no adapter of a known format; give adapter_config.json and adapter_model.safetensors, as PEFT's save_pretrained writes them, or one *.cotenant, *.gguf or *.onnx_adapter file`,
  );
}
