// Which names there are, whose they are and which versions they mean: in memory to read, durable in the backend.
// One object per name, replaced by conditional writes. Knows no files of versions.

import { text } from "node:stream/consumers";
import { AdapterError } from "../kernels/errors.ts";
import type { StorageBackend, StoredObject } from "./backends/backend.ts";
import { mapConcurrently } from "./store-concurrency.ts";
import { type NameRecord, nameKey, namesPrefix, parseRecord, versionsOf } from "./store-records.ts";
import { KeyedTurns } from "./store-turns.ts";

export type Name = { readonly owner: string; readonly id: string };

type KnownName = {
  readonly record: NameRecord;
  readonly etag: string | null; // null = served in place, written nowhere
};

type UncertainWrite = {
  readonly known: KnownName | undefined; // before it
  readonly next: NameRecord | null | undefined;
};

const loadsAtOnce = 16;

export class StoreCatalog {
  readonly #backend: StorageBackend;
  readonly #baseFingerprint: string;
  readonly #byOwner = new Map<string, Map<string, KnownName>>();
  readonly #namings = new Map<string, number>(); // version to how many names have it in their history
  readonly #sharedBy = new Map<string, string>(); // id to the one owner who shares it
  readonly #ofOtherBases: NameRecord[] = [];
  readonly #turns = new KeyedTurns(); // changes of one name follow each other

  constructor(backend: StorageBackend, baseFingerprint: string) {
    this.#backend = backend;
    this.#baseFingerprint = baseFingerprint;
  }

