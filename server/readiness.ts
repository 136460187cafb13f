// Whether the server can generate: loading -> ready <-> restarting, closing from each, failed from any of them.
// Knows no HTTP.

import { CotenantError } from "../kernels/errors.ts";
import type { Progress } from "../scheduler/engine.ts";
import { EngineRestartingError, NotReadyError } from "./errors.ts";

export type ReadinessState<Serving> =
  | { readonly name: "loading"; readonly progress: Progress | null }
  | { readonly name: "ready"; readonly serving: Serving }
  | { readonly name: "restarting"; readonly retryAfterMs: number } // the engine died
  | { readonly name: "closing" }
  | { readonly name: "failed"; readonly reason: string };

type StateName = ReadinessState<unknown>["name"];

const allowed: Readonly<Record<StateName, readonly StateName[]>> = {
  loading: ["loading", "ready", "closing", "failed"],
  ready: ["restarting", "closing", "failed"],
  restarting: ["restarting", "ready", "closing", "failed"],
  closing: [],
  failed: ["closing"],
};

export class Readiness<Serving> {
  #state: ReadinessState<Serving> = { name: "loading", progress: null };
  #started: Serving | null = null;

  get state(): ReadinessState<Serving> {
    return this.#state;
  }

  transition(next: ReadinessState<Serving>): void {
    if (!allowed[this.#state.name].includes(next.name)) {
      throw new CotenantError(
        "invalid_transition",
        `the server cannot go from ${this.#state.name} to ${next.name}`,
      );
    }
    this.#state = next;
    if (next.name === "ready") this.#started = next.serving;
  }

  /** Null when ready. */
  get obstacle(): string | null {
    const state = this.#state;
    switch (state.name) {
      case "ready":
        return null;
      case "loading":
        return state.progress === null
          ? "loading"
          : `loading: ${state.progress.stage} ${state.progress.done}/${state.progress.total}`;
      case "restarting":
        return "restarting the engine, which failed; the log says why";
      case "closing":
        return "closing: only what has begun is answered";
      case "failed":
        return `failed: ${state.reason}`;
      default:
        return state satisfies never;
    }
  }

  /** For new work. Throws NotReadyError or EngineRestartingError. */
  get serving(): Serving {
    if (this.#state.name === "ready") return this.#state.serving;
    if (this.#state.name === "restarting") throw new EngineRestartingError(this.#state.retryAfterMs);
    throw new NotReadyError(this.obstacle ?? "");
  }

  /** For work that has begun, and for metrics: what was last ready, whatever happens now. */
  get started(): Serving | null {
    return this.#started;
  }
}
