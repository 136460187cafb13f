// PEFT saves the base's own embeddings and head beside a LoRA that targets them. Those are accepted where they are the
// base's, and refused where they were trained: whole matrices are no kind of adapter.

import { AdapterError } from "../../../kernels/errors.ts";
import { openBase } from "../base.ts";
import { type PeftAdapter, type StoredModule, weightsName } from "./tensors.ts";

const valuesAtOnce = 1 << 20;

/** Throws AdapterError `adapter_feature_unsupported` or `adapter_wrong_shape`. */
export function requireUnchanged(
  { file, targets }: PeftAdapter,
  module: StoredModule,
  table: "embedding" | "head",
): void {
  if (!module.has("weight")) return;
  const name = module.nameOf("weight");
  const [rows, width] = module.matrixShape("weight");
  if (rows !== targets.vocabSize || width !== targets.hiddenSize) throw changed(name);
  using base = openBase(targets, `${name} must be the base's own`);
  const step = Math.max(1, Math.floor(valuesAtOnce / width));
  for (let row = 0; row < rows; row += step) {
    const count = Math.min(step, rows - row);
    const own = base.tableRows(table, row, count);
    if (!file.readFloat32Rows(name, row, count).every((value, i) => value === own[i])) throw changed(name);
  }
}

function changed(name: string): AdapterError {
  return new AdapterError(
    "adapter_feature_unsupported",
    `${weightsName}: ${name} is a whole matrix and not the base's own; train it as a LoRA of the same module, without new tokens`,
  );
}
