// Finetuning's part of the loop: units are offered one at a time, between two steps of serving or instead of them
// where there are no requests. Knows when a unit may run; whose it is, the trainer knows.

import type { JobEvent } from "../finetuning/job.ts";
import type { Trainer, TrainerUnit } from "../finetuning/trainer.ts";
import { type FromEngine, idleTraining, type TrainingMessage, type TrainingStats } from "./protocol.ts";
import {
  msBeforeDecode,
  type ServingOutlook,
  type TrainingShare,
  unitComesFirst,
} from "./training-allowance.ts";
import { TrainingLedger } from "./training-ledger.ts";
import { UnitLatency } from "./unit-latency.ts";

/** What the loop needs of a Trainer. */
export type UnitSource = Pick<Trainer, "start" | "pause" | "drop" | "taken" | "next" | "stats">;

export type TrainingTurnsOptions = {
  readonly trainer: UnitSource | null; // null = this engine trains nothing
  readonly share: TrainingShare;
  readonly post: (message: FromEngine) => void;
};

/** Of a step's time, or one unit: a pause ends soon, and is no gap in everybody's tokens. */
const pauseShare = 0.5;

export class TrainingTurns {
  readonly #options: TrainingTurnsOptions;
  readonly #ledger: TrainingLedger;
  readonly #latency = new UnitLatency();
  #pauseMs = 0; // that a job which is to pause may have before the next step
  #counts = { unitsDeferred: 0, tokens: 0, steps: 0 };

  constructor(options: TrainingTurnsOptions) {
    this.#options = options;
    this.#ledger = new TrainingLedger(options.share);
  }

  receive(message: TrainingMessage): void {
    const { trainer } = this.#options;
    switch (message.type) {
      case "start-training": {
        const report = (event: JobEvent) => this.#report(message.run, event);
        if (trainer !== null) return trainer.start(message.job, report);
        const problem = "this engine does not train; start one on the CPU";
        return report({ type: "failed", code: "training_unsupported", message: problem });
      }
      case "pause-training":
        return trainer?.pause(message.jobId);
      case "drop-training":
        return trainer?.drop(message.jobId);
      case "checkpoint-taken":
        return trainer?.taken(message.jobId);
      default:
        message satisfies never;
    }
  }

  /** The next unit, waiting. */
  next(): TrainerUnit | null {
    return this.#options.trainer?.next() ?? null;
  }

  /** @param outlook what would be served next */
  comesFirst(unit: TrainerUnit, outlook: ServingOutlook): boolean {
    if (unit.isPausing && this.#pauseMs > 0) return true;
    const unitMs = this.#latency.usualMs(unit);
    const overdueMs = (unitMs ?? 0) / 2; // a step is as often early by half a unit, which would not have fitted
    return unitComesFirst(unitMs, this.#ledger.credit, msBeforeDecode(outlook, overdueMs));
  }

  async run(unit: TrainerUnit, isBesideRequests: boolean): Promise<void> {
    const startMs = performance.now();
    await unit.run();
    const ms = performance.now() - startMs;
    this.#latency.took(unit, ms);
    this.#pauseMs -= ms;
    if (isBesideRequests) this.#ledger.trained(ms);
  }

  /** A step of serving ran, and a unit waited. */
  deferred(stepMs: number): void {
    this.#ledger.served(stepMs);
    this.#pauseMs = pauseShare * stepMs;
    this.#counts.unitsDeferred++;
  }

  stats(): TrainingStats {
    const { trainer } = this.#options;
    if (trainer === null) return idleTraining;
    const { shareOfTime } = this.#ledger;
    const { error: unitError, totals: units } = this.#latency;
    return { ...trainer.stats(), ...this.#counts, units, shareOfTime, unitError };
  }

  #report(run: number, event: JobEvent): void {
    if (event.type === "step") {
      this.#counts.steps++;
      this.#counts.tokens += event.tokens;
    }
    this.#options.post({ type: "training", run, event });
  }
}
