// Adapters that last: versions that never change, and names that point at them, each name its owner's. Validates
// by decoding before it publishes, so that what is listed works on this base. Knows no requests and holds no
// decoded adapter.
//
//   versions/<version>/   the adapter's files, and manifest.json, written last
//   names/<hash>.json     one name: its versions, newest first, and which one it means
//   quarantine/           (always on this machine) uploads that are not checked yet; emptied when the store opens
//
// A version that nobody names any more stays until `forget`, because requests in flight use it, or until the next
// start. One process at a time may open a store.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { AdapterTargets, DecodedAdapter } from "../kernels/adapter.ts";
import { AdapterError } from "../kernels/errors.ts";
import type { StorageBackend } from "./backends/backend.ts";
import { openBackend } from "./backends/index.ts";
import { DecodePool, type Decoder } from "./decode-pool.ts";
import { type Addition, StoreAdditions } from "./store-additions.ts";
import { type Name, StoreCatalog } from "./store-catalog.ts";
import { type NameSettings, requireRecord, unknownVersion, withSettings } from "./store-changes.ts";
import { mountDirectories } from "./store-in-place.ts";
import { StoreIntake } from "./store-intake.ts";
import { versionsOf } from "./store-records.ts";
import { type Expiry, type Removal, StoreRemovals } from "./store-removals.ts";
import { KeyedTurns } from "./store-turns.ts";
import { areWhole, type StoredFile, StoreVersions } from "./store-versions.ts";
import {
  type AdapterPage,
  type PageQuery,
  type StoredAdapter,
  type StoredVersion,
  type StoreUsage,
  StoreViews,
} from "./store-views.ts";

export { defaultOwner } from "./adapter-id.ts";
export type { AdapterSource, NamedFile } from "./adapter-source.ts";
export type { Addition, FoundAdapter } from "./store-additions.ts";
export type { Name } from "./store-catalog.ts";
export type { AdapterLineage } from "./store-records.ts";
export type { Expiry, Removal } from "./store-removals.ts";
export type { StoredFile } from "./store-versions.ts";
export type { AdapterPage, PageQuery, StoredAdapter, StoredVersion, StoreUsage } from "./store-views.ts";

export type AdapterStoreOptions = {
  readonly directory: string; // of this machine; holds everything unless a backend is given
  readonly targets: AdapterTargets;
  readonly baseFingerprint: string;
  readonly backend?: StorageBackend; // the caller closes it; default: `directory`
  readonly pool?: Decoder; // default: one of its own
  readonly held?: ReadonlySet<string>; // versions to be kept though no name may have them; `forget` them in time
};

/** Throws AdapterError `adapter_store_damaged`, and the backend's StorageError. */
export async function openAdapterStore(options: AdapterStoreOptions): Promise<AdapterStore> {
  const { directory } = options;
  const quarantine = join(directory, "quarantine");
  await rm(quarantine, { recursive: true, force: true });
  await mkdir(quarantine, { recursive: true });
  const backend = options.backend ?? (await openBackend({ kind: "local", directory }));
  const store = new AdapterStore({ ...options, backend }, quarantine);
  await store.load(options.held ?? new Set());
  return store;
}

export class AdapterStore {
  readonly #baseFingerprint: string;
  readonly #pool: Decoder;
  readonly #ownsPool: boolean;
  readonly #intake: StoreIntake;
  readonly #catalog: StoreCatalog;
  readonly #versions: StoreVersions;
  readonly #views: StoreViews;
  readonly #additions: StoreAdditions;
  readonly #removals: StoreRemovals;
  // What gives a version a name, and what removes its files, take turns by version, and then by name.
  readonly #turns = new KeyedTurns();

