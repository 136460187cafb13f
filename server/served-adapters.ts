// Which adapters there are for requests, and which version a name means. Versions are read into the engine when
// somebody wants them; a name moves only once its new version could be. What a tenant may do with them is
// tenant-adapters.ts's business. Knows neither HTTP nor tensors.

import {
  AdapterResidency,
  type ResidencyOptions,
  type VersionResidency,
} from "../adapters-store/residency/residency.ts";
import type { AdapterStore, Name, StoredAdapter } from "../adapters-store/store.ts";
import type { Engine } from "../scheduler/engine.ts";
import { DerivedVersions } from "./derived-versions.ts";
import type { Tenant } from "./tenancy/tenant.ts";
import { TenantAdapters } from "./tenant-adapters.ts";
import { VersionUses } from "./version-uses.ts";
import { WakeUp } from "./wake-up.ts";

export type { TenantAdapters } from "./tenant-adapters.ts";

export type ServedAdapter = Pick<
  StoredAdapter,
  "owner" | "id" | "shared" | "version" | "summary" | "createdAtMs" | "location" | "pinned" | "expiresAtMs"
>;

/** Where a version is nearest to the rows that want it, and what became of it so far. */
export type ResidencyInfo = VersionResidency & { readonly tier: "store" | "host" | "device" };

type StoreMethods =
  | "add"
  | "decode"
  | "delete"
  | "deleteVersion"
  | "expire"
  | "find"
  | "forget"
  | "get"
  | "list"
  | "moveAlias"
  | "setPinned"
  | "usage"
  | "versions";

export type ServedAdaptersOptions = {
  readonly store: Pick<AdapterStore, StoreMethods>;
  readonly engine: Pick<Engine, "addAdapter" | "removeAdapter" | "stats">;
  readonly baseName: string;
  readonly hostCacheBytes: number; // of decoded adapters in the engine
  readonly onLoaded?: NonNullable<ResidencyOptions["onLoaded"]>;
  /** What failed where nobody waits for it: loading what is pinned, removing what is left. */
  readonly onError?: (error: unknown, what: string) => void;
};

const expiryPauseMs = 1000; // at least, between two looks
const expiryRetryMs = 5000;
const everybody = Symbol("everybody");

export class ServedAdapters {
  readonly residency: AdapterResidency;
  readonly uses = new VersionUses();
  readonly derived: DerivedVersions;
  readonly options: ServedAdaptersOptions;
  readonly #byOwner = new Map<string, Map<string, ServedAdapter>>();
  readonly #shared = new Map<string, ServedAdapter>(); // by id
  readonly #byVersion = new Map<string, Set<ServedAdapter>>();
  readonly #servedTo = new Map<string, Set<string | typeof everybody>>(); // by version, as long as it is known
  readonly #turns = new Map<string, Promise<unknown>>();
  readonly #expiry = new WakeUp(() => void this.#expire());

  constructor(options: ServedAdaptersOptions) {
    const { engine, store, hostCacheBytes, onLoaded } = options;
    this.options = options;
    this.residency = new AdapterResidency({
      capacityBytes: hostCacheBytes,
      load: async (version) => ({ adapter: await (this.derived.make(version) ?? store.decode(version)) }),
      host: {
        add: (version, adapter) => engine.addAdapter(version, adapter),
        remove: (version) => engine.removeAdapter(version),
      },
      ...(onLoaded && { onLoaded }),
    });
    this.derived = new DerivedVersions(this.residency);
  }

  of(tenant: Tenant): TenantAdapters {
    return new TenantAdapters(tenant, this);
  }

  /** The tenant's own of that id, or else the one that everybody may use. */
  find({ owner, id }: Name): ServedAdapter | undefined {
    return this.#byOwner.get(owner)?.get(id) ?? this.#shared.get(id);
  }

