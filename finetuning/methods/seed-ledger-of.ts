// A job's seed ledger: its log as a checkpoint holds it, and the adapter that the log makes after any of its steps.

import { decodeLedger, encodeLedger } from "../../adapters-store/codecs/ledger.ts";
import type { Masks } from "../../adapters-store/codecs/masked-ledger.ts";
import type { AdapterTargets } from "../../kernels/adapter.ts";
import type { JobCheckpoint, TrainingSpec } from "../job.ts";
import { stateOf } from "../job-state.ts";
import { checkSettings } from "../settings.ts";
import { moduleShapes } from "./low-rank/low-rank-settings.ts";
import { mezoSettings } from "./mezo.ts";
import { stepSeed } from "./mezo-stepper.ts";
import { type LedgerContent, ledgerModules, ledgerSteps } from "./seed-ledger.ts";
import { masksOf, sparseMezoSettings } from "./sparse-mezo.ts";

const ledgerStepBytes = 8;

/**
 * In the bits of a container's ledger; null for a job with gradients.
 * @param checkpoint of a job that began from the base: no ledger holds where another one began
 */
export function ledgerOf(spec: TrainingSpec, checkpoint: JobCheckpoint): Uint8Array | null {
  if (ledgerSettings(spec) === null) return null;
  return encodeLedger(spec.seed, ledgerSteps(stateOf(checkpoint, "stepper")));
}

/** Of a job's ledger, at most. */
export function ledgerBytes(spec: TrainingSpec, steps: number): number {
  return ledgerSettings(spec) === null ? 0 : encodeLedger(spec.seed, []).length + ledgerStepBytes * steps;
}

/**
 * The adapter after `step` steps, bit for bit.
 * @param ledger of a checkpoint of this or a later step
 * @throws RangeError for a job with gradients
 */
export function seedLedgerAfter(
  step: number,
  ledger: Uint8Array,
  { spec, targets }: { readonly spec: TrainingSpec; readonly targets: AdapterTargets },
): LedgerContent {
  const settings = ledgerSettings(spec);
  if (settings === null) throw new RangeError(`${spec.method.name} has no ledger`);
  const { steps } = decodeLedger(ledger);
  let kept = 0; // steps that were skipped are not in the ledger
  for (let index = 0; index < step; index++) {
    if (steps[kept]?.seed === stepSeed(spec.seed, index)) kept++;
  }
  return {
    ledger: encodeLedger(spec.seed, steps.slice(0, kept)),
    modules: ledgerModules({
      shapes: moduleShapes(settings, targets.layers),
      targets,
      masks: settings.masks,
    }),
  };
}

function ledgerSettings({ method: { name, settings } }: TrainingSpec) {
  if (name === "mezo") {
    const masks: Masks | null = null;
    return { ...checkSettings(mezoSettings, settings, "method.adapter"), masks };
  }
  if (name !== "sparse-mezo") return null;
  const sparse = checkSettings(sparseMezoSettings, settings, "method.adapter");
  return { ...sparse, masks: masksOf(sparse) };
}
