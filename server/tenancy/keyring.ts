// Which tenant a key belongs to, by the keys file as it is now. A file that cannot be used changes nothing: the keys
// before it stay, and the log says why.

import { type FSWatcher, watch } from "node:fs";
import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { Logger } from "../logger.ts";
import { InvalidKeyError, MissingKeyError } from "./errors.ts";
import { keyIdOf, matchesHash } from "./key.ts";
import { type KeyEntry, type KeysFile, readKeysFile } from "./keys-file.ts";
import { defaultTenant, noQuotas, type Tenant } from "./tenant.ts";

export type Keyring = {
  /** The tenant of an Authorization header. Throws MissingKeyError or InvalidKeyError. */
  authenticate(authorization: string | undefined): Tenant;
  close(): void;
};

/** For a server without keys, which must be reachable by its own user only: everybody is one tenant. */
export const openToAll: Keyring = { authenticate: () => defaultTenant, close: () => {} };

/** Throws KeysFileError where the file cannot be used from the start. */
export async function openKeyring(path: string, logger: Logger): Promise<FileKeyring> {
  const seen = await signatureOf(path); // before reading: a change in between is found by the next look
  return new FileKeyring({ path, logger, seen, keys: indexOf(await readKeysFile(path)) });
}

type Known = { readonly entry: KeyEntry; readonly tenant: Tenant };
type Keys = ReadonlyMap<string, Known>; // by key id

type FileKeyringOptions = {
  readonly path: string;
  readonly logger: Logger;
  readonly seen: string;
  readonly keys: Keys;
};

const pollMs = 2000; // network and container mounts do not always tell of changes

class FileKeyring implements Keyring {
  readonly #path: string;
  readonly #logger: Logger;
  #keys: Keys;
  #seen: string; // what the keys are of
  #toldProblem: string | null = null;
  #looking: Promise<void> = Promise.resolve();
  readonly #watcher: FSWatcher | null;
  readonly #timer: NodeJS.Timeout;

  /** Use `openKeyring`. */
  constructor({ path, logger, seen, keys }: FileKeyringOptions) {
    this.#path = path;
    this.#logger = logger;
    this.#seen = seen;
    this.#keys = keys;
    this.#watcher = this.#watch();
    this.#timer = setInterval(() => void this.look(), pollMs).unref();
  }

  authenticate(authorization: string | undefined): Tenant {
    const text = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
    if (text === undefined) throw new MissingKeyError();
    const known = this.#keys.get(keyIdOf(text) ?? "");
    if (known === undefined || !matchesHash(text, known.entry.hash)) throw new InvalidKeyError();
    const { expiresAt } = known.entry;
    if (expiresAt !== undefined && Date.parse(expiresAt) <= Date.now()) throw new InvalidKeyError();
    return known.tenant;
  }

  /** Reads the file if it is another than the last time. */
  look(): Promise<void> {
    this.#looking = this.#looking.then(() => this.#look());
    return this.#looking;
  }

  close(): void {
    this.#watcher?.close();
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    const seen = await signatureOf(this.#path);
    if (seen === this.#seen) return;
    try {
      this.#keys = indexOf(await readKeysFile(this.#path));
      this.#seen = seen;
      this.#logger.info({ keys: this.#keys.size }, "the keys were read again");
    } catch (error) {
      // Tried again at every look, since the disk may have failed and not the file; told once.
      const problem = `${seen} ${error instanceof Error ? error.message : error}`;
      if (problem === this.#toldProblem) return;
      this.#toldProblem = problem;
      this.#logger.error({ err: error }, "the keys file was not taken over; the former keys stay");
    }
  }

  /** Of the folder: a file that is replaced by rename is another file. */
  #watch(): FSWatcher | null {
    try {
      const watcher = watch(dirname(this.#path), { persistent: false }, () => void this.look());
      watcher.on("error", () => watcher.close()); // the poll goes on
      return watcher;
    } catch {
      return null;
    }
  }
}

/** Differs when the content does; "absent" for no file. */
async function signatureOf(path: string): Promise<string> {
  try {
    const { ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return `${ino} ${size} ${mtimeNs} ${ctimeNs}`; // ctime: a file that becomes readable is read
  } catch {
    return "absent";
  }
}

function indexOf({ tenants }: KeysFile): Keys {
  const keys = new Map<string, Known>();
  for (const { id, weight = 1, quotas = {}, keys: entries } of tenants) {
    for (const entry of entries) {
      const tenant = { id, weight, quotas: { ...noQuotas, ...quotas }, role: entry.role };
      keys.set(entry.id, { entry, tenant });
    }
  }
  return keys;
}
