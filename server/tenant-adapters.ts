// The adapters as one tenant sees them, its own and the shared ones that none of its own hides, and what it may do
// with them. What belongs to others is not found, as what does not exist. Knows no HTTP.

import type { Lease } from "../adapters-store/residency/residency.ts";
import type {
  AdapterPage,
  Addition,
  FoundAdapter,
  Name,
  Removal,
  StoredAdapter,
  StoredVersion,
} from "../adapters-store/store.ts";
import { unknownName, unknownVersion } from "../adapters-store/store-changes.ts";
import { AdapterError } from "../kernels/errors.ts";
import { AdapterLimits } from "./adapter-limits.ts";
import type { ResidencyInfo, ServedAdapter, ServedAdapters } from "./served-adapters.ts";
import { baseWarnings } from "./stated-base.ts";
import { InsufficientRoleError } from "./tenancy/errors.ts";
import { roleCovers, sharerOf, type Tenant } from "./tenancy/tenant.ts";

export type NewAdapter = Omit<Addition, "owner" | "check" | "ready"> & {
  /** The room among what is reserved that was kept for it. */
  readonly reservedBytes?: number;
};

export type AddedAdapter = StoredAdapter & { readonly warnings: readonly string[] };

export type AdapterMove = {
  readonly id: string;
  readonly alias: string; // the name that moves; may be the id
  readonly version: string | null; // of the id's versions; null = what the id means now
};

/** Null is what would tell of others who have the version too; `tier` is known of one that all may use. */
export type TenantResidency = {
  readonly tier: ResidencyInfo["tier"] | null;
  readonly uses: Pick<ResidencyInfo, "leases" | "hits" | "misses" | "loads" | "lastUsedMs"> | null;
};

export class TenantAdapters {
  readonly #tenant: Tenant;
  readonly #served: ServedAdapters;
  readonly #limits: AdapterLimits;

  /** Use `ServedAdapters.of`. */
  constructor(tenant: Tenant, served: ServedAdapters) {
    this.#tenant = tenant;
    this.#served = served;
    this.#limits = new AdapterLimits(tenant, served);
  }

  /** What a request that names the id gets. */
  get(id: string): ServedAdapter | undefined {
    return this.#served.names.find(this.#name(id));
  }

  list(): readonly ServedAdapter[] {
    return this.#served.names.visibleTo(this.#tenant.id);
  }

