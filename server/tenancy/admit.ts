// From a request's key to its tenant, where the key covers the route and the tenant has requests left.

import type { ServerContext } from "../context.ts";
import type { RequestRecord } from "../request-record.ts";
import { InsufficientRoleError } from "./errors.ts";
import { type Role, roleCovers, type Tenant } from "./tenant.ts";

export type Admission = { readonly access: Role; readonly record: RequestRecord };

/** Throws MissingKeyError, InvalidKeyError, InsufficientRoleError or RateLimitError. */
export function admit(
  raw: Request,
  { access, record }: Admission,
  { keyring, limits }: Pick<ServerContext, "keyring" | "limits">,
): Tenant {
  const tenant = keyring.authenticate(raw.headers.get("authorization") ?? undefined);
  record.tenant = tenant;
  if (!roleCovers(tenant.role, access)) throw new InsufficientRoleError(access);
  limits.takeRequest(tenant);
  return tenant;
}