  /** Use `openAdapterStore`. */
  constructor(
    { backend, baseFingerprint, pool, targets }: AdapterStoreOptions & { readonly backend: StorageBackend },
    quarantine: string,
  ) {
    this.#baseFingerprint = baseFingerprint;
    this.#pool = pool ?? new DecodePool();
    this.#ownsPool = pool === undefined;
    this.#intake = new StoreIntake({ quarantine, targets, baseFingerprint, pool: this.#pool });
    this.#catalog = new StoreCatalog(backend, baseFingerprint);
    this.#versions = new StoreVersions(backend);
    this.#views = new StoreViews(this.#catalog, this.#versions);
    const parts = { catalog: this.#catalog, versions: this.#versions, turns: this.#turns };
    this.#additions = new StoreAdditions({ ...parts, intake: this.#intake, baseFingerprint });
    this.#removals = new StoreRemovals(parts);
  }

  /** Reads what was published and removes leftovers; called once, by `openAdapterStore`. */
  async load(held: ReadonlySet<string>): Promise<void> {
    await this.#catalog.load();
    const named = new Set(this.#catalog.all().flatMap(versionsOf));
    const isKept = (version: string) => this.#catalog.isNamed(version) || held.has(version);
    await this.#versions.load({ named, held, isKept });
  }

  get(name: Name): StoredAdapter | undefined {
    return this.#views.get(name);
  }

  /** The adapter that an owner means by an id: the own one, or else one that its owner shares. */
  find(name: Name): StoredAdapter | undefined {
    return this.#views.find(name);
  }

  /** Newest first. Throws AdapterError `adapter_not_found`. */
  versions(name: Name): readonly StoredVersion[] {
    return this.#views.versions(name);
  }

  list(query: PageQuery): AdapterPage {
    return this.#views.list(query);
  }

  /** Those of all owners, for the base that is served. */
  all(): readonly StoredAdapter[] {
    return this.#views.all();
  }

  /** What counts towards an owner's quota; a version that several of the owner's names have counts once. */
  usage(owner: string): StoreUsage {
    return this.#views.usage(owner);
  }

  /** Whether one of the owner's names has the version in its history. */
  hasVersion(owner: string, version: string): boolean {
    return this.#catalog.ofOwner(owner).some((record) => versionsOf(record).includes(version));
  }

  /** Whether any owner's name has the version in its history. */
  isNamed(version: string): boolean {
    return this.#catalog.isNamed(version);
  }

  /** Names whose adapters were made for another base than the one that is served: kept, but not listed. */
  listOfOtherBases(): readonly (Name & { readonly version: string })[] {
    return this.#catalog.ofOtherBases().map(({ owner, id, current }) => ({ owner, id, version: current }));
  }

  /**
   * Copies, checks and publishes an adapter; when it resolves, the adapter survives kill -9. The same content
   * under the same id changes nothing but the settings that are given; other content moves the id. Throws
   * AdapterError: `adapter_id_invalid`, `adapter_id_read_only`, `adapter_id_taken`, and what the source's archive
   * and format refuse.
   */
  async add(addition: Addition): Promise<StoredAdapter> {
    return this.#views.of(await this.#additions.add(addition));
  }

  /**
   * Makes a name, new or not, mean a version that its owner has under some name. Throws AdapterError
   * `adapter_version_unknown`, `adapter_id_invalid`, `adapter_id_read_only`.
   */
  async moveAlias(name: Name, version: string): Promise<StoredAdapter> {
    return this.#views.of(await this.#additions.moveAlias(name, version));
  }

  /** Throws AdapterError `adapter_not_found`, `adapter_id_read_only`, `adapter_id_taken`. */
  async set(name: Name, settings: NameSettings): Promise<StoredAdapter> {
    const record = await this.#catalog.update(name, (former) =>
      withSettings(requireRecord(former, name), settings),
    );
    return this.#views.of(record!);
  }

  /** Throws AdapterError `adapter_not_found`, `adapter_id_read_only`. */
  setPinned(name: Name, pinned: boolean): Promise<StoredAdapter> {
    return this.set(name, { pin: pinned });
  }

  /** Removes a name with its history. Throws AdapterError `adapter_not_found`, `adapter_id_read_only`. */
  delete(name: Name): Promise<Removal> {
    return this.#removals.delete(name);
  }

  /**
   * Removes one version, which must not be the current one, from a name's history. Throws AdapterError
   * `adapter_not_found`, `adapter_id_read_only`, `adapter_version_unknown`, `adapter_version_current`.
   */
  deleteVersion(name: Name, version: string): Promise<Removal> {
    return this.#removals.deleteVersion(name, version);
  }

  /** Removes the names whose time is over. */
  expire(nowMs: number): Promise<Expiry> {
    return this.#removals.expire(nowMs);
  }

  /** Removes the files of a version that nobody uses; false where a name has it (again). */
  forget(version: string): Promise<boolean> {
    return this.#removals.forget(version);
  }

  /**
   * Modules of a version that was not forgotten. Throws AdapterError `adapter_version_unknown` or
   * `adapter_changed`, and the backend's StorageError.
   */
  async decode(version: string): Promise<DecodedAdapter> {
    const known = this.#versions.get(version);
    if (known === undefined) throw unknownVersion(version);
    const { format, files } = known;
    await using folder = await this.#versions.openFolder(version, this.#intake.scratchPath());
    const fileNames = files.map(({ name }) => name);
    if (await areWhole(files, folder.directory)) {
      const job = this.#intake.job(folder.directory, { format, fileNames });
      const result = await this.#pool.decode({ ...job, inspected: { version, files } });
      if (result.version === version) return result.adapter;
    }
    throw new AdapterError(
      "adapter_changed",
      `${this.#versions.locate(version)} no longer holds version ${version}; a version never changes: add the new content as an adapter`,
    );
  }

  /** A version's files as they are stored. Throws AdapterError `adapter_version_unknown`. */
  files(version: string): readonly StoredFile[] {
    return this.#versions.files(version);
  }

  /**
   * Serves every subdirectory of `directory` that holds an adapter, under the subdirectory's name, for all owners,
   * from where it lies; nothing is copied or written. Throws the first bad one's AdapterError, naming it.
   */
  async addDirectoriesInPlace(directory: string): Promise<readonly StoredAdapter[]> {
    const records = await mountDirectories(directory, {
      catalog: this.#catalog,
      versions: this.#versions,
      intake: this.#intake,
      pool: this.#pool,
      baseFingerprint: this.#baseFingerprint,
    });
    return records.map((record) => this.#views.of(record));
  }

  async close(): Promise<void> {
    if (this.#ownsPool) await this.#pool.close();
    await this.#turns.idle();
    await this.#catalog.idle();
  }
}