  /** Keeps versions in the engine until the lease is released. Throws as AdapterResidency.acquireAll does. */
  async lease(versions: readonly string[], signal?: AbortSignal): Promise<Lease> {
    const { derived, uses } = this.#served;
    using _place = this.#placeToWait(versions);
    const used = versions.flatMap((version) => [version, ...derived.parentsOf(version)]);
    const ends = used.map((version) => uses.begin(version, this.#tenant.id));
    const end = () => {
      for (const endOne of ends) endOne();
    };
    try {
      this.#served.noteWanted(versions);
      const lease = await derived.leaseAll(versions, { owner: sharerOf(this.#tenant), signal });
      const release = () => {
        lease.release();
        end();
      };
      return { release, [Symbol.dispose]: release };
    } catch (error) {
      end();
      throw error;
    }
  }

  page(query: { readonly after?: string; readonly limit: number }): AdapterPage {
    return this.#store.list({ ...query, owner: this.#tenant.id, withShared: true });
  }

  /** Throws AdapterError `adapter_not_found`. */
  describe(id: string): StoredAdapter {
    const found = this.#store.find(this.#name(id));
    if (found === undefined) throw unknownName(this.#name(id));
    return found;
  }

  /** Newest first; of a shared adapter its current one alone. Throws AdapterError `adapter_not_found`. */
  versions(id: string): readonly StoredVersion[] {
    const adapter = this.describe(id);
    return this.#owns(adapter) ? this.#store.versions(adapter) : [adapter];
  }

  /** Null = the current one. Throws AdapterError `adapter_not_found`, `adapter_version_unknown`. */
  version(id: string, version: string | null): StoredVersion {
    if (version === null) return this.describe(id);
    const found = this.versions(id).find((each) => each.version === version);
    if (found === undefined) throw unknownVersion(version);
    return found;
  }

  residencyOf(version: string): TenantResidency {
    const info = this.#served.residencyOf(version);
    if (info === undefined) return { tier: "store", uses: null };
    const isOwn = this.#served.isOnlyOf(version, this.#tenant.id);
    const isTierKnown = isOwn || this.#served.isShared(version);
    return { tier: isTierKnown ? info.tier : null, uses: isOwn ? info : null };
  }

  /**
   * Checks, publishes and serves an upload. Throws QuotaExceededError, InsufficientRoleError where it would change what
   * everybody uses, or AdapterError with the store's reason.
   */
  async add(addition: NewAdapter): Promise<AddedAdapter> {
    const { reservedBytes, ...added } = addition;
    const { id, alias, shared, pin } = added;
    const ids = alias === undefined ? [id] : [id, alias];
    if (shared !== undefined && !roleCovers(this.#tenant.role, "admin"))
      throw new InsufficientRoleError("admin");
    const warnings: string[] = [];
    const stored = await this.#takeTurn(async () => {
      for (const each of ids) this.#checkChange(each);
      this.#limits.checkNames(ids, reservedBytes);
      const check = (found: FoundAdapter) => {
        const { decodedBytes } = found.summary;
        warnings.push(...baseWarnings(found.statedBase, this.#served.options.baseName));
        this.#served.residency.assertFits(decodedBytes);
        this.#limits.checkBytes(found, reservedBytes);
        for (const each of ids) this.#limits.checkPins(each, decodedBytes, each === id ? pin : undefined);
      };
      return this.#served.changing(
        ids.map((each) => this.#name(each)),
        () => this.#served.addToStore({ ...added, owner: this.#tenant.id, check }),
      );
    });
    return { ...stored, warnings };
  }

  /** Reads the version first, so that the name always means one that can be. Throws as `add`, and `version`. */
  move({ id, alias, version }: AdapterMove): Promise<StoredAdapter> {
    return this.#takeTurn(async () => {
      this.#own(id);
      this.#checkChange(alias);
      this.#limits.checkNames([alias]);
      const target = this.version(id, version);
      this.#limits.checkPins(alias, target.summary.decodedBytes);
      await this.#served.prefetch(target);
      const name = this.#name(alias);
      return this.#served.changing([name], () => this.#store.moveAlias(name, target.version));
    });
  }

  /** A pin outlives a restart. Throws AdapterError `adapter_not_found`, `adapter_pins_exceed_cache`, as `change`. */
  async setPinned(id: string, pinned: boolean): Promise<StoredAdapter> {
    const { version, summary } = this.#own(id);
    const { residency } = this.#served;
    residency.register(version, summary.decodedBytes);
    if (pinned) {
      this.#limits.checkPins(id, summary.decodedBytes, true);
      await residency.pin(version); // before it is written down, as it may not fit
    }
    try {
      const name = this.#name(id);
      return await this.#served.changing([name], () => this.#store.setPinned(name, pinned));
    } catch (error) {
      await this.#served.keepPins(version);
      throw error;
    }
  }

  /**
   * Whether there would be room for one more adapter of at least so many bytes. Throws QuotaExceededError, and
   * AdapterError `adapter_larger_than_cache`.
   */
  checkRoom(sizeBytes: number): void {
    this.#served.residency.assertFits(sizeBytes);
    this.#limits.checkRoom(sizeBytes);
  }

  /** Of adapters and files as they are now. Throws QuotaExceededError. */
  checkStoredBytes(): void {
    this.#limits.checkStoredBytes(0);
  }

  /** False where others would have to leave memory for it now. */
  prefetch(id: string): Promise<boolean> {
    return this.#served.prefetch(this.describe(id));
  }

  /**
   * Removes a name with its history. Requests that run end on their version. Throws AdapterError `adapter_not_found`,
   * `adapter_id_read_only`, and `adapter_in_use` for a finetuning job of the tenant, and unless forced for requests.
   */
  async remove(id: string, { force }: { readonly force: boolean }): Promise<void> {
    const adapter = this.#own(id);
    for (const { version } of this.versions(id)) this.#refuseUsed(adapter, version, force);
    await this.#finish(adapter, () => this.#store.delete(this.#name(id)));
  }

  /** As `remove`; throws also `adapter_version_unknown`, `adapter_version_current`. */
  async removeVersion(id: string, version: string, { force }: { readonly force: boolean }): Promise<void> {
    const adapter = this.#own(id);
    this.version(id, version);
    if (version !== adapter.version) this.#refuseUsed(adapter, version, force);
    await this.#finish(adapter, () => this.#store.deleteVersion(this.#name(id), version));
  }

  get #store() {
    return this.#served.options.store;
  }

  #name(id: string): Name {
    return { owner: this.#tenant.id, id };
  }

  #owns({ owner }: Pick<StoredAdapter, "owner">): boolean {
    return owner === this.#tenant.id;
  }

  /** Among the requests whose adapters are not in memory yet. Throws AdapterError `adapter_cache_busy`. */
  #placeToWait(versions: readonly string[]): Disposable | null {
    const { residency, waiting } = this.#served;
    if (versions.every((version) => residency.info(version)?.state === "resident")) return null;
    const place = waiting.takeOne(this.#tenant.id);
    if (place !== null) return place;
    throw new AdapterError(
      "adapter_cache_busy",
      `${waiting.limits.perOwner} of your requests wait for adapters to be loaded already; send the request again later`,
    );
  }

  #takeTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#served.turns.run(this.#tenant.id, work);
  }

  /** One that the tenant may change. */
  #own(id: string): StoredAdapter {
    const adapter = this.describe(id);
    if (!this.#owns(adapter)) {
      throw new AdapterError(
        "adapter_id_read_only",
        `${id} is shared by its owner and cannot be changed; add an adapter of your own under that id to replace it for you`,
      );
    }
    this.#checkChange(id);
    return adapter;
  }

  /** What all tenants use is the operator's. */
  #checkChange(id: string): void {
    const isShared = this.#store.get(this.#name(id))?.shared ?? false;
    if (isShared && !roleCovers(this.#tenant.role, "admin")) throw new InsufficientRoleError("admin");
  }

  /** Where another of the owner's names means the version, nobody notices. */
  #refuseUsed({ owner, id, shared }: StoredAdapter, version: string, force: boolean): void {
    const others = this.#served.names.withVersion(version);
    if (others.some((each) => each.owner === owner && each.id !== id && each.shared === shared)) return;
    const { uses } = this.#served;
    const jobId = uses.jobHolding(version, this.#tenant.id);
    if (jobId !== null) {
      throw new AdapterError(
        "adapter_in_use",
        `the finetuning job ${jobId} continues from version ${version} of ${id}; wait for its end or cancel it first`,
      );
    }
    if (force) return;
    if (!(shared ? uses.isUsed(version) : uses.isUsedBy(version, owner))) return;
    throw new AdapterError(
      "adapter_in_use",
      `requests or others' finetuning jobs use version ${version} of ${id}; wait for them, or delete with force=true, which lets requests finish`,
    );
  }

  async #finish(name: Name, removal: () => Promise<Removal>): Promise<void> {
    const { unnamed } = await this.#served.changing([name], removal);
    this.#served.retire(unnamed);
  }
}
