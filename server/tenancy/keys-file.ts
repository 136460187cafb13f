// The keys file: its shape, reading it, replacing it. Holds hashes and never a key.

import { randomBytes } from "node:crypto";
import { open, readFile, realpath, rm, stat } from "node:fs/promises";
import { z } from "zod";
import { renameDurably } from "../../adapters-store/durable-files.ts";
import { KeysFileError } from "./errors.ts";
import { keyIdPattern } from "./key.ts";
import { roles } from "./tenant.ts";

const limit = z.int().min(0).exactOptional();

const quotas = z.strictObject({
  requestsPerMinute: limit,
  tokensPerMinute: limit,
  tokensPerDay: limit,
  rowsAtOnce: z.int().min(1).exactOptional(), // requests wait for a row, and with none would wait for ever
  adapters: limit,
  storedBytes: limit,
  jobs: limit,
});

const key = z.strictObject({
  id: z.string().regex(keyIdPattern),
  hash: z.string().regex(/^[0-9a-f]{64}$/, "is not a SHA-256 in hexadecimal"),
  role: z.enum(roles),
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime().exactOptional(),
});

export const tenantIdSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, "must be 1 to 64 of A-Z a-z 0-9 . _ -");

const tenant = z.strictObject({
  id: tenantIdSchema,
  weight: z.number().positive().max(1000).exactOptional(),
  quotas: quotas.exactOptional(),
  keys: z.array(key),
});

const keysFile = z.strictObject({ tenants: z.array(tenant) }).superRefine(({ tenants }, context) => {
  const refuseRepeated = (ids: readonly string[], what: string) => {
    const repeated = ids.find((id, index) => ids.indexOf(id) !== index);
    if (repeated !== undefined) {
      context.addIssue({ code: "custom", path: ["tenants"], message: `${what} ${repeated} is there twice` });
    }
  };
  refuseRepeated(
    tenants.map(({ id }) => id),
    "tenant",
  );
  refuseRepeated(
    tenants.flatMap(({ keys }) => keys.map(({ id }) => id)),
    "key",
  );
});

export type KeysFile = z.output<typeof keysFile>;
export type TenantEntry = KeysFile["tenants"][number];
export type KeyEntry = TenantEntry["keys"][number];

/** Throws KeysFileError. */
export async function readKeysFile(path: string): Promise<KeysFile> {
  try {
    return parseKeysFile(await readFile(path, "utf8"), path);
  } catch (cause) {
    if (cause instanceof KeysFileError) throw cause;
    const remedy = "make it with: cotenant keys add --keys FILE --tenant NAME";
    throw new KeysFileError(path, `cannot be read (${messageOf(cause)}); ${remedy}`, { cause });
  }
}

export function parseKeysFile(text: string, path: string): KeysFile {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new KeysFileError(path, `is not JSON (${messageOf(cause)})`, { cause });
  }
  const parsed = keysFile.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new KeysFileError(path, `${issue.path.join(".") || "the file"}: ${issue.message}`);
}

/**
 * Old or new after a crash, never half of either. A new file is its owner's alone; an existing one keeps its mode
 * and owner, so that a server under another user can still read it.
 */
export async function writeKeysFile(link: string, content: KeysFile): Promise<void> {
  const path = await realpath(link).catch(() => link); // a link keeps pointing where it points
  const temporary = `${path}.${randomBytes(6).toString("hex")}.partial`;
  try {
    const former = await stat(path).catch(() => null);
    const file = await open(temporary, "wx", 0o600);
    try {
      if (former !== null) {
        await file.chown(former.uid, former.gid);
        await file.chmod(former.mode & 0o777);
      }
      await file.writeFile(`${JSON.stringify(content, null, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await renameDurably(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new KeysFileError(path, `cannot be written: ${messageOf(cause)}`, { cause });
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
