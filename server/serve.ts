// `cotenant serve`: options to a running server, a welcome, and a clean end. Text for people goes to stderr,
// since stdout is the log.

import { join } from "node:path";
import { CotenantError } from "../kernels/errors.ts";
import { chooseBase, embeddedModel } from "./base-choice.ts";
import type { Environment } from "./options/kinds.ts";
import type { Options } from "./options.ts";
import { createProgressBar } from "./progress-bar.ts";
import { type RunningServer, startServer } from "./start.ts";
import { readDemos, welcomeText } from "./welcome.ts";

const loopback = /^(localhost|127(\.\d+){3}|::1)$/;

class AddressError extends CotenantError {}

/** Resolves with the exit status once a signal has ended the server; rejects when it cannot start or dies. */
export async function serve(options: Options, environment: Environment): Promise<number> {
  const startedAtMs = performance.now();
  const say = (line: string) => process.stderr.write(`${line}\n`);
  if (!loopback.test(options.host)) {
    say(
      `warning: ${options.host} can be reached by others and there is no authentication yet; use a proxy that has`,
    );
  }
  const stop = stopSignal();
  const onProgress = createProgressBar(process.stderr);
  const { embedded, ...base } = await chooseBase(options, { environment, onProgress, say, signal: stop });
  const { host, port, data, cache, device, maxRows, maxContext, threads, logLevel } = options;
  const starting = startServer(
    {
      ...base,
      host,
      port,
      dataDirectory: data,
      cacheDirectory: cache,
      device,
      maxRows,
      maxContext,
      threads,
      logLevel,
    },
    onProgress,
  ).catch((cause: unknown) => {
    throw namedPortError(cause, host, port);
  });
  const server = await Promise.race([starting, rejectedBy(stop)]);
  const demos = embedded ? await readDemos(join(embeddedModel.directory, "demo.json")) : [];
  const adapters = server.adapters.map((adapter) => adapter.id);
  const readyMs = performance.now() - startedAtMs;
  say(welcomeText({ url: server.url, modelName: base.modelName, adapters, demos, readyMs }));
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
      if (controller.signal.aborted) process.exit(status);
      controller.abort(new CotenantError("stopped", `${name}: stopped before the server was ready`));
      process.stderr.write("\nStopping; once more to stop at once.\n");
    });
  }
  return controller.signal;
}

function namedPortError(cause: unknown, host: string, port: number): unknown {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (code === "EADDRINUSE") {
    const remedy = "stop what uses it, or take another with --port N (0 takes any free one)";
    return new AddressError("port_in_use", `port ${port} on ${host} is in use; ${remedy}`, { cause });
  }
  if (code === "EACCES") {
    return new AddressError(
      "port_denied",
      `port ${port} needs more rights; take one above 1023 with --port`,
      { cause },
    );
  }
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND") {
    return new AddressError("host_not_here", `--host ${host} is not an address of this machine`, { cause });
  }
  return cause;
}
