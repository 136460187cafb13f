// Whether the server can generate yet: loading -> ready -> closing, and failed from any of them.
// Knows no HTTP.

import { CotenantError } from "../kernels/errors.ts";
import type { Progress } from "../scheduler/engine.ts";
import { NotReadyError } from "./errors.ts";

export type ReadinessState<Serving> =
  | { readonly name: "loading"; readonly progress: Progress | null }
  | { readonly name: "ready"; readonly serving: Serving }
  | { readonly name: "closing" }
  | { readonly name: "failed"; readonly reason: string };

const allowed: Readonly<Record<ReadinessState<unknown>["name"], readonly ReadinessState<unknown>["name"][]>> =
  {
    loading: ["loading", "ready", "closing", "failed"],
    ready: ["closing", "failed"],
    closing: [],
    failed: ["closing"],
  };

export class Readiness<Serving> {
  #state: ReadinessState<Serving> = { name: "loading", progress: null };

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
      case "closing":
        return "closing";
      case "failed":
        return `failed: ${state.reason}`;
      default:
        return state satisfies never;
    }
  }

  /** Throws NotReadyError. */
  get serving(): Serving {
    if (this.#state.name === "ready") return this.#state.serving;
    throw new NotReadyError(this.obstacle ?? "");
  }
}
