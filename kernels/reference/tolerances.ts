// How far a fast path may be from its slow twin in this folder: the largest absolute difference, as measured with
// about ten times headroom. float32 kernels against float64 sums; what is exact is zero.

export const tolerances = {
  /** Logits of the float32 graph against forward.ts, on models with hidden states of order one. */
  forwardLogits: 1e-4,
  /** Log-probabilities of a row in a batch against the same row alone, float32. */
  batchedLogprobs: 5e-5,
  /** MatMulNBits on a unit vector against dequantize-blocks.ts, relative to the scale, at accuracy level 0. */
  dequantizedValue: 1e-6,
  /** Change of the loss as gradients predict it, against the change itself, relative to steepest ascent. */
  gradientDifference: 3e-5,
  /** cos and sin in float32 angles against float64 formulas, per radian of angle. */
  rotaryAngle: 3e-7,
} as const;
