// Virtual token counters: what each tenant has been served, over its weight, and inside a tenant what each adapter
// has. S-LoRA's VTC (arXiv 2401.00588).

import { LiftedCounters } from "../finetuning/lifted-counters.ts";
import type { RequestTenant } from "./protocol.ts";
import { type TenantSnapshot, tokenPrices } from "./scheduling-policy.ts";

export type ServedTokens = { readonly inputTokens: number; readonly outputTokens: number };
type Party = { readonly tenant: RequestTenant; readonly adapterVersion: string | null };

/** A tenant with sequences here, by adapter version. */
type Present = {
  readonly tenant: RequestTenant;
  readonly sequences: Map<string | null, number>;
  readonly adapters: LiftedCounters<string | null>;
};

export class ServiceCounters {
  readonly #tenants = new LiftedCounters<string>();
  readonly #present = new Map<string, Present>();

  /** A new sequence, which waits. */
  arrive({ tenant, adapterVersion }: Party): void {
    const known = this.#present.get(tenant.id);
    const sequences = known?.sequences ?? new Map<string | null, number>();
    const adapters = known?.adapters ?? new LiftedCounters<string | null>();
    sequences.set(adapterVersion, (sequences.get(adapterVersion) ?? 0) + 1);
    this.#present.set(tenant.id, { tenant, sequences, adapters }); // the newest request has the current weight
    this.wait({ tenant, adapterVersion });
  }

  /** A sequence that is already here waits (again). */
  wait({ tenant, adapterVersion }: Party): void {
    this.#tenants.wait(tenant.id);
    this.#present.get(tenant.id)!.adapters.wait(adapterVersion);
  }

  /** A waiting sequence got its row, or left without. */
  stopWaiting({ tenant, adapterVersion }: Party): void {
    this.#tenants.stopWaiting(tenant.id);
    this.#present.get(tenant.id)!.adapters.stopWaiting(adapterVersion);
  }

  /** A sequence is gone; it had stopped waiting before. */
  leave({ tenant, adapterVersion }: Party): void {
    const { sequences, adapters } = this.#present.get(tenant.id)!;
    const left = sequences.get(adapterVersion)! - 1;
    if (left > 0) {
      sequences.set(adapterVersion, left);
      return;
    }
    sequences.delete(adapterVersion);
    adapters.forgetIdle((version) => sequences.has(version));
    if (sequences.size > 0) return;
    this.#present.delete(tenant.id);
    this.#tenants.forgetIdle((id) => this.#present.has(id));
  }

  charge({ tenant, adapterVersion }: Party, { inputTokens, outputTokens }: ServedTokens): void {
    const cost = tokenPrices.input * inputTokens + tokenPrices.output * outputTokens;
    if (cost === 0) return;
    this.#tenants.charge(tenant.id, cost / tenant.weight);
    this.#present.get(tenant.id)!.adapters.charge(adapterVersion, cost);
  }

  /** Of the tenants with a sequence here. A view, valid until the next change. */
  snapshot(): Map<string, TenantSnapshot> {
    const tenants = new Map<string, TenantSnapshot>();
    for (const [id, { tenant, adapters }] of this.#present) {
      const { weight, rowsAtOnce } = tenant;
      const servedByAdapter = adapters.values;
      tenants.set(id, { weight, rowsAtOnce, served: this.#tenants.valueOf(id), servedByAdapter });
    }
    return tenants;
  }
}
