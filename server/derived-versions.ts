// Adapter versions that are made from others when somebody wants them, as the weighted adapters of a request are.
// Leased, loaded and evicted like any other version, but in no store and without a name. Bounded, in all and for each
// owner: the one that was unused for longest is forgotten.

import type { AllowanceLimits } from "../adapters-store/allowance.ts";
import type { AdapterResidency, Lease, LeaseOptions } from "../adapters-store/residency/residency.ts";
import type { DecodedAdapter } from "../kernels/adapter.ts";
import { AdapterError } from "../kernels/errors.ts";

export type DerivedVersion = {
  readonly owner: string | null; // who asked for it first, and whose share it takes; null = nobody's
  readonly sizeBytes: number; // decoded, about: the first load measures it
  readonly make: () => Promise<DecodedAdapter>; // each time that it is loaded
  readonly parents: readonly string[]; // versions that `make` reads
};

type Known = DerivedVersion & { uses: number };

const defaultLimits: AllowanceLimits = { inAll: 1024, perOwner: 256 };

export class DerivedVersions {
  readonly #residency: Pick<AdapterResidency, "acquireAll" | "register" | "remove">;
  readonly #limits: AllowanceLimits;
  #released = Promise.withResolvers<void>(); // at the next end of a lease
  readonly #known = new Map<string, Known>(); // the one unused for longest first

  constructor(
    residency: Pick<AdapterResidency, "acquireAll" | "register" | "remove">,
    limits = defaultLimits,
  ) {
    this.#residency = residency;
    this.#limits = limits;
  }

  /** What is registered already stays as it is. Throws AdapterError `compositions_exhausted`. */
  register(version: string, derived: DerivedVersion): void {
    const known = this.#known.get(version);
    if (known !== undefined) return this.#touch(version, known);
    this.#makeRoom(derived.owner);
    this.#known.set(version, { ...derived, uses: 0 });
    this.#residency.register(version, derived.sizeBytes);
  }

  /** Undefined where the version is not derived. */
  make(version: string): Promise<DecodedAdapter> | undefined {
    return this.#known.get(version)?.make();
  }

  /** What a derived version is made from; of others nothing. */
  parentsOf(version: string): readonly string[] {
    return this.#known.get(version)?.parents ?? [];
  }

  /** Resolves when nothing that is leased, or waited for, is made from the version: only then may it be deleted. */
  async whenUnused(parent: string): Promise<void> {
    const isUsed = () =>
      [...this.#known.values()].some(({ uses, parents }) => uses > 0 && parents.includes(parent));
    while (isUsed()) await this.#released.promise;
  }

  /** Of derived and other versions alike. Throws as AdapterResidency.acquireAll does. */
  async leaseAll(versions: readonly string[], options: Required<LeaseOptions>): Promise<Lease> {
    const derived = versions.flatMap((version) => {
      const known = this.#known.get(version);
      return known === undefined ? [] : [{ version, known }];
    });
    let isHeld = true;
    const letGo = () => {
      if (!isHeld) return;
      isHeld = false;
      for (const { version, known } of derived) {
        known.uses--;
        if (this.#known.get(version) === known) this.#touch(version, known);
      }
      this.#released.resolve();
      this.#released = Promise.withResolvers();
    };
    for (const { known } of derived) known.uses++;
    try {
      const lease = await this.#residency.acquireAll(versions, options);
      const release = () => {
        lease.release();
        letGo();
      };
      return { release, [Symbol.dispose]: release };
    } catch (error) {
      letGo();
      throw error;
    }
  }

  /** For what is wanted once. It leaves memory when its last lease does. */
  forget(version: string): void {
    this.#known.delete(version);
    this.#residency.remove(version).catch(() => {}); // the engine is gone, and says so itself
  }

  #touch(version: string, known: Known): void {
    this.#known.delete(version);
    this.#known.set(version, known);
  }

  #makeRoom(owner: string | null): void {
    const { inAll, perOwner } = this.#limits;
    const known = [...this.#known];
    const own = owner === null ? [] : known.filter(([, each]) => each.owner === owner);
    if (own.length >= perOwner) this.#forgetUnused(own);
    else if (known.length >= inAll) this.#forgetUnused(known);
  }

  #forgetUnused(known: readonly (readonly [version: string, known: Known])[]): void {
    const unused = known.find(([, { uses }]) => uses === 0);
    if (unused !== undefined) return this.forget(unused[0]);
    throw new AdapterError(
      "compositions_exhausted",
      `${known.length} different combinations of adapters are in use; send the request again later`,
    );
  }
}
