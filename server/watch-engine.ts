// What an engine's death, its successor's start and the last death mean for readiness and log.

import type { Engine } from "../scheduler/engine.ts";
import type { ServerContext } from "./context.ts";
import type { Outage } from "./supervisor.ts";

export function watchEngine({ readiness, logger }: Pick<ServerContext, "readiness" | "logger">) {
  return {
    onDown({ error, retryAfterMs }: Outage) {
      logger.error({ err: error }, "the engine failed and is started again");
      const { name } = readiness.state;
      if (name !== "ready" && name !== "restarting") return;
      readiness.transition({ name: "restarting", retryAfterMs });
    },
    onUp({ deviceNote }: Engine["model"]) {
      logger.info({ device: deviceNote }, "the engine is back");
      const { started, state } = readiness;
      if (state.name === "restarting") readiness.transition({ name: "ready", serving: started! });
    },
    onGivenUp(error: unknown) {
      logger.error({ err: error }, "the engine failed too often");
      if (readiness.state.name === "closing") return;
      readiness.transition({ name: "failed", reason: reasonOf(error) });
    },
  };
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
