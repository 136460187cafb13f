// Who a request is made for, and what they may do. Knows no keys and no HTTP.

/** Each may do what those before it may. */
export const roles = ["inference", "manage", "admin"] as const;
export type Role = (typeof roles)[number];

/** What a route asks of its caller; "public" asks for no key. */
export type Access = "public" | Role;

/** null = no limit. */
export type Quotas = {
  readonly requestsPerMinute: number | null;
  readonly tokensPerMinute: number | null; // prompt and completion
  readonly tokensPerDay: number | null; // by UTC day
  readonly rowsAtOnce: number | null; // sequences under way, each choice of a request one
  readonly adapters: number | null;
  readonly storedBytes: number | null; // of adapters and files
  readonly jobs: number | null; // finetuning jobs that are not over
};

export type Tenant = {
  readonly id: string;
  readonly weight: number; // share of the machine beside others'
  readonly quotas: Quotas;
  readonly role: Role; // of the key that the request came with
};

export const noQuotas: Quotas = {
  requestsPerMinute: null,
  tokensPerMinute: null,
  tokensPerDay: null,
  rowsAtOnce: null,
  adapters: null,
  storedBytes: null,
  jobs: null,
};

/** Everybody, where the server has no keys. */
export const defaultTenant: Tenant = { id: "default", weight: 1, quotas: noQuotas, role: "admin" };

/** The caller of a public route. Its id is none that a keys file may hold, so it owns nothing. */
export const anonymous: Tenant = { id: "", weight: 1, quotas: noQuotas, role: "inference" };

/** Whose part it takes of what tenants share; null where there is nobody to share it with. */
export function sharerOf(tenant: Tenant): string | null {
  return tenant === defaultTenant ? null : tenant.id;
}

export function roleCovers(role: Role, needed: Role): boolean {
  return roles.indexOf(role) >= roles.indexOf(needed);
}