  /** What `find` finds, for every id. */
  visibleTo(owner: string): readonly ServedAdapter[] {
    const byId = new Map(this.#shared);
    for (const adapter of this.#byOwner.get(owner)?.values() ?? []) byId.set(adapter.id, adapter);
    return [...byId.values()];
  }

  /** Of all tenants. */
  list(): readonly ServedAdapter[] {
    return [...this.#byOwner.values()].flatMap((byId) => [...byId.values()]);
  }

  /** The names that mean a version now. */
  withVersion(version: string): readonly ServedAdapter[] {
    return [...(this.#byVersion.get(version) ?? [])];
  }

  /** Ids of a version, for metrics; empty once no name points at it any more. */
  namesOf(version: string): string[] {
    return [...new Set(this.withVersion(version).map(({ id }) => id))];
  }

  /** Whether nobody else's requests can be in what is counted of a version. */
  isOnlyOf(version: string, owner: string): boolean {
    const owners = this.#servedTo.get(version);
    return owners?.size === 1 && owners.has(owner);
  }

  /** Undefined once no name has the version any more. */
  residencyOf(version: string): ResidencyInfo | undefined {
    const info = this.residency.info(version);
    if (info === undefined) return undefined;
    const isOnDevice = this.options.engine.stats.residentAdapters.includes(version);
    const isInHost = info.state === "resident" || info.state === "draining";
    return { ...info, tier: isOnDevice ? "device" : isInHost ? "host" : "store" };
  }

  /** Makes a version of the store callable by its id. It is read when the first request wants it. */
  serve(stored: ServedAdapter): void {
    const { owner, id, shared, version, summary, createdAtMs, location, pinned, expiresAtMs } = stored;
    const adapter = { owner, id, shared, version, summary, createdAtMs, location, pinned, expiresAtMs };
    this.residency.register(version, summary.decodedBytes);
    this.#drop(stored);
    entryOf(this.#byOwner, owner, () => new Map<string, ServedAdapter>()).set(id, adapter);
    entryOf(this.#byVersion, version, () => new Set<ServedAdapter>()).add(adapter);
    entryOf(this.#servedTo, version, () => new Set<string | typeof everybody>()).add(
      shared ? everybody : owner,
    );
    if (shared) this.#shared.set(id, adapter);
    if (expiresAtMs !== null) this.#expiry.at(expiresAtMs);
  }

  /**
   * Serves what the store says of a name now, once that could be read into the engine: after an upload, a move or a
   * deletion, of which several may be under way. Requests in flight keep their version, as former ones stay known.
   */
  async refresh(name: Name): Promise<void> {
    const { store } = this.options;
    const former = this.#byOwner.get(name.owner)?.get(name.id);
    const stored = store.get(name);
    if (stored === undefined) this.#drop(name);
    else {
      await this.prefetch(stored);
      const current = store.get(name);
      if (current?.version === stored.version) this.serve(current); // else whoever moved it refreshes it
    }
    if (former !== undefined) await this.keepPins(former.version);
    if (stored !== undefined) await this.keepPins(stored.version);
  }

  /** Makes a version known and reads it, unless others would have to leave for it while requests wait. */
  prefetch({ version, summary }: Pick<ServedAdapter, "version" | "summary">): Promise<boolean> {
    this.residency.register(version, summary.decodedBytes);
    return this.residency.prefetch(version);
  }

  /** Pins what a pinned name means, once it is loaded, and unpins what none does. Throws as AdapterResidency.pin. */
  async keepPins(version: string): Promise<void> {
    const info = this.residency.info(version);
    const isWanted = this.withVersion(version).some(({ pinned }) => pinned);
    if (info === undefined || info.isPinned === isWanted) return;
    if (isWanted) await this.residency.pin(version);
    else this.residency.unpin(version);
  }

  /** Loads what was pinned before the restart. */
  async loadPinned(): Promise<void> {
    const versions = new Set(this.list().flatMap(({ pinned, version }) => (pinned ? [version] : [])));
    await Promise.all([...versions].map((version) => this.#background("pin", this.keepPins(version))));
  }

  /** Versions without a name: they leave once their last request has ended, memory first and then the store. */
  retire(versions: readonly string[]): void {
    for (const version of versions) void this.#background("remove", this.#retire(version));
  }

  /** One after the other under each key, so that quotas hold. */
  takeTurn<T>(key: string, work: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(key) ?? Promise.resolve()).then(work);
    const settled = turn.catch(() => {}); // the caller has the error
    this.#turns.set(key, settled);
    void settled.then(() => {
      if (this.#turns.get(key) === settled) this.#turns.delete(key);
    });
    return turn;
  }

  close(): void {
    this.#expiry.close();
  }

  async #retire(version: string): Promise<void> {
    const isGone = await this.residency.remove(version);
    await this.derived.whenUnused(version);
    if (!isGone || this.#byVersion.has(version)) return;
    this.#servedTo.delete(version);
    await this.options.store.forget(version);
  }

  async #expire(): Promise<void> {
    const work = async () => {
      const { expired, unnamed } = await this.options.store.expire(Date.now());
      for (const name of expired) await this.refresh(name);
      this.retire(unnamed);
    };
    const isDone = await this.#background("expire", work());
    const times = this.list().map(({ expiresAtMs }) => expiresAtMs ?? Infinity);
    const nextMs = times.reduce((least, time) => Math.min(least, time), Infinity);
    if (nextMs === Infinity) return;
    this.#expiry.at(Math.max(nextMs, Date.now() + (isDone ? expiryPauseMs : expiryRetryMs)));
  }

  async #background(what: string, work: Promise<void>): Promise<boolean> {
    try {
      await work;
      return true;
    } catch (error) {
      this.options.onError?.(error, what);
      return false;
    }
  }

  #drop({ owner, id }: Name): void {
    const ofOwner = this.#byOwner.get(owner);
    const former = ofOwner?.get(id);
    if (ofOwner === undefined || former === undefined) return;
    ofOwner.delete(id);
    if (ofOwner.size === 0) this.#byOwner.delete(owner);
    if (this.#shared.get(id) === former) this.#shared.delete(id);
    const names = this.#byVersion.get(former.version)!;
    names.delete(former);
    if (names.size === 0) this.#byVersion.delete(former.version);
  }
}

function entryOf<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
