// The time that finetuning jobs had: tenants by their weights, and a tenant's jobs among themselves. Whoever had least of
// those that wait for a turn is next.

import type { JobStart } from "./job.ts";
import { LiftedCounters } from "./lifted-counters.ts";

type Job = Pick<JobStart, "id" | "tenant">;

export class ServedTime {
  readonly #tenants = new LiftedCounters<string>(); // milliseconds over weight
  readonly #jobs = new Map<string, LiftedCounters<string>>(); // milliseconds, of each tenant with a job that was not left

  /** From now on it waits for turns. */
  wait({ id, tenant }: Job): void {
    this.#tenants.wait(tenant.id);
    const jobs = this.#jobs.get(tenant.id) ?? new LiftedCounters<string>();
    this.#jobs.set(tenant.id, jobs);
    jobs.wait(id);
  }

  stopWaiting({ id, tenant }: Job): void {
    this.#tenants.stopWaiting(tenant.id);
    this.#jobs.get(tenant.id)!.stopWaiting(id);
  }

  charge({ id, tenant }: Job, ms: number): void {
    this.#tenants.charge(tenant.id, ms / tenant.weight);
    this.#jobs.get(tenant.id)!.charge(id, ms);
  }

  isServedLess(one: Job, other: Job): boolean {
    if (one.tenant.id !== other.tenant.id) {
      return this.#tenants.valueOf(one.tenant.id) < this.#tenants.valueOf(other.tenant.id);
    }
    const jobs = this.#jobs.get(one.tenant.id)!;
    return jobs.valueOf(one.id) < jobs.valueOf(other.id);
  }

  /** @param isLast whether its tenant has no other job */
  leave({ id, tenant }: Job, isLast: boolean): void {
    this.#jobs.get(tenant.id)!.values.delete(id);
    if (isLast) this.#jobs.delete(tenant.id);
    this.#tenants.forgetIdle();
  }
}
