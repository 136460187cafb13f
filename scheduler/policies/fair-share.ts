// The tenant that was served least comes first: S-LoRA's virtual token counter with weights (VTC, arXiv 2401.00588,
// algorithm 2), and inside a tenant the same between its adapters. The counters are the snapshot's
// (service-counters.ts keeps them and lifts those who return from idling).

import { type SchedulingPolicy, type SequenceSnapshot, tokenPrices } from "../scheduling-policy.ts";

export const fairShare: SchedulingPolicy = {
  order(pending, { tenants }) {
    const insideTenants = [...Map.groupBy(pending, ({ tenant }) => tenant)].flatMap(([tenant, own]) =>
      leastServedFirst(own, {
        keyOf: ({ adapterVersion }) => adapterVersion,
        served: (version) => tenants.get(tenant)!.servedByAdapter.get(version) ?? 0,
        weight: () => 1,
      }),
    );
    return leastServedFirst(insideTenants, {
      keyOf: ({ tenant }) => tenant,
      served: (tenant) => tenants.get(tenant)!.served,
      weight: (tenant) => tenants.get(tenant)!.weight,
    });
  },
};

type Parties<Key> = {
  readonly keyOf: (sequence: SequenceSnapshot) => Key;
  readonly served: (key: Key) => number;
  readonly weight: (key: Key) => number;
};

/**
 * Takes the next sequence of whoever was served least and charges its prompt, again and again. A party's counter only
 * grows, so sorting everybody by the counter at which they would be taken gives the same order. Ties go by arrival;
 * a party's own sequences keep their order.
 */
function leastServedFirst<Key>(sequences: readonly SequenceSnapshot[], parties: Parties<Key>) {
  const counters = new Map<Key, number>();
  const tags = new Map<SequenceSnapshot, number>();
  for (const sequence of sequences) {
    const key = parties.keyOf(sequence);
    const tag = counters.get(key) ?? parties.served(key);
    tags.set(sequence, tag);
    const cost = tokenPrices.input * (sequence.promptTokens - sequence.computedTokens);
    counters.set(key, tag + cost / parties.weight(key));
  }
  return sequences.toSorted((a, b) => tags.get(a)! - tags.get(b)! || a.arrivedMs - b.arrivedMs);
}
