// The norm of a step's gradients, and what keeps a step from doing harm: clipping, and skipping what is not finite.

export function gradientNorm(gradients: Float32Array): number {
  let squares = 0;
  for (let i = 0; i < gradients.length; i++) squares += gradients[i]! * gradients[i]!;
  return Math.sqrt(squares);
}

/** Scales gradients in place, so that the norm is at most `maxNorm`, as torch.nn.utils.clip_grad_norm_ does. */
export function clipGradients(gradients: Float32Array, norm: number, maxNorm: number): void {
  const factor = maxNorm / (norm + 1e-6);
  if (factor >= 1) return;
  for (let i = 0; i < gradients.length; i++) gradients[i] = gradients[i]! * factor;
}

/** How many steps were skipped: since the start, and one after another just now. */
export type SkippedSteps = { readonly total: number; readonly inRow: number };

export type StepVerdict = {
  readonly skipped: SkippedSteps;
  readonly apply: boolean;
  readonly pause: boolean; // `limit` steps in a row were not finite
};

/** Whether a step may be applied: not with a loss or a gradient norm that is not finite. */
export function judgeStep(
  step: { readonly loss: number; readonly norm: number },
  before: SkippedSteps,
  limit: number,
): StepVerdict {
  if (Number.isFinite(step.loss) && Number.isFinite(step.norm)) {
    return { skipped: { total: before.total, inRow: 0 }, apply: true, pause: false };
  }
  const skipped = { total: before.total + 1, inRow: before.inRow + 1 };
  return { skipped, apply: false, pause: skipped.inRow >= limit };
}
