// What a name may mean at which time, as its owner knows it who only sees requests go and answers come. A change
// that is under way may have happened already or not: until it is answered, the name may mean either.

/** A content's number; null = there is no such name. */
export type Meaning = number | null;

type Epoch = { readonly meaning: Meaning; readonly fromMs: number; toMs: number };

export type Change = { readonly done: (nowMs: number) => void; readonly refused: () => void };

export class NameHistory {
  #epochs: Epoch[] = [{ meaning: null, fromMs: -Infinity, toMs: Infinity }];

  /** Of the last change that was answered; ask while none is under way. */
  get current(): Meaning {
    return this.#epochs.at(-1)!.meaning;
  }

  /** One change at a time. */
  change(meaning: Meaning, nowMs: number): Change {
    const former = this.#epochs.at(-1)!;
    const next: Epoch = { meaning, fromMs: nowMs, toMs: Infinity };
    this.#epochs.push(next);
    return {
      done: (doneMs) => {
        former.toMs = doneMs;
      },
      refused: () => {
        this.#epochs = this.#epochs.filter((epoch) => epoch !== next);
      },
    };
  }

  /** Everything that the name may have meant at some time from `fromMs` to `toMs`. */
  during(fromMs: number, toMs: number): ReadonlySet<Meaning> {
    const overlapping = this.#epochs.filter((epoch) => epoch.fromMs <= toMs && epoch.toMs >= fromMs);
    return new Set(overlapping.map(({ meaning }) => meaning));
  }
}
