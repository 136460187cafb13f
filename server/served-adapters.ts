// Which adapters there are for requests, and which version a name means. Versions are read into the engine when
// somebody wants them; a name moves only once its new version could be. What a tenant may do with them is
// tenant-adapters.ts's business. Knows neither HTTP nor tensors.

import { Allowance } from "../adapters-store/allowance.ts";
import {
  AdapterResidency,
  type ResidencyOptions,
  type VersionResidency,
} from "../adapters-store/residency/residency.ts";
import type { AdapterStore, Addition, FoundAdapter, Name, StoredAdapter } from "../adapters-store/store.ts";
import { KeyedTurns } from "../adapters-store/store-turns.ts";
import { servedBytes } from "../kernels/site-adapter.ts";
import type { Engine } from "../scheduler/engine.ts";
import { AdapterNames } from "./adapter-names.ts";
import { DerivedVersions } from "./derived-versions.ts";
import type { Tenant } from "./tenancy/tenant.ts";
import { TenantAdapters } from "./tenant-adapters.ts";
import { type VersionHold, VersionUses } from "./version-uses.ts";
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
  | "hasVersion"
  | "isNamed"
  | "list"
  | "moveAlias"
  | "setPinned"
  | "usage"
  | "versions";

export type ServedAdaptersOptions = {
  readonly store: Pick<AdapterStore, StoreMethods>;
  readonly engine: Pick<Engine, "addAdapter" | "removeAdapter" | "stats" | "model">;
  readonly baseName: string;
  readonly hostCacheBytes: number; // of decoded adapters in the engine
  readonly storedBesides?: (owner: string) => number; // bytes of other files, which the same quota limits
  /** Room that an owner's finetuning jobs will need for their results. */
  readonly reserved?: (owner: string) => ReservedRoom;
  readonly onLoaded?: NonNullable<ResidencyOptions["onLoaded"]>;
  /** What failed where nobody waits for it: loading what is pinned, removing what is left. */
  readonly onError?: (error: unknown, what: string) => void;
};

export type ReservedRoom = { readonly adapters: number; readonly sizeBytes: number };

const expiryPauseMs = 1000; // at least, between two looks
const expiryRetryMs = 5000;
const everybody = Symbol("everybody");
/** Of those that the residency lets wait, one tenant has a quarter. */
const waitingForLoads = { inAll: Number.POSITIVE_INFINITY, perOwner: 1024 };

export class ServedAdapters {
  readonly residency: AdapterResidency;
  readonly names = new AdapterNames();
  readonly uses = new VersionUses();
  readonly turns = new KeyedTurns(); // of uploads, by tenant, so that quotas hold
  readonly derived: DerivedVersions;
  readonly options: ServedAdaptersOptions;
  readonly waiting = new Allowance(waitingForLoads); // requests, by tenant
  deviceHits = 0; // of the residency's hits, those whose adapters held device slots
  readonly #servedTo = new Map<string, Set<string | typeof everybody>>(); // by version, as long as it is known
  readonly #adding = new Map<string, number>(); // uploads of a version that are being read, which nobody may end
  readonly #expiry = new WakeUp(() => void this.#expire());

