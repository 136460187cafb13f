// Which adapters each tenant may name, and which version a name means. Versions are read into the engine when somebody
// wants them; a name moves only once its new version could be. Knows neither HTTP nor tensors.

import { stat } from "node:fs/promises";
import {
  AdapterResidency,
  type Lease,
  type ResidencyOptions,
  type VersionResidency,
} from "../adapters-store/residency/residency.ts";
import type { AdapterSource, AdapterStore, Name, StoredAdapter } from "../adapters-store/store.ts";
import { AdapterError } from "../kernels/errors.ts";
import { servedBytes } from "../kernels/site-adapter.ts";
import type { Engine } from "../scheduler/engine.ts";
import { QuotaExceededError } from "./tenancy/errors.ts";
import type { Tenant } from "./tenancy/tenant.ts";

export type ServedAdapter = Pick<
  StoredAdapter,
  "owner" | "id" | "shared" | "version" | "summary" | "createdAtMs" | "location"
>;

/** The adapters as one tenant sees them: its own, and the shared ones that none of its own hides. */
export type TenantAdapters = {
  get(id: string): ServedAdapter | undefined;
  list(): readonly ServedAdapter[];
  /** Checks, publishes and serves an upload. Throws QuotaExceededError, or AdapterError with the store's reason. */
  add(id: string, source: AdapterSource): Promise<StoredAdapter>;
  /** Keeps a version in the engine until the lease is released. Throws as AdapterResidency.acquire does. */
  lease(version: string, signal?: AbortSignal): Promise<Lease>;
};

/** Where a version is nearest to the rows that want it, and what became of it so far. */
export type ResidencyInfo = VersionResidency & { readonly tier: "store" | "host" | "device" };

export type ServedAdaptersOptions = {
  readonly store: Pick<AdapterStore, "add" | "decode" | "get" | "usage">;
  readonly engine: Pick<Engine, "addAdapter" | "removeAdapter" | "stats">;
  readonly baseName: string;
  readonly hostCacheBytes: number; // of decoded adapters in the engine
  readonly onLoaded?: NonNullable<ResidencyOptions["onLoaded"]>;
};

type Given = { readonly id: string; readonly source: AdapterSource };

export class ServedAdapters {
  readonly residency: AdapterResidency;
  readonly #options: ServedAdaptersOptions;
  readonly #byOwner = new Map<string, Map<string, ServedAdapter>>();
  readonly #uploads = new Map<string, Promise<unknown>>(); // a tenant's take turns, so that quotas hold

  constructor(options: ServedAdaptersOptions) {
    const { engine, store, hostCacheBytes, onLoaded } = options;
    this.#options = options;
    this.residency = new AdapterResidency({
      capacityBytes: hostCacheBytes,
      load: async (version) => ({ adapter: await store.decode(version) }),
      sizeOf: (adapter) => servedBytes(adapter, engine.model.targets),
      host: {
        add: (version, adapter) => engine.addAdapter(version, adapter),
        remove: (version) => engine.removeAdapter(version),
      },
      ...(onLoaded && { onLoaded }),
    });
  }

  of(tenant: Tenant): TenantAdapters {
    const visible = () => {
      const others = this.list().filter(({ owner, shared }) => shared && owner !== tenant.id);
      const byId = new Map(others.map((adapter) => [adapter.id, adapter]));
      for (const adapter of this.#ownedBy(tenant.id).values()) byId.set(adapter.id, adapter);
      return byId;
    };
    return {
      get: (id) => this.#ownedBy(tenant.id).get(id) ?? visible().get(id),
      list: () => [...visible().values()],
      add: (id, source) => this.#add(tenant, { id, source }),
      lease: (version, signal) => this.residency.acquire(version, signal),
    };
  }

  /** Of all tenants. */
  list(): readonly ServedAdapter[] {
    return [...this.#byOwner.values()].flatMap((byId) => [...byId.values()]);
  }

  /** Names of a version, for metrics; empty once no name points at it any more. */
  namesOf(version: string): string[] {
    const names = this.list().flatMap((adapter) => (adapter.version === version ? [adapter.id] : []));
    return [...new Set(names)];
  }

  /** Undefined once no name has the version any more. */
  residencyOf(version: string): ResidencyInfo | undefined {
    const info = this.residency.info(version);
    if (info === undefined) return undefined;
    const isOnDevice = this.#options.engine.stats.residentAdapters.includes(version);
    const isInHost = info.state === "resident" || info.state === "draining";
    return { ...info, tier: isOnDevice ? "device" : isInHost ? "host" : "store" };
  }

  /** Makes a version of the store callable by its id. It is read when the first request wants it. */
  serve(adapter: ServedAdapter): void {
    const { owner, id, shared, version, summary, createdAtMs, location } = adapter;
    this.residency.register(version, summary.decodedBytes);
    const byId = this.#ownedBy(owner);
    byId.set(id, { owner, id, shared, version, summary, createdAtMs, location });
    this.#byOwner.set(owner, byId);
  }

  /**
   * Serves what the store says of a name now, once that could be read into the engine: after an upload, a move or a
   * deletion, of which several may be under way. Requests in flight keep their version, as former ones stay known.
   */
  async refresh(name: Name): Promise<void> {
    const stored = this.#options.store.get(name);
    if (stored === undefined) {
      this.#ownedBy(name.owner).delete(name.id);
      return;
    }
    this.residency.register(stored.version, stored.summary.decodedBytes);
    await this.residency.prefetch(stored.version);
    const current = this.#options.store.get(name);
    if (current?.version === stored.version) this.serve(current); // else whoever moved it refreshes it
  }

  async #add(tenant: Tenant, given: Given): Promise<StoredAdapter> {
    if (given.id === this.#options.baseName) {
      throw new AdapterError("adapter_id_taken", `${given.id} is the base model's name; choose another id`);
    }
    const former = this.#uploads.get(tenant.id) ?? Promise.resolve();
    const turn = former.then(async () => {
      await this.#checkQuotas(tenant, given);
      const added = await this.#options.store.add({
        owner: tenant.id,
        ...given,
        check: ({ decodedBytes }) => this.residency.assertFits(decodedBytes),
      });
      await this.refresh(added);
      return added;
    });
    this.#uploads.set(
      tenant.id,
      turn.catch(() => {}), // the caller has the error
    );
    return turn;
  }

  /** An archive counts as it is packed: what it holds is known only once it is unpacked. */
  async #checkQuotas({ id: owner, quotas }: Tenant, { id, source }: Given): Promise<void> {
    const { store } = this.#options;
    const { adapters, sizeBytes } = store.usage(owner);
    if (quotas.adapters !== null && adapters >= quotas.adapters && store.get({ owner, id }) === undefined) {
      throw new QuotaExceededError("adapters", quotas.adapters);
    }
    if (quotas.storedBytes === null) return;
    const paths = source.kind === "files" ? source.files.map(({ path }) => path) : [source.path];
    const sizes = await Promise.all(paths.map(async (path) => (await stat(path)).size));
    if (sizes.reduce((sum, size) => sum + size, sizeBytes) > quotas.storedBytes) {
      throw new QuotaExceededError("bytes of adapters", quotas.storedBytes);
    }
  }

  #ownedBy(owner: string): Map<string, ServedAdapter> {
    return this.#byOwner.get(owner) ?? new Map();
  }
}
