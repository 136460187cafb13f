// Writes a PEFT LoRA directory with random weights that fits a checkpoint directory, for benches and tests.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { type Projection, projections } from "../kernels/adapter.ts";
import { writeSafetensors } from "../kernels/checkpoint/write-safetensors.ts";
import { CotenantError } from "../kernels/errors.ts";
import { describeTensors, type StoredLinear } from "./checkpoint-tensors.ts";
import { CommandLine, fail } from "./command-line.ts";
import { RandomTensors } from "./random-weights.ts";

const usage = `npm run make-adapter -- --model DIR --rank R --out DIR [--targets LIST] [--seed N]

  --model    a checkpoint directory; only its config.json is read
  --rank     1 or more
  --out      the directory to write; files there are replaced
  --targets  all (default), or some of ${projections.join(",")}; projections that the
             checkpoint stores as one tensor (Phi-3's q,k,v and gate,up) are named together
  --seed     of the weights, default 0`;

export type MakeAdapterOptions = {
  readonly modelDirectory: string;
  readonly rank: number;
  readonly targets: readonly Projection[];
  readonly directory: string;
  readonly seed: number;
};

if (import.meta.main) {
  const commandLine = new CommandLine(usage, ["model", "rank", "targets", "seed", "out"]);
  const rank = commandLine.whole("rank");
  if (rank < 1) fail(`--rank must be at least 1, not ${rank}`);
  try {
    makeAdapter({
      modelDirectory: commandLine.string("model"),
      rank,
      targets: parseTargets(commandLine.string("targets", "all")),
      directory: commandLine.string("out"),
      seed: commandLine.whole("seed", 0),
    });
  } catch (error) {
    if (error instanceof CotenantError || error instanceof RangeError) fail(error.message);
    throw error;
  }
}

/** Throws CheckpointError where the model is of no known family, RangeError where targets split a tensor. */
export function makeAdapter({ modelDirectory, rank, targets, directory, seed }: MakeAdapterOptions): void {
  const configPath = join(modelDirectory, "config.json");
  const { layers } = describeTensors(JSON.parse(readFileSync(configPath, "utf8")), configPath);
  const linears = layers.flatMap((layer) => layer.linears.filter((linear) => isTargeted(linear, targets)));
  const random = new RandomTensors(seed);
  mkdirSync(directory, { recursive: true });
  const config = {
    base_model_name_or_path: basename(resolve(modelDirectory)),
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: true,
    lora_alpha: 2 * rank,
    lora_dropout: 0,
    modules_to_save: null,
    peft_type: "LORA",
    r: rank,
    target_modules: [...new Set(linears.map(({ module }) => module.split(".").at(-1)))],
    task_type: "CAUSAL_LM",
  };
  writeFileSync(join(directory, "adapter_config.json"), `${JSON.stringify(config, null, 2)}\n`);
  writeSafetensors(
    join(directory, "adapter_model.safetensors"),
    linears.flatMap(({ module, shape }) => [
      random.normal(`base_model.model.${module}.lora_A.weight`, [rank, shape.in], 1 / Math.sqrt(shape.in)),
      // Not zero, as after initialisation, but small, as after training.
      random.normal(`base_model.model.${module}.lora_B.weight`, [shape.out, rank], 0.01),
    ]),
  );
}

function isTargeted(linear: StoredLinear, targets: readonly Projection[]): boolean {
  const named = linear.projections.filter((projection) => targets.includes(projection));
  if (named.length === 0 || named.length === linear.projections.length) return named.length > 0;
  throw new RangeError(
    `${linear.module} computes ${linear.projections.join(", ")} at once; name all of them in --targets, or none`,
  );
}

function parseTargets(text: string): readonly Projection[] {
  if (text === "all") return projections;
  return text.split(",").map((name) => {
    const projection = projections.find((known) => known === name);
    return projection ?? fail(`--targets: "${name}" is none of all, ${projections.join(", ")}`);
  });
}
