// Which adapters requests may name, and under which version the engine knows them. A name moves only after the
// engine has the new version. Knows neither HTTP nor tensors.

import type { AdapterSource, AdapterStore, AdapterVersion } from "../adapters-store/store.ts";
import { AdapterError } from "../kernels/errors.ts";
import type { Engine } from "../scheduler/engine.ts";

export type ServedAdapter = Pick<AdapterVersion, "id" | "version" | "summary" | "createdAtMs" | "directory">;

export type ServedAdaptersOptions = {
  readonly store: Pick<AdapterStore, "add" | "decode">;
  readonly engine: Pick<Engine, "addAdapter" | "removeAdapter">;
  readonly baseName: string;
};

export class ServedAdapters {
  readonly #options: ServedAdaptersOptions;
  readonly #byId = new Map<string, ServedAdapter>();
  #publishing: Promise<unknown> = Promise.resolve(); // versions enter and leave the engine one after another

  constructor(options: ServedAdaptersOptions) {
    this.#options = options;
  }

  get(id: string): ServedAdapter | undefined {
    return this.#byId.get(id);
  }

  list(): readonly ServedAdapter[] {
    return [...this.#byId.values()];
  }

  /** Names of a version, for metrics; empty once no name points at it any more. */
  namesOf(version: string): string[] {
    return this.list().flatMap((adapter) => (adapter.version === version ? [adapter.id] : []));
  }

  /** Checks, publishes and serves an upload. Throws AdapterError with the store's reason. */
  async add(id: string, source: AdapterSource): Promise<AdapterVersion> {
    if (id === this.#options.baseName) {
      throw new AdapterError("adapter_id_taken", `${id} is the base model's name; choose another id`);
    }
    const added = await this.#options.store.add({ id, source });
    await this.serve(added);
    return added;
  }

  /** Makes a version of the store callable by its id; the id's former version leaves unless another id has it. */
  async serve(adapter: AdapterVersion): Promise<void> {
    const turn = this.#publishing.then(() => this.#serve(adapter));
    this.#publishing = turn.catch(() => {}); // the caller has the error
    await turn;
  }

  async #serve(adapter: AdapterVersion): Promise<void> {
    const { engine, store } = this.#options;
    const { id, version, summary, createdAtMs, directory } = adapter;
    const former = this.#byId.get(id);
    if (this.namesOf(version).length === 0) await engine.addAdapter(version, await store.decode(version));
    this.#byId.set(id, { id, version, summary, createdAtMs, directory });
    if (former && this.namesOf(former.version).length === 0) await engine.removeAdapter(former.version);
  }
}
