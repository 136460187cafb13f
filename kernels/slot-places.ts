// Who is in which slot, of any device. An adapter takes as many slots as it has blocks of the kind; the used slots are
// the first ones, so that they are one view. What a slot holds, it does not know.

export type Slot = { readonly owner: string; readonly block: number };
export type Exchange = { readonly leaving: ReadonlySet<string>; readonly coming: readonly string[] }; // owners

export class SlotPlaces {
  readonly slots: Slot[] = [];

  /**
   * Newcomers take the places of those who leave, so that a swap copies no more than what comes. Places that stay
   * free are filled with the last used ones, which keeps the used ones contiguous. What moved is written again in
   * the order of its blocks: their sum, and so a row's last bit, must not depend on who left before.
   * @returns the slots that must be written
   */
  exchange({ leaving, coming }: Exchange, blocksOf: (owner: string) => number): number[] {
    const { slots } = this;
    const changed: number[] = [];
    const put = (slot: number, owner: string, block: number) => {
      slots[slot] = { owner, block };
      changed.push(slot);
    };
    const free = [...slots.keys()].filter((slot) => leaving.has(slots[slot]!.owner)).reverse();
    for (const owner of coming) {
      const blocks = blocksOf(owner);
      for (let block = 0; block < blocks; block++) put(free.pop() ?? slots.length, owner, block);
    }
    const moved = new Set<string>();
    for (const slot of free) {
      const last = slots.pop()!;
      if (slot === slots.length) continue;
      slots[slot] = last;
      moved.add(last.owner);
    }
    for (const other of moved) {
      let block = 0;
      for (const [slot, { owner }] of slots.entries()) if (owner === other) put(slot, owner, block++);
    }
    return changed;
  }
}
