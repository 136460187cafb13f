// One API key: how it is made, what is stored of it, how a given one is compared. A key is 256 random bits, so one
// round of SHA-256 protects it: there is no dictionary to try.

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

const pattern = /^ct-([0-9a-f]{16})-[A-Za-z0-9_-]{43}$/;
export const keyIdPattern = /^[0-9a-f]{16}$/;

export type MadeKey = { readonly id: string; readonly text: string; readonly hash: string };

/** `text` is for its holder and is stored nowhere. */
export function makeKey(): MadeKey {
  const id = randomBytes(8).toString("hex");
  const text = `ct-${id}-${randomBytes(32).toString("base64url")}`;
  return { id, text, hash: hashOf(text).toString("hex") };
}

/** The id that a key names; null where the text is no key. */
export function keyIdOf(text: string): string | null {
  return pattern.exec(text)?.[1] ?? null;
}

export function matchesHash(text: string, hash: string): boolean {
  return timingSafeEqual(hashOf(text), Buffer.from(hash, "hex"));
}

function hashOf(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
