/** Of the products with the frozen matrices, forward and by their inputs; all else is float32. */
export const precisions = ["float32", "int8"] as const;
export type Precision = (typeof precisions)[number];
