// How what a store has goes: names at once, a version's files when nobody names it and nobody uses it any more, which
// is for the store's user to say.

import type { Name, StoreCatalog } from "./store-catalog.ts";
import { requireRecord, withoutVersion } from "./store-changes.ts";
import { type NameRecord, versionsOf } from "./store-records.ts";
import type { KeyedTurns } from "./store-turns.ts";
import type { StoreVersions } from "./store-versions.ts";

/** `unnamed` are versions that no name has any more: `forget` them once nobody uses them. */
export type Removal = { readonly unnamed: readonly string[] };

export type Expiry = Removal & { readonly expired: readonly Name[] };

export class StoreRemovals {
  readonly #catalog: StoreCatalog;
  readonly #versions: StoreVersions;
  readonly #turns: KeyedTurns;

  constructor(parts: {
    readonly catalog: StoreCatalog;
    readonly versions: StoreVersions;
    readonly turns: KeyedTurns;
  }) {
    this.#catalog = parts.catalog;
    this.#versions = parts.versions;
    this.#turns = parts.turns;
  }

  /** As the store's. */
  delete(name: Name): Promise<Removal> {
    return this.#remove(name, (record) => {
      requireRecord(record, name);
      return null;
    });
  }

  /** As the store's. */
  deleteVersion(name: Name, version: string): Promise<Removal> {
    return this.#remove(name, (record) => withoutVersion(requireRecord(record, name), version));
  }

  /** As the store's. */
  async expire(nowMs: number): Promise<Expiry> {
    const isOver = (record: NameRecord | undefined) => (record?.expiresAtMs ?? Infinity) <= nowMs;
    const expired: Name[] = [];
    const unnamed: string[] = [];
    for (const { owner, id } of this.#catalog.all().filter(isOver)) {
      const name = { owner, id };
      const removal = await this.#remove(name, (record) => {
        if (!isOver(record)) return record; // prolonged or deleted meanwhile
        expired.push(name);
        return null;
      });
      unnamed.push(...removal.unnamed);
    }
    return { expired, unnamed };
  }

  /** As the store's. */
  forget(version: string): Promise<boolean> {
    return this.#turns.run(version, async () => {
      if (this.#catalog.isNamed(version)) return false;
      await this.#versions.remove(version);
      return true;
    });
  }

  async #remove(
    name: Name,
    change: (record: NameRecord | undefined) => NameRecord | null | undefined,
  ): Promise<Removal> {
    let former: NameRecord | undefined;
    await this.#catalog.update(name, (record) => {
      former = record;
      return change(record);
    });
    return { unnamed: versionsOf(former).filter((version) => !this.#catalog.isNamed(version)) };
  }
}
