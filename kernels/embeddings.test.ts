import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openCheckpointWeights } from "./checkpoint/weights.ts";
import { tensorOf, writeSafetensors } from "./checkpoint/write-safetensors.ts";
import { Embeddings } from "./embeddings.ts";
import type { ModelConfig } from "./model-config.ts";
import { embeddingTensor } from "./model-family.ts";

const config = { hiddenSize: 3, vocabSize: 4, embeddingScale: 2, tiedHead: false } as ModelConfig;

function open(values: readonly number[]): Embeddings {
  const directory = mkdtempSync(join(tmpdir(), "cotenant-embeddings-"));
  try {
    const table = tensorOf(embeddingTensor, [4, 3], Float32Array.from(values));
    writeSafetensors(join(directory, "model.safetensors"), [table]);
    using weights = openCheckpointWeights(directory);
    return new Embeddings(weights, config);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const counting = Array.from({ length: 12 }, (_, index) => index);

test("rows are read by token id, scaled, at the place asked for", () => {
  const out = new Float32Array(9);
  open(counting).lookup([3, 1], out, 1);
  assert.deepEqual([...out], [0, 0, 0, 18, 20, 22, 6, 8, 10]);
});

test("a table that no head shares is checked to be finite", () => {
  assert.throws(() => open(counting.with(7, Number.NaN)), {
    code: "non_finite_weights",
    message: /model\.embed_tokens\.weight/,
  });
});