  constructor(options: ServedAdaptersOptions) {
    const { engine, store, hostCacheBytes, onLoaded } = options;
    this.options = options;
    this.residency = new AdapterResidency({
      capacityBytes: hostCacheBytes,
      sizeOf: (adapter) => servedBytes(adapter, engine.model.targets),
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

  /** Of all tenants. */
  list(): readonly ServedAdapter[] {
    return this.names.all();
  }

  /** Ids of a version, for metrics; empty once no name points at it any more. */
  namesOf(version: string): string[] {
    return [...new Set(this.names.withVersion(version).map(({ id }) => id))];
  }

  /** Whether nobody else's requests can be in what is counted of a version. */
  isOnlyOf(version: string, owner: string): boolean {
    const owners = this.#servedTo.get(version);
    return owners?.size === 1 && owners.has(owner);
  }

  /** Whether everybody may use the version. */
  isShared(version: string): boolean {
    return this.#servedTo.get(version)?.has(everybody) ?? false;
  }

  /** Undefined once no name has the version any more. */
  residencyOf(version: string): ResidencyInfo | undefined {
    const info = this.residency.info(version);
    if (info === undefined) return undefined;
    const isOnDevice = this.options.engine.stats.residentAdapters.includes(version);
    const isInHost = info.state === "resident" || info.state === "draining";
    return { ...info, tier: isOnDevice ? "device" : isInHost ? "host" : "store" };
  }

  /** To be told right before versions are leased for a request. */
  noteWanted(versions: readonly string[]): void {
    for (const version of new Set(versions)) {
      const info = this.residencyOf(version);
      if (info?.tier === "device" && info.state === "resident") this.deviceHits++;
    }
  }

  /** Makes a version of the store callable by its id. It is read when the first request wants it. */
  serve(stored: ServedAdapter): void {
    const { owner, id, shared, version, summary, createdAtMs, location, pinned, expiresAtMs } = stored;
    const adapter = { owner, id, shared, version, summary, createdAtMs, location, pinned, expiresAtMs };
    this.residency.register(version, summary.decodedBytes);
    this.names.set(adapter);
    const servedTo = this.#servedTo.get(version) ?? new Set<string | typeof everybody>();
    this.#servedTo.set(version, servedTo.add(shared ? everybody : owner));
    if (expiresAtMs !== null) this.#expiry.at(expiresAtMs);
  }

  /**
   * Reads the version before a name means it, so that what cannot be read is refused and moves nothing. Throws as the
   * store's `add`, and as AdapterResidency.prefetch.
   */
  async addToStore(addition: Addition): Promise<StoredAdapter> {
    let found: FoundAdapter | null = null;
    const ready = async (staged: FoundAdapter) => {
      found = staged;
      this.#countAdding(staged, 1);
      await this.prefetch(staged);
    };
    let isAdded = false;
    try {
      const added = await this.options.store.add({ ...addition, ready });
      isAdded = true;
      return added;
    } finally {
      if (found !== null) {
        this.#countAdding(found, -1);
        if (!isAdded) this.#dropUnnamed(found);
      }
    }
  }

  #countAdding({ version }: FoundAdapter, change: 1 | -1): void {
    const count = (this.#adding.get(version) ?? 0) + change;
    if (count === 0) this.#adding.delete(version);
    else this.#adding.set(version, count);
  }

  /** Whatever becomes of a change of names in the store, they are served as they are there afterwards. */
  async changing<T>(names: readonly Name[], change: () => Promise<T>): Promise<T> {
    try {
      return await change();
    } finally {
      await this.#refreshAll(names);
    }
  }

  /** What the store did is done: a name that cannot be served now is reported, and does not keep the others back. */
  async #refreshAll(names: readonly Name[]): Promise<void> {
    for (const name of names) await this.#background("refresh", this.refresh(name));
  }

  /**
   * Serves what the store says of a name now, once that could be read into the engine: after an upload, a move or a
   * deletion, of which several may be under way. Requests in flight keep their version, as former ones stay known.
   */
  async refresh(name: Name): Promise<void> {
    const { store } = this.options;
    const former = this.names.get(name);
    const stored = store.get(name);
    if (stored === undefined) this.names.drop(name);
    else {
      // Where it cannot be read now, the first request for it tries again: the store's name has moved already.
      await this.#background("prefetch", this.prefetch(stored));
      const current = store.get(name);
      if (current?.version === stored.version) this.serve(current); // else whoever moved it refreshes it
    }
    if (former !== undefined) {
      await this.keepPins(former.version);
      if (!store.isNamed(former.version)) this.retire([former.version]); // whoever removed it left that to this name
    }
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
    const isWanted = this.names.withVersion(version).some(({ pinned }) => pinned);
    if (info === undefined || info.isPinned === isWanted) return;
    if (isWanted) await this.residency.pin(version);
    else this.residency.unpin(version);
  }

  /** Loads what was pinned before the restart. */
  async loadPinned(): Promise<void> {
    const versions = new Set(this.list().flatMap(({ pinned, version }) => (pinned ? [version] : [])));
    await Promise.all([...versions].map((version) => this.#background("pin", this.keepPins(version))));
  }

  /** Whatever becomes of its names, the version's files stay until what this returns is called. */
  hold(version: string, hold: VersionHold): () => void {
    const end = this.uses.hold(version, hold);
    return () => {
      end();
      if (this.names.withVersion(version).length === 0) this.retire([version]);
    };
  }

  /** Versions without a name: they leave once their last request has ended, memory first and then the store. */
  retire(versions: readonly string[]): void {
    for (const version of versions) void this.#background("remove", this.#retire(version));
  }

  close(): void {
    this.#expiry.close();
  }

  async #retire(version: string): Promise<void> {
    if (this.#adding.has(version)) return; // it gets a name, or is retired again by who failed to give it one
    if (this.names.withVersion(version).length > 0) return; // until that name is refreshed, which retires it again
    const isGone = await this.residency.remove(version);
    await this.derived.whenUnused(version);
    if (!isGone || this.names.withVersion(version).length > 0) return;
    if (this.uses.isHeld(version)) return; // whoever lets go of it last retires it again
    this.#servedTo.delete(version);
    await this.options.store.forget(version);
  }

  async #expire(): Promise<void> {
    const work = async () => {
      const { expired, unnamed } = await this.options.store.expire(Date.now());
      await this.#refreshAll(expired);
      this.retire(unnamed);
    };
    const isDone = await this.#background("expire", work());
    const times = this.list().map(({ expiresAtMs }) => expiresAtMs ?? Infinity);
    const nextMs = times.reduce((least, time) => Math.min(least, time), Infinity);
    if (nextMs === Infinity) return;
    this.#expiry.at(Math.max(nextMs, Date.now() + (isDone ? expiryPauseMs : expiryRetryMs)));
  }

  #dropUnnamed({ version }: FoundAdapter): void {
    if (this.names.withVersion(version).length === 0) this.retire([version]);
  }

  async #background(what: string, work: Promise<unknown>): Promise<boolean> {
    try {
      await work;
      return true;
    } catch (error) {
      this.options.onError?.(error, what);
      return false;
    }
  }
}
