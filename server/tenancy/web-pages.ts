// Keeps web pages out of a server without keys: a browser on its machine reaches it, and sends what any page tells it
// to. A page gives itself away by its origin, or, where its name was made to mean this machine (DNS rebinding), by the
// host that it believes to talk to. Other clients send no origin, and the address that they were given.

import type { MiddlewareHandler } from "hono";
import { ForeignHostError, ForeignOriginError } from "./errors.ts";

const name = String.raw`(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?`;
const localHost = new RegExp(`^${name}$`, "i");
const localOrigin = new RegExp(`^https?://${name}$`, "i");

/** Throws ForeignHostError or ForeignOriginError before anything of the request is read. */
export function refuseWebPages(): MiddlewareHandler {
  return async (c, next) => {
    const { host, origin } = c.req.header();
    if (host === undefined || !localHost.test(host)) throw new ForeignHostError();
    if (origin !== undefined && !localOrigin.test(origin)) throw new ForeignOriginError();
    await next();
  };
}
