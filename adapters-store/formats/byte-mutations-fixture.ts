// For tests: seeded damage to files, as a hostile or broken client would send them.

import { randomAt } from "../../kernels/sampling/random.ts";

/** `count` copies of `seeds` by turns, each cut short, or with one to four of its bytes or 32-bit words replaced. */
export function* mutations(seeds: readonly Uint8Array[], count: number): Generator<Uint8Array> {
  for (let index = 0; index < count; index++) {
    const seed = seeds[index % seeds.length]!;
    let draws = 0;
    const below = (limit: number) => Math.floor(randomAt(index + 1, draws++) * limit);
    // Most of a file is numbers, where damage does no harm: three of four hits go to its first part.
    const place = () => below(below(4) === 0 ? seed.length : Math.min(seed.length, 512));
    if (below(4) === 0) {
      yield seed.slice(0, place());
      continue;
    }
    const bytes = Uint8Array.from(seed);
    for (let hit = below(4); hit >= 0; hit--) {
      const at = place();
      if (below(2) === 0) bytes[at] = below(256);
      else bytes.fill([0, 0xff, 0x7f, 0x80][below(4)]!, at, at + 4);
    }
    yield bytes;
  }
}
