// Who can reach the server, and whether they need a key: without keys, only this machine's users may.

import { UsageError } from "../options/errors.ts";
import type { Options } from "../options.ts";

const loopback = /^(localhost|127(\.\d+){3}|::1)$/;

/** Whether nobody but this machine's own programs are to use the server, which `checkExposure` has let start. */
export function isLocalOnly({ keys, insecureNoKeys }: Pick<Options, "keys" | "insecureNoKeys">): boolean {
  return keys === null && insecureNoKeys === "no";
}

/** What to tell whoever starts the server, if anything. Throws UsageError where strangers would need no key. */
export function checkExposure(
  options: Pick<Options, "host" | "adminHost" | "adminPort" | "keys" | "insecureNoKeys">,
): string | null {
  if (options.keys !== null) return null;
  const hosts = options.adminPort === null ? [options.host] : [options.host, options.adminHost];
  const reachable = hosts.find((host) => !loopback.test(host));
  if (reachable === undefined) {
    return "No --keys: the server binds to loopback only, and everybody on this machine is one tenant who may do everything.";
  }
  if (options.insecureNoKeys === "yes") {
    return `warning: whoever reaches ${reachable} may do everything, since there are no --keys`;
  }
  throw new UsageError(
    "keys_missing",
    `${reachable} can be reached by others, and there are no keys. Make one (cotenant keys add --keys keys.json --tenant NAME) and start with --keys keys.json; or, where a proxy or the network keeps strangers out, start with --insecure-no-keys yes`,
  );
}
