// Virtual token counters: what each tenant has been served, over its weight, and inside a tenant what each adapter
// has. S-LoRA's VTC (arXiv 2401.00588): who returns from idling is lifted, so that idling earns no credit.

import type { RequestTenant } from "./protocol.ts";
import { type TenantSnapshot, tokenPrices } from "./scheduling-policy.ts";

export type ServedTokens = { readonly inputTokens: number; readonly outputTokens: number };
type Party = { readonly tenant: RequestTenant; readonly adapterVersion: string | null };

export class ServiceCounters {
  readonly #tenants = new LiftedCounters<string>();
  readonly #adapters = new Map<string, LiftedCounters<string | null>>(); // of tenants with a sequence here
  readonly #present = new Map<string, { tenant: RequestTenant; sequences: number }>();

  /** A new sequence, which waits. */
  arrive({ tenant, adapterVersion }: Party): void {
    const sequences = (this.#present.get(tenant.id)?.sequences ?? 0) + 1;
    this.#present.set(tenant.id, { tenant, sequences }); // the newest request has the current weight
    this.wait({ tenant, adapterVersion });
  }

  /** A sequence that is already here waits (again). */
  wait({ tenant, adapterVersion }: Party): void {
    this.#tenants.wait(tenant.id);
    this.#adaptersOf(tenant).wait(adapterVersion);
  }

  /** A waiting sequence got its row, or left without. */
  stopWaiting({ tenant, adapterVersion }: Party): void {
    this.#tenants.stopWaiting(tenant.id);
    this.#adaptersOf(tenant).stopWaiting(adapterVersion);
  }

  /** A sequence is gone; it had stopped waiting before. */
  leave({ tenant }: Party): void {
    const present = this.#present.get(tenant.id)!;
    present.sequences--;
    if (present.sequences > 0) return;
    this.#present.delete(tenant.id);
    this.#adapters.delete(tenant.id);
    this.#tenants.forgetIdle();
  }

  charge({ tenant, adapterVersion }: Party, { inputTokens, outputTokens }: ServedTokens): void {
    const cost = tokenPrices.input * inputTokens + tokenPrices.output * outputTokens;
    if (cost === 0) return;
    this.#tenants.charge(tenant.id, cost / tenant.weight);
    this.#adaptersOf(tenant).charge(adapterVersion, cost);
  }

  /** Of the tenants with a sequence here. A view, valid until the next change. */
  snapshot(): Map<string, TenantSnapshot> {
    const tenants = new Map<string, TenantSnapshot>();
    for (const [id, { tenant }] of this.#present) {
      const { weight, rowsAtOnce } = tenant;
      const servedByAdapter = this.#adaptersOf(tenant).values;
      tenants.set(id, { weight, rowsAtOnce, served: this.#tenants.valueOf(id), servedByAdapter });
    }
    return tenants;
  }

  #adaptersOf({ id }: RequestTenant): LiftedCounters<string | null> {
    const known = this.#adapters.get(id) ?? new LiftedCounters<string | null>();
    this.#adapters.set(id, known);
    return known;
  }
}

/** Counters of one level. */
class LiftedCounters<Key> {
  readonly values = new Map<Key, number>();
  readonly #waiting = new Map<Key, number>(); // sequences in the queue
  #lastServed = 0; // counter of the last one whose queue ran empty

  valueOf(key: Key): number {
    return this.values.get(key) ?? 0;
  }

  /** VTC's lift: to the least among those who wait, or to whoever was the last to. */
  wait(key: Key): void {
    if (!this.#waiting.has(key)) {
      const least = this.#waiting.size === 0 ? this.#lastServed : this.#leastWaiting();
      this.values.set(key, Math.max(this.valueOf(key), least));
    }
    this.#waiting.set(key, (this.#waiting.get(key) ?? 0) + 1);
  }

  stopWaiting(key: Key): void {
    const left = this.#waiting.get(key)! - 1;
    if (left > 0) {
      this.#waiting.set(key, left);
      return;
    }
    this.#waiting.delete(key);
    this.#lastServed = this.valueOf(key);
  }

  charge(key: Key, cost: number): void {
    this.values.set(key, this.valueOf(key) + cost);
  }

  /** Drops counters that the next lift would overwrite anyway. */
  forgetIdle(): void {
    const floor = this.#waiting.size === 0 ? this.#lastServed : this.#leastWaiting();
    for (const [key, value] of this.values) {
      if (value <= floor && !this.#waiting.has(key)) this.values.delete(key);
    }
  }

  #leastWaiting(): number {
    let least = Number.POSITIVE_INFINITY;
    for (const key of this.#waiting.keys()) least = Math.min(least, this.valueOf(key));
    return least;
  }
}
