// One adapter version's life in memory and what is counted of it. Knows no budget and no other version.

const successors = {
  registered: ["loading"],
  loading: ["resident", "registered"], // back where the load failed
  resident: ["draining"],
  draining: ["evicted", "resident"], // back where it is wanted again, or the host could not let it go
  evicted: ["loading"],
} as const;

export type ResidencyState = keyof typeof successors;

export class ResidentVersion {
  readonly version: string;
  sizeBytes: number; // decoded, as declared until the first load has measured it
  leases = 0; // requests, jobs, and whoever is next in the queue
  owners = 0; // of leases, the next in the queue apart
  waiting = 0; // requests that came before a removal and have no lease yet: they are served all the same
  isPinned = false;
  isUnloading = false; // the host has been asked to let it go
  hits = 0;
  misses = 0;
  loads = 0;
  lastUsedMs: number | null = null; // Unix time
  /** The load under way or done; rejected where it failed. */
  loaded: Promise<void> = Promise.resolve();
  /** Set once the version is to leave for good; resolves with false where it was registered again. */
  removal: PromiseWithResolvers<boolean> | null = null;
  #state: ResidencyState = "registered";

  constructor(version: string, sizeBytes: number) {
    this.version = version;
    this.sizeBytes = sizeBytes;
  }

  get state(): ResidencyState {
    return this.#state;
  }

  /** Needs no more memory than it has already. */
  get hasMemory(): boolean {
    return this.#state === "loading" || this.isUsable;
  }

  /** Whoever holds it may use it, also where it is to leave once nobody does. */
  get isUsable(): boolean {
    return this.#state === "resident" || (this.#state === "draining" && !this.isUnloading);
  }

  transition(next: ResidencyState): void {
    const allowed: readonly ResidencyState[] = successors[this.#state];
    if (!allowed.includes(next)) {
      throw new Error(`adapter version ${this.version} cannot become ${next} while ${this.#state}`);
    }
    this.#state = next;
  }
}
