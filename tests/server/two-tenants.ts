// A keys file with two tenants, made by the command that operators use, and the keyring of a server that reads it.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { createLogger } from "../../server/logger.ts";
import { type Keyring, openKeyring } from "../../server/tenancy/keyring.ts";
import { keysCommand } from "../../server/tenancy/keys-command.ts";
import { type Quotas, type Role, roles } from "../../server/tenancy/tenant.ts";

export type TwoTenants = {
  readonly keysFile: string;
  readonly keyring: Keyring;
  readonly keys: Record<"acme" | "globex", Record<Role, string>>;
};

/** Weight 2 and the given quotas are acme's. */
export async function twoTenants(
  context: Pick<TestContext, "after">,
  quotas: Partial<Quotas> = {},
): Promise<TwoTenants> {
  const directory = await mkdtemp(join(tmpdir(), "cotenant-tenants-"));
  context.after(() => rm(directory, { recursive: true }));
  const keysFile = join(directory, "keys.json");
  const add = async (tenant: string, role: Role) => {
    const printed: string[] = [];
    const output = { print: (text: string) => void printed.push(text), say: () => {} };
    await keysCommand(["add", "--keys", keysFile, "--tenant", tenant, "--role", role], {}, output);
    return printed.at(-1)!;
  };
  const keysOf = async (tenant: string) => {
    const made: Partial<Record<Role, string>> = {};
    for (const role of roles) made[role] = await add(tenant, role);
    return made as Record<Role, string>;
  };
  const keys = { acme: await keysOf("acme"), globex: await keysOf("globex") };
  const content = JSON.parse(await readFile(keysFile, "utf8"));
  Object.assign(content.tenants[0], { weight: 2, quotas });
  await writeFile(keysFile, JSON.stringify(content));
  const keyring = await openKeyring(keysFile, createLogger("silent"));
  context.after(() => keyring.close());
  return { keysFile, keyring, keys };
}
