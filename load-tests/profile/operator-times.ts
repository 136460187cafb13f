// Reads the runtime's profile (Chrome's trace format) and adds its kernels' times up by operator. Knows names, shapes
// and times of nodes, not what they compute. A node's time is its median over the runs, so that what else the machine
// does in between is not in it.

import { median } from "../peers/median.ts";

export type OperatorTime = {
  readonly operator: string;
  readonly output: string; // shape of what the nodes make; "" where all shapes are taken together
  readonly nodesPerRun: number;
  readonly msPerStep: number;
};

export type SessionProfile = {
  readonly runsPerStep: number;
  readonly nodesPerRun: number;
  readonly msPerStep: number; // inside the runtime, with the profiler's own work
  readonly kernelMsPerStep: number;
  readonly operators: readonly OperatorTime[]; // longest first
  readonly byShape: readonly OperatorTime[]; // longest first
};

type TraceEvent = {
  readonly cat: string;
  readonly name: string;
  readonly ts: number; // microseconds
  readonly dur: number;
  readonly args: {
    readonly op_name?: string;
    readonly output_type_shape?: readonly Record<string, readonly number[]>[];
  };
};

/** What of a profile counts: its last runs, as many as made the logits of the steps. */
export type Counted = { readonly steps: number; readonly logitRows: number; readonly vocabSize: number };

type Run = { readonly startUs: number; readonly nodes: TraceEvent[]; readonly us: number };

export function sessionProfile(text: string, counted: Counted): SessionProfile {
  const runs = lastRuns(runsOf(JSON.parse(text) as TraceEvent[]), counted);
  const nodes = runs.flatMap((run) => run.nodes);
  const per = { runs: runs.length, steps: counted.steps };
  const operators = grouped(nodes, per, () => "");
  return {
    runsPerStep: per.runs / per.steps,
    nodesPerRun: nodes.length / per.runs,
    msPerStep: (median(runs.map(({ us }) => us)) * per.runs) / per.steps / 1000,
    kernelMsPerStep: operators.reduce((sum, { msPerStep }) => sum + msPerStep, 0),
    operators,
    byShape: grouped(nodes, per, outputShape),
  };
}

function runsOf(events: readonly TraceEvent[]): Run[] {
  const runs = events
    .filter(({ name }) => name === "model_run")
    .map(({ ts, dur }): Run => ({ startUs: ts, us: dur, nodes: [] }))
    .sort((one, other) => one.startUs - other.startUs);
  for (const event of events) {
    if (event.cat !== "Node" || !event.name.endsWith("_kernel_time")) continue;
    runs.findLast(({ startUs }) => startUs <= event.ts)?.nodes.push(event);
  }
  return runs;
}

/** A step may be several runs, and a run of a prompt may make no logits. */
function lastRuns(runs: readonly Run[], { logitRows, vocabSize }: Counted): Run[] {
  let missing = logitRows;
  let first = runs.length;
  while (first > 0) {
    const rows = logitRowsOf(runs[first - 1]!, vocabSize);
    if (rows > missing) break;
    missing -= rows;
    first--;
  }
  if (missing > 0) throw new Error(`the profile lacks ${missing} of ${logitRows} rows of logits`);
  return runs.slice(first);
}

function logitRowsOf({ nodes }: Run, vocabSize: number): number {
  const shapes = nodes.flatMap(shapesOf).filter((shape) => shape.at(-1) === vocabSize);
  return Math.max(0, ...shapes.map(([rows]) => rows!));
}

function grouped(
  nodes: readonly TraceEvent[],
  { runs, steps }: { readonly runs: number; readonly steps: number },
  shapeOf: (node: TraceEvent) => string,
): OperatorTime[] {
  const groups = Map.groupBy(nodes, (node) => `${node.args.op_name} ${shapeOf(node)}`);
  return [...groups.values()]
    .map((members) => ({
      operator: members[0]!.args.op_name!,
      output: shapeOf(members[0]!),
      nodesPerRun: members.length / runs,
      msPerStep: milliseconds(members) / steps,
    }))
    .sort((one, other) => other.msPerStep - one.msPerStep);
}

function outputShape(node: TraceEvent): string {
  return shapesOf(node)
    .map((shape) => `[${shape.join(",")}]`)
    .join(" ");
}

function shapesOf({ args }: TraceEvent): (readonly number[])[] {
  return (args.output_type_shape ?? []).flatMap((typed) => Object.values(typed));
}

/** Each node's median, as often as it ran. */
function milliseconds(events: readonly TraceEvent[]): number {
  const byNode = [...Map.groupBy(events, ({ name }) => name).values()];
  return byNode.reduce((sum, runs) => sum + median(runs.map(({ dur }) => dur)) * runs.length, 0) / 1000;
}
