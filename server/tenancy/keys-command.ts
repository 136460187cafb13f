// `cotenant keys`: makes, rotates, revokes and lists keys by replacing the keys file. A new key is the only thing on
// stdout, so that a script can take it; everything for people goes to stderr.

import { rm, writeFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { UnknownNameError, UsageError } from "../options/errors.ts";
import type { Environment } from "../options/kinds.ts";
import { KeysFileError } from "./errors.ts";
import { makeKey } from "./key.ts";
import { type KeyEntry, type KeysFile, readKeysFile, tenantIdSchema, writeKeysFile } from "./keys-file.ts";
import { type Role, roles } from "./tenant.ts";

export const keysHelp = `Usage: cotenant keys ACTION --keys FILE [OPTIONS]

The server reads the file again when it changes (cotenant serve --keys FILE); it holds hashes, no keys.
Weight and quotas of a tenant are edited in the file: see SECURITY.md.

Actions:
  add     Make a key for a tenant, and the file and the tenant where they are missing; prints the key
  rotate  Make a key in place of another; prints it
  revoke  Remove a key
  list    Show tenants and keys

Options:
  --keys FILE        The keys file; also COTENANT_KEYS
  --tenant NAME      add: the tenant; list: only this one
  --role ROLE        add: ${roles.join(", ")}; each may what those before it may [inference]
  --key ID           rotate, revoke: which key, by the id that list shows
  --overlap-hours N  rotate: how long the former key still works [0]
`;

const actions = { add, rotate, revoke, list } satisfies Record<string, Action>;

type Flags = ReturnType<typeof readFlags>;
type Output = { print(text: string): void; say(text: string): void };
type Action = (flags: Flags, output: Output) => Promise<void>;

const lockWaitMs = 5000;

const standardOutput: Output = {
  print: (text) => process.stdout.write(`${text}\n`),
  say: (text) => process.stderr.write(`${text}\n`),
};

/** Throws UsageError and KeysFileError. */
export async function keysCommand(
  [name, ...rest]: readonly string[],
  environment: Environment,
  output: Output = standardOutput,
): Promise<number> {
  if (name === undefined) throw new UsageError("missing_action", `no action given\n\n${keysHelp}`);
  const action = Object.hasOwn(actions, name) ? actions[name as keyof typeof actions] : undefined;
  if (action === undefined) throw new UnknownNameError("action", name, Object.keys(actions));
  await action(readFlags(rest, environment), output);
  return 0;
}

function readFlags(args: readonly string[], environment: Environment) {
  const options = {
    keys: { type: "string" },
    tenant: { type: "string" },
    role: { type: "string", default: "inference" },
    key: { type: "string" },
    "overlap-hours": { type: "string", default: "0" },
  } as const;
  try {
    const { values } = parseArgs({ args: [...args], options });
    return { ...values, keys: required(values.keys ?? environment.COTENANT_KEYS, "--keys FILE") };
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    throw new UsageError("invalid_option", cause instanceof Error ? cause.message : String(cause));
  }
}

async function add(flags: Flags, output: Output): Promise<void> {
  const tenantId = required(flags.tenant, "--tenant NAME");
  if (!tenantIdSchema.safeParse(tenantId).success) {
    throw new UsageError(
      "invalid_option",
      `--tenant must be 1 to 64 of A-Z a-z 0-9 . _ -, not "${tenantId}"`,
    );
  }
  const { entry, text } = newEntry(readRole(flags.role));
  await change(flags.keys, { mayBeNew: true }, ({ tenants }) => {
    const known = tenants.some(({ id }) => id === tenantId);
    const all = known ? tenants : [...tenants, { id: tenantId, keys: [] }];
    return {
      tenants: all.map((tenant) =>
        tenant.id === tenantId ? { ...tenant, keys: [...tenant.keys, entry] } : tenant,
      ),
    };
  });
  output.say(`Key ${entry.id} of ${tenantId}, role ${entry.role}. It is shown only now:`);
  output.print(text);
}

async function rotate(flags: Flags, output: Output): Promise<void> {
  const formerId = required(flags.key, "--key ID");
  const overlapHours = Number(flags["overlap-hours"]);
  if (!(overlapHours >= 0 && overlapHours <= 8760)) {
    throw new UsageError("invalid_option", "--overlap-hours must be a number from 0 to 8760");
  }
  const expiresAt = new Date(Date.now() + overlapHours * 3_600_000).toISOString();
  let made: ReturnType<typeof newEntry> | null = null;
  await changeKey(flags.keys, formerId, (former) => {
    made = newEntry(former.role);
    return overlapHours === 0 ? [made.entry] : [{ ...former, expiresAt }, made.entry];
  });
  const { entry, text } = made!;
  const former = overlapHours === 0 ? "no longer works" : `works until ${expiresAt}`;
  output.say(`Key ${entry.id} replaces ${formerId}, which ${former}. It is shown only now:`);
  output.print(text);
}

async function revoke(flags: Flags, output: Output): Promise<void> {
  const id = required(flags.key, "--key ID");
  await changeKey(flags.keys, id, () => []);
  output.say(`Key ${id} no longer works.`);
}

async function list(flags: Flags, output: Output): Promise<void> {
  const { tenants } = await readKeysFile(flags.keys);
  for (const { id, keys } of tenants) {
    if (flags.tenant !== undefined && flags.tenant !== id) continue;
    if (keys.length === 0) output.print(`${id}\tno key`);
    for (const key of keys) {
      const until = key.expiresAt === undefined ? "" : `\tuntil ${key.expiresAt}`;
      output.print(`${id}\t${key.id}\t${key.role}\tsince ${key.createdAt}${until}`);
    }
  }
}

/** Replaces one key by others, wherever it is. */
async function changeKey(
  path: string,
  keyId: string,
  replacements: (former: KeyEntry) => KeyEntry[],
): Promise<void> {
  await change(path, { mayBeNew: false }, ({ tenants }) => {
    if (!tenants.some(({ keys }) => keys.some(({ id }) => id === keyId))) {
      throw new KeysFileError(path, `has no key ${keyId}; cotenant keys list shows those it has`);
    }
    const changed = tenants.map((tenant) => ({
      ...tenant,
      keys: tenant.keys.flatMap((key) => (key.id === keyId ? replacements(key) : [key])),
    }));
    return { tenants: changed };
  });
}

async function change(
  path: string,
  { mayBeNew }: { readonly mayBeNew: boolean },
  changed: (content: KeysFile) => KeysFile,
): Promise<void> {
  await using _ = await lockKeysFile(path);
  const before = await readKeysFile(path).catch((error: unknown): KeysFile => {
    if (mayBeNew && error instanceof KeysFileError && hasCode(error.cause, "ENOENT")) return { tenants: [] };
    throw error;
  });
  await writeKeysFile(path, changed(before));
}

/** One command at a time: two that read the same file would lose one of their changes. */
async function lockKeysFile(path: string): Promise<AsyncDisposable> {
  const lockPath = `${path}.lock`;
  const deadlineMs = performance.now() + lockWaitMs;
  for (;;) {
    try {
      await writeFile(lockPath, String(process.pid), { flag: "wx" });
      return { [Symbol.asyncDispose]: () => rm(lockPath, { force: true }) };
    } catch (cause) {
      if (!hasCode(cause, "EEXIST")) {
        throw new KeysFileError(path, `${lockPath} cannot be made; check the folder`, { cause });
      }
      if (performance.now() > deadlineMs) {
        const problem = `another command is changing it; if there is none, remove ${lockPath}`;
        throw new KeysFileError(path, problem, { cause });
      }
    }
    await delay(20);
  }
}

function hasCode(cause: unknown, code: string): boolean {
  return cause instanceof Error && "code" in cause && cause.code === code;
}

function newEntry(role: Role): { readonly entry: KeyEntry; readonly text: string } {
  const { id, hash, text } = makeKey();
  return { entry: { id, hash, role, createdAt: new Date().toISOString() }, text };
}

function readRole(name: string): Role {
  const role = roles.find((known) => known === name);
  if (role === undefined) throw new UnknownNameError("role", name, roles);
  return role;
}

function required(value: string | undefined, flag: string): string {
  if (value === undefined || value === "") throw new UsageError("missing_value", `give ${flag}`);
  return value;
}
