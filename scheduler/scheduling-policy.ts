// The contract of a scheduling policy: a pure function that says whose prompt comes first. What may run at all
// (rows, adapters, memory, classes, latency) is the same for every policy and lives in plan-step.ts. A policy
// knows token counts, tenants, versions and times that it is given; no text, no tensors, no clock.

export type SequenceSnapshot = {
  readonly id: string;
  readonly tenant: string;
  readonly adapterVersion: string | null; // of a blend, whom it is counted for
  readonly rows: number; // that it takes
  readonly adapterVersions: readonly string[]; // in these rows, each once
  readonly priority: number; // a lower value runs earlier
  readonly state: "waiting" | "prefilling" | "decoding"; // all but the waiting ones have a row
  readonly promptTokens: number;
  readonly computedTokens: number; // of the prompt, already in the KV store
  readonly chunkTokens: number; // where its prompt is cut; depends on the request alone
  readonly contextTokens: number; // in its row now, generated ones included
  readonly kvBytes: number; // what its row holds after the coming step; of a waiting one, after its prompt
  readonly arrivedMs: number;
  readonly generatedTokens: number;
  readonly firstTokenMs: number | null; // when it got its first token
  readonly lastTokenMs: number | null;
  readonly expiresMs: number | null;
};

export type TenantSnapshot = {
  readonly weight: number;
  readonly rowsAtOnce: number | null;
  readonly served: number; // virtual token counter, divided by the weight
  readonly servedByAdapter: ReadonlyMap<string | null, number>;
};

export type LatencyTargets = { readonly ttftMs: number; readonly tpotMs: number };

export type Snapshot = {
  readonly nowMs: number;
  readonly sequences: readonly SequenceSnapshot[]; // in order of arrival
  readonly tenants: ReadonlyMap<string, TenantSnapshot>; // at least those of the sequences
  readonly residentAdapters: ReadonlySet<string>; // versions that hold device slots
  readonly maxRows: number;
  readonly maxAdapters: number; // distinct versions with a row at once
  readonly maxKvBytes: number; // Infinity = no limit
  readonly targets: LatencyTargets;
};

export type SchedulingPolicy = {
  /**
   * The pending sequences (waiting or prefilling, of one priority class), most urgent first. Whoever is behind in
   * the order waits no longer than `plan-step.ts` lets those in front pass, so an order that puts every sequence in
   * front after a bounded time starves nobody.
   */
  readonly order: (pending: readonly SequenceSnapshot[], snapshot: Snapshot) => readonly SequenceSnapshot[];
};

/** What a token costs its tenant: generating is dearer than reading, as in S-LoRA's VTC (arXiv 2401.00588). */
export const tokenPrices = { input: 1, output: 2 } as const;
