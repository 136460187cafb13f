// The server's log: one JSON line per event on stdout. The only file that imports pino.

import { type Logger as PinoLogger, pino } from "pino";

export const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof logLevels)[number];
export type Logger = Pick<PinoLogger, "debug" | "info" | "warn" | "error">;

export function createLogger(level: LogLevel): Logger {
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime });
}
