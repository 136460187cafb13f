// What becomes of a name's record when something is added, moved, set or removed. Pure; the catalog writes it.

import { isDeepStrictEqual } from "node:util";
import { AdapterError } from "../kernels/errors.ts";
import type { Name } from "./store-catalog.ts";
import type { HistoryEntry, NameRecord } from "./store-records.ts";

/** What is left out stays as it is, or is none for a new name. */
export type NameSettings = {
  readonly pin?: boolean | undefined;
  readonly shared?: boolean | undefined; // usable by every owner
  readonly expiresAtMs?: number | null | undefined;
};

export function emptyRecord({ owner, id }: Name, baseFingerprint: string, first: HistoryEntry): NameRecord {
  return {
    recordFormat: 1,
    baseFingerprint,
    owner,
    id,
    current: first.version,
    history: [first],
    pinned: false,
    shared: false,
    expiresAtMs: null,
  };
}

/** The name means the entry's version, which comes first in the history unless it is there already. */
export function withCurrent(record: NameRecord, entry: HistoryEntry): NameRecord {
  const isKnown = record.history.some(({ version }) => version === entry.version);
  const history = isKnown ? record.history : [entry, ...record.history];
  return unlessSame(record, { ...record, current: entry.version, history });
}

/** Words about a version that is in the history already; what is left out stays. */
export function withWords(
  record: NameRecord,
  version: string,
  words: Partial<Pick<HistoryEntry, "metadata" | "lineage">>,
): NameRecord {
  const history = record.history.map((entry) => (entry.version === version ? { ...entry, ...words } : entry));
  return unlessSame(record, { ...record, history });
}

export function withSettings(record: NameRecord, settings: NameSettings): NameRecord {
  const { pin = record.pinned, shared = record.shared, expiresAtMs = record.expiresAtMs } = settings;
  return unlessSame(record, { ...record, pinned: pin, shared, expiresAtMs });
}

/** Throws AdapterError `adapter_version_unknown`, `adapter_version_current`. */
export function withoutVersion(record: NameRecord, version: string): NameRecord {
  if (record.current === version) {
    throw new AdapterError(
      "adapter_version_current",
      `${record.id} means version ${version} now; move it to another version, or delete the whole adapter`,
    );
  }
  const history = record.history.filter((entry) => entry.version !== version);
  if (history.length === record.history.length) throw unknownVersion(version);
  return { ...record, history };
}

export function unknownVersion(version: string): AdapterError {
  return new AdapterError(
    "adapter_version_unknown",
    `there is no adapter version ${version.slice(0, 100)}; list the adapter's versions to see those that are there`,
  );
}

export function unknownName({ id }: Name): AdapterError {
  return new AdapterError(
    "adapter_not_found",
    `there is no adapter ${id.slice(0, 200)}; list the adapters to see those that are there`,
  );
}

/** So that a change that changes nothing writes nothing. */
function unlessSame(record: NameRecord, next: NameRecord): NameRecord {
  return isDeepStrictEqual(record, next) ? record : next;
}

export function requireRecord(record: NameRecord | undefined, name: Name): NameRecord {
  if (record === undefined) throw unknownName(name);
  return record;
}
