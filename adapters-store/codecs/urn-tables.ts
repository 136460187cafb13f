// How often each count of nonzero values is expected in a group of 16, for tensors of all densities and of all
// degrees of unevenness: an urn (Pólya 1923) with `density` of its balls marked gives back each ball that is drawn,
// and `more` of its kind with it. Readers and writers must agree to the bit, hence doubles in a stated order.

export const groupSize = 16;
export const countBits = 12;
/** Frequencies of one table add up to this. */
export const countTotal = 1 << countBits;

const counts = groupSize + 1;
const balls = 1 << 16;
const spreads = 8; // how much is put back: nothing, then 1/256 of the urn and its doubles up to a quarter
const densities = 28; // from all, each 2^(1/4) less than the one before, down to 1/108

/** Arrangements of `count` nonzero values in a group. */
export const arrangements: readonly number[] = Array.from({ length: counts }, (_, count) => choose(count));

/** [densities * spreads][17] */
export const urnTables: readonly Uint16Array[] = Array.from({ length: densities * spreads }, (_, index) =>
  urnTable(index),
);

function urnTable(index: number): Uint16Array {
  const marked = Math.round(balls * 2 ** (-Math.floor(index / spreads) / 4));
  const more = index % spreads === 0 ? 0 : balls >> (9 - (index % spreads));
  const weights = arrangements.map((ways, count) => {
    let weight = ways;
    for (let drawn = 0; drawn < count; drawn++) weight *= marked + drawn * more;
    for (let drawn = 0; drawn < groupSize - count; drawn++) weight *= balls - marked + drawn * more;
    return weight;
  });
  const whole = weights.reduce((sum, weight) => sum + weight, 0);
  // Every count must be possible, and what rounding leaves goes to the most frequent one.
  const table = Uint16Array.from(
    weights,
    (weight) => 1 + Math.floor((weight * (countTotal - counts)) / whole),
  );
  const left = countTotal - table.reduce((sum, each) => sum + each, 0);
  table[table.indexOf(Math.max(...table))]! += left;
  return table;
}

function choose(count: number): number {
  let ways = 1;
  for (let i = 1; i <= count; i++) ways = (ways * (groupSize - count + i)) / i;
  return ways;
}
