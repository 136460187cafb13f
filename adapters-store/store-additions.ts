// How a store comes by what it has: an adapter is staged, published as a version and then meant by a name, in that
// order, so that a kill between any two loses nothing that was acknowledged. Reads nothing back.

import { checkAdapterId, checkOwner } from "./adapter-id.ts";
import type { AdapterSource } from "./adapter-source.ts";
import type { AdapterSummary } from "./adapter-summary.ts";
import type { Name, StoreCatalog } from "./store-catalog.ts";
import { emptyRecord, unknownVersion, withCurrent, withSettings, withWords } from "./store-changes.ts";
import type { StagedAdapter, StoreIntake, UploadFacts } from "./store-intake.ts";
import type { AdapterLineage, HistoryEntry, NameRecord } from "./store-records.ts";
import type { KeyedTurns } from "./store-turns.ts";
import type { StoreVersions } from "./store-versions.ts";

export type Addition = Name & {
  readonly source: AdapterSource; // stays the caller's
  readonly alias?: string; // another id of the owner that shall mean the version too
  readonly ttlSeconds?: number | null; // from now; null = for ever. What is left out here and below stays as it was
  readonly pin?: boolean;
  readonly shared?: boolean;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly lineage?: AdapterLineage | null;
  readonly uploaded?: UploadFacts; // where the source was made of that
  readonly check?: (found: FoundAdapter) => void; // throws what shall refuse it, before anything is published
  /** Once it could be decoded under its version and before a name means it; throws what shall refuse it. */
  readonly ready?: (found: FoundAdapter) => Promise<void>;
};

/** What an addition's source turned out to be. */
export type FoundAdapter = {
  readonly version: string;
  readonly summary: AdapterSummary;
  readonly statedBase: string | null; // the base that its files name
};

type Parts = {
  readonly catalog: StoreCatalog;
  readonly versions: StoreVersions;
  readonly intake: StoreIntake;
  readonly turns: KeyedTurns;
  readonly baseFingerprint: string;
};

export class StoreAdditions {
  readonly #catalog: StoreCatalog;
  readonly #versions: StoreVersions;
  readonly #intake: StoreIntake;
  readonly #turns: KeyedTurns;
  readonly #baseFingerprint: string;

  constructor({ catalog, versions, intake, turns, baseFingerprint }: Parts) {
    this.#catalog = catalog;
    this.#versions = versions;
    this.#intake = intake;
    this.#turns = turns;
    this.#baseFingerprint = baseFingerprint;
  }

  /** As the store's. */
  async add(addition: Addition): Promise<NameRecord> {
    const { owner, id, alias } = addition;
    const names = [id, ...(alias === undefined ? [] : [alias])].map((each) => ({ owner, id: each }));
    for (const name of names) this.#checkName(name);
    await using staged = await this.#intake.stage(addition.source);
    const { version, summary } = staged.manifest;
    const { statedBase } = addition.uploaded ?? staged;
    const found = { version, summary, statedBase };
    addition.check?.(found);
    const record = await this.#turns.run(version, async () => {
      const isNew = !this.#versions.isStored(version);
      try {
        if (isNew) await this.#versions.publish(staged.directory, { ...staged.manifest, uploadedBy: owner });
        await addition.ready?.(found);
        return await this.#catalog.update(names[0]!, (former) => this.#added(former, addition, staged));
      } finally {
        if (isNew && !this.#catalog.isNamed(version)) await this.#versions.remove(version);
      }
    });
    if (alias !== undefined) await this.#move(names[1]!, version, () => entryOf(record!, version));
    return record!;
  }

  /** As the store's. */
  async moveAlias(name: Name, version: string): Promise<NameRecord> {
    this.#checkName(name);
    return this.#move(name, version, () => {
      const records = this.#catalog.ofOwner(name.owner).sort((one, other) => (one.id < other.id ? -1 : 1));
      return records.map((record) => entryOf(record, version)).find((entry) => entry !== undefined);
    });
  }

  async #move(name: Name, version: string, find: () => HistoryEntry | undefined): Promise<NameRecord> {
    const record = await this.#turns.run(version, () =>
      this.#catalog.update(name, (former) => {
        const entry = find();
        if (entry === undefined || !this.#versions.get(version)) throw unknownVersion(version);
        return former ? withCurrent(former, entry) : emptyRecord(name, this.#baseFingerprint, entry);
      }),
    );
    return record!;
  }

  #added(former: NameRecord | undefined, addition: Addition, staged: StagedAdapter): NameRecord {
    const { owner, id, metadata, lineage, pin, shared, ttlSeconds, uploaded = staged } = addition;
    const nowMs = Date.now();
    const words = { ...(metadata && { metadata }), ...(lineage !== undefined && { lineage }) };
    const entry: HistoryEntry = {
      version: staged.manifest.version,
      createdAtMs: nowMs,
      filesIgnored: uploaded.filesIgnored,
      uploadedBytes: uploaded.uploadedBytes,
      metadata: {},
      lineage: null,
      ...words,
    };
    const moved = former
      ? withWords(withCurrent(former, entry), entry.version, words)
      : emptyRecord({ owner, id }, this.#baseFingerprint, entry);
    const expiresAtMs = ttlSeconds == null ? ttlSeconds : nowMs + ttlSeconds * 1000;
    return withSettings(moved, { pin, shared, expiresAtMs });
  }

  #checkName(name: Name): void {
    checkOwner(name.owner);
    checkAdapterId(name.id);
    this.#catalog.refuseReadOnly(name);
  }
}

function entryOf({ history }: NameRecord, version: string): HistoryEntry | undefined {
  return history.find((entry) => entry.version === version);
}