  /** Reads what was published; called once. Throws AdapterError `adapter_store_damaged`. */
  async load(): Promise<void> {
    const objects: StoredObject[] = [];
    for await (const object of this.#backend.list(namesPrefix)) objects.push(object);
    await mapConcurrently(objects, loadsAtOnce, async ({ key, etag }) => {
      const record = await this.#read(key);
      if (record.baseFingerprint === this.#baseFingerprint) this.#remember({ record, etag });
      else {
        this.#ofOtherBases.push(record);
        this.#count(versionsOf(record), 1);
      }
    });
  }

  get({ owner, id }: Name): NameRecord | undefined {
    return this.#byOwner.get(owner)?.get(id)?.record;
  }

  /** The name that the owner may use: the own one, or else one that its owner shares. */
  find({ owner, id }: Name): NameRecord | undefined {
    const sharer = this.#sharedBy.get(id);
    return this.get({ owner, id }) ?? (sharer === undefined ? undefined : this.get({ owner: sharer, id }));
  }

  ofOwner(owner: string): NameRecord[] {
    return [...(this.#byOwner.get(owner)?.values() ?? [])].map(({ record }) => record);
  }

  all(): NameRecord[] {
    return [...this.#byOwner.keys()].flatMap((owner) => this.ofOwner(owner));
  }

  shared(): NameRecord[] {
    return this.all().filter(({ shared }) => shared);
  }

  ofOtherBases(): readonly NameRecord[] {
    return this.#ofOtherBases;
  }

  isNamed(version: string): boolean {
    return this.#namings.has(version);
  }

  isReadOnly({ owner, id }: Name): boolean {
    return this.#byOwner.get(owner)?.get(id)?.etag === null;
  }

  /** A name that lasts as long as this process and cannot be changed. */
  mount(record: NameRecord): void {
    this.#claimShared(record);
    this.#count(versionsOf(this.get(record)), 1); // a stored record of that name stays, and so do its versions
    this.#remember({ record, etag: null });
  }

  /**
   * Replaces a name's record by what `change` makes of it, or removes it where that is null; the same record
   * changes nothing. Durable when it resolves. Throws AdapterError `adapter_id_read_only`, `adapter_id_taken`
   * where another owner shares the id, and what `change` throws.
   */
  update(
    name: Name,
    change: (record: NameRecord | undefined) => NameRecord | null | undefined,
  ): Promise<NameRecord | null | undefined> {
    return this.#turns.run(this.#key(name), async () => {
      this.refuseReadOnly(name);
      const known = this.#byOwner.get(name.owner)?.get(name.id);
      const next = change(known?.record);
      if (next === known?.record) return next;
      if (next) this.#claimShared(next);
      try {
        await this.#write(name, next, known);
      } catch (error) {
        await this.#reload(name, { known, next });
        throw error;
      }
      return next;
    });
  }

  refuseReadOnly(name: Name): void {
    if (!this.isReadOnly(name)) return;
    throw new AdapterError(
      "adapter_id_read_only",
      `${name.id} is served from the server's adapters directory and cannot be changed; choose another id`,
    );
  }

  idle(): Promise<void> {
    return this.#turns.idle();
  }

  async #write(name: Name, next: NameRecord | null | undefined, known: KnownName | undefined): Promise<void> {
    const key = this.#key(name);
    if (!next) {
      await this.#backend.delete(key);
      this.#forget(name);
      return;
    }
    const etag = known?.etag ?? null;
    const condition = etag === null ? ({ ifAbsent: true } as const) : { ifMatch: etag };
    const written = await this.#backend.put(key, Buffer.from(JSON.stringify(next)), condition);
    this.#remember({ record: next, etag: written.etag });
  }

  /** After a write that failed, only the backend knows whether it happened. */
  async #reload(name: Name, { known, next }: UncertainWrite): Promise<void> {
    const key = this.#key(name);
    try {
      const found = await this.#backend.head(key);
      if (found === null) this.#forget(name);
      else this.#remember({ record: await this.#read(key), etag: found.etag });
    } catch {
      if (known !== undefined)
        this.#remember(known); // and the next write's condition decides
      else this.#forget(name);
      this.#count(versionsOf(next ?? undefined), 1); // the next start may find it: its versions' files stay until then
    }
  }

  async #read(key: string): Promise<NameRecord> {
    try {
      return parseRecord(await text(await this.#backend.get(key)));
    } catch (cause) {
      throw damaged(this.#backend.locate(key), cause);
    }
  }

  #remember(known: KnownName): void {
    const { owner, id } = known.record;
    const ofOwner = this.#byOwner.get(owner) ?? this.#byOwner.set(owner, new Map()).get(owner)!;
    const former = ofOwner.get(id)?.record;
    ofOwner.set(id, known);
    this.#count(versionsOf(known.record), 1);
    this.#count(versionsOf(former), -1);
    if (known.record.shared) this.#sharedBy.set(id, owner);
    else this.#releaseShared({ owner, id });
  }

  #forget(name: Name): void {
    const ofOwner = this.#byOwner.get(name.owner);
    this.#count(versionsOf(ofOwner?.get(name.id)?.record), -1);
    ofOwner?.delete(name.id);
    if (ofOwner?.size === 0) this.#byOwner.delete(name.owner);
    this.#releaseShared(name);
  }

  #count(versions: readonly string[], change: 1 | -1): void {
    for (const version of versions) {
      const count = (this.#namings.get(version) ?? 0) + change;
      if (count > 0) this.#namings.set(version, count);
      else this.#namings.delete(version);
    }
  }

  /** Before the write, so that of two owners who share one id at once, one is refused. */
  #claimShared({ owner, id, shared }: NameRecord): void {
    if (!shared) return;
    const sharer = this.#sharedBy.get(id);
    if (sharer === undefined || sharer === owner) this.#sharedBy.set(id, owner);
    else
      throw new AdapterError("adapter_id_taken", `another owner shares an adapter ${id}; choose another id`);
  }

  #releaseShared({ owner, id }: Name): void {
    if (this.#sharedBy.get(id) === owner) this.#sharedBy.delete(id);
  }

  #key({ owner, id }: Name): string {
    return nameKey(this.#baseFingerprint, owner, id);
  }
}

export function damaged(location: string, cause?: unknown): AdapterError {
  return new AdapterError(
    "adapter_store_damaged",
    `${location} or what it names cannot be read; restore it from a backup, or delete it to forget the adapter`,
    { cause },
  );
}
