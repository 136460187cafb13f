// The names of all tenants' adapters and what they mean now, by owner, by id where they are shared, and by version.

import type { Name } from "../adapters-store/store.ts";
import type { ServedAdapter } from "./served-adapters.ts";

export class AdapterNames {
  readonly #byOwner = new Map<string, Map<string, ServedAdapter>>();
  readonly #shared = new Map<string, ServedAdapter>(); // by id
  readonly #byVersion = new Map<string, Set<ServedAdapter>>();

  /** The owner's own name. */
  get({ owner, id }: Name): ServedAdapter | undefined {
    return this.#byOwner.get(owner)?.get(id);
  }

  /** The owner's own of that id, or else the one that everybody may use. */
  find(name: Name): ServedAdapter | undefined {
    return this.get(name) ?? this.#shared.get(name.id);
  }

  /** What `find` finds, for every id. */
  visibleTo(owner: string): readonly ServedAdapter[] {
    const byId = new Map(this.#shared);
    for (const adapter of this.#byOwner.get(owner)?.values() ?? []) byId.set(adapter.id, adapter);
    return [...byId.values()];
  }

  all(): readonly ServedAdapter[] {
    return [...this.#byOwner.values()].flatMap((byId) => [...byId.values()]);
  }

  /** The names that mean a version now. */
  withVersion(version: string): readonly ServedAdapter[] {
    return [...(this.#byVersion.get(version) ?? [])];
  }

  set(adapter: ServedAdapter): void {
    const { owner, id, version, shared } = adapter;
    this.drop(adapter);
    const ofOwner = this.#byOwner.get(owner) ?? new Map<string, ServedAdapter>();
    this.#byOwner.set(owner, ofOwner.set(id, adapter));
    const ofVersion = this.#byVersion.get(version) ?? new Set<ServedAdapter>();
    this.#byVersion.set(version, ofVersion.add(adapter));
    if (shared) this.#shared.set(id, adapter);
  }

  drop({ owner, id }: Name): void {
    const ofOwner = this.#byOwner.get(owner);
    const former = ofOwner?.get(id);
    if (ofOwner === undefined || former === undefined) return;
    ofOwner.delete(id);
    if (ofOwner.size === 0) this.#byOwner.delete(owner);
    if (this.#shared.get(id) === former) this.#shared.delete(id);
    const ofVersion = this.#byVersion.get(former.version)!;
    ofVersion.delete(former);
    if (ofVersion.size === 0) this.#byVersion.delete(former.version);
  }
}
