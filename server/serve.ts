// `cotenant serve`: options to a running server, a welcome, and a clean end. Text for people goes to stderr,
// since stdout is the log.

import { join } from "node:path";
import { checkEncoding } from "../kernels/devices/index.ts";
import { CotenantError } from "../kernels/errors.ts";
import { encodings } from "../scheduler/quantization.ts";
import { chooseBase, embeddedModel } from "./base-choice.ts";
import { keepHeapsSmall } from "./heap-size.ts";
import { storageOf } from "./options/adapter-store.ts";
import type { Environment } from "./options/kinds.ts";
import { schedulingOf } from "./options/scheduling.ts";
import type { Options } from "./options.ts";
import { createProgressBar } from "./progress-bar.ts";
import { type RunningServer, startServer } from "./start.ts";
import { checkExposure, isLocalOnly } from "./tenancy/exposure.ts";
import { readDemos, welcomeText } from "./welcome.ts";

class AddressError extends CotenantError {}

/** Resolves with the exit status once a signal has ended the server; rejects when it cannot start or dies. */
export async function serve(options: Options, environment: Environment): Promise<number> {
  const startedAtMs = performance.now();
  keepHeapsSmall();
  const say = (line: string) => process.stderr.write(`${line}\n`);
  const exposure = checkExposure(options);
  if (exposure !== null) say(exposure);
  if (options.quantize !== "auto") checkEncoding(options.device, encodings[options.quantize]); // before a download
  const stop = stopSignal();
  const onProgress = createProgressBar(process.stderr);
  const { embedded, ...base } = await chooseBase(options, { environment, onProgress, say, signal: stop });
  const { host, port, keys, adminHost, adminPort, data, cache } = options;
  const { device, maxRows, maxContext, threads, plainGraphBytes } = options;
  const { maxConnections, drainSeconds, logLevel } = options;
  const starting = startServer(
    {
      ...base,
      host,
      port,
      admin: adminPort === null ? null : { host: adminHost, port: adminPort },
      keysFile: keys,
      refusesWebPages: isLocalOnly(options),
      dataDirectory: data,
      cacheDirectory: cache,
      device,
      maxRows,
      maxContext,
      threads,
      plainGraphBytes,
      maxConnections,
      drainSeconds,
      scheduling: schedulingOf(options),
      hostCacheBytes: options.hostCacheBytes,
      loraDirectory: options.loraDirectory,
      adapterStorage: storageOf(options.adapterStore, environment),
      logLevel,
    },
    onProgress,
  ).catch((cause: unknown) => {
    throw namedPortError(cause);
  });
  const server = await Promise.race([starting, rejectedBy(stop)]);
  const demos = embedded ? await readDemos(join(embeddedModel.directory, "demo.json")) : [];
  const adapters = server.adapters.map((adapter) => adapter.id);
  const readyMs = performance.now() - startedAtMs;
  const { modelName } = base;
  say(welcomeText({ url: server.url, modelName, adapters, demos, readyMs, needsKey: keys !== null }));
  say(`It runs on ${server.device}.\n`);
  if (server.adminUrl !== null) say(`The admin listener is on ${server.adminUrl}\n`);
  return endOf(server, stop);
}

async function endOf(server: RunningServer, stop: AbortSignal): Promise<number> {
  try {
    await Promise.race([rejectedBy(stop), server.failure]);
  } catch (reason) {
    if (reason !== stop.reason) throw reason;
  } finally {
    await server.close();
  }
  return 0;
}

function rejectedBy(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  if (signal.aborted) reject(signal.reason);
  signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  promise.catch(() => {}); // whoever races it hears of it; afterwards nobody needs to
  return promise;
}

/** Aborted by the first SIGINT or SIGTERM; the second one ends the process at once. */
function stopSignal(): AbortSignal {
  const controller = new AbortController();
  for (const [name, status] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) return endNow(name, status);
      controller.abort(new CotenantError("stopped", `${name}: stopped before the server was ready`));
      process.stderr.write("\nStopping; once more to stop at once.\n");
    });
  }
  return controller.signal;
}

/** As if nobody handled the signal: process.exit ends the engine's thread, and the runtime aborts where it is in a run. */
function endNow(name: NodeJS.Signals, status: number): void {
  process.removeAllListeners(name);
  process.kill(process.pid, name);
  setTimeout(() => process.exit(status), 100); // the first process of a container has no default for signals
}

function namedPortError(cause: unknown): unknown {
  if (!(cause instanceof Error) || !("code" in cause)) return cause;
  const { code, address, port, hostname = address } = cause as ListenError;
  if (code === "EADDRINUSE") {
    const remedy =
      "stop what uses it, or take another with --port N or, for the admin listener, --admin-port N (0 takes any free one)";
    return new AddressError("port_in_use", `port ${port} on ${address} is in use; ${remedy}`, { cause });
  }
  if (code === "EACCES" && port !== undefined) {
    return new AddressError("port_denied", `port ${port} needs more rights; take one above 1023`, { cause });
  }
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND") {
    return new AddressError(
      "host_not_here",
      `${hostname} is not an address of this machine; see --host and --admin-host`,
      { cause },
    );
  }
  return cause;
}

/** What Node says of an address that cannot be had. */
type ListenError = NodeJS.ErrnoException & {
  readonly address?: string;
  readonly port?: number;
  readonly hostname?: string;
};
