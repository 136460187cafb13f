// How many requests of each tenant use which adapter version now, waiting ones included: what others do with the same
// version is not a tenant's to know.

export class VersionUses {
  readonly #byVersion = new Map<string, Map<string, number>>(); // to counts by tenant

  /** Counts one use until what it returns is called; a second call does nothing. */
  begin(version: string, tenantId: string): () => void {
    const byTenant = this.#byVersion.get(version) ?? new Map<string, number>();
    this.#byVersion.set(version, byTenant);
    byTenant.set(tenantId, (byTenant.get(tenantId) ?? 0) + 1);
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      const left = byTenant.get(tenantId)! - 1;
      if (left > 0) byTenant.set(tenantId, left);
      else byTenant.delete(tenantId);
      if (byTenant.size === 0) this.#byVersion.delete(version);
    };
  }

  isUsedBy(version: string, tenantId: string): boolean {
    return this.#byVersion.get(version)?.has(tenantId) ?? false;
  }

  isUsed(version: string): boolean {
    return this.#byVersion.has(version);
  }
}
