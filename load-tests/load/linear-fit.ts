// Least squares through points: the trend of a noisy quantity over time.

export type Point = { readonly x: number; readonly y: number };

/** @returns the slope in y per x, and the mean of y; NaN without two different x */
export function linearFit(points: readonly Point[]): { readonly slope: number; readonly mean: number } {
  const mean = (pick: (point: Point) => number) =>
    points.reduce((sum, point) => sum + pick(point), 0) / points.length;
  const [meanX, meanY] = [mean(({ x }) => x), mean(({ y }) => y)];
  const covariance = mean(({ x, y }) => (x - meanX) * (y - meanY));
  return { slope: covariance / mean(({ x }) => (x - meanX) ** 2), mean: meanY };
}
