// A model on the hub, as a user writes it: org/name or org/name@revision.

import { UsageError } from "../options/errors.ts";

export type ModelReference = { readonly name: string; readonly revision: string };

const pattern = /^(?<name>[\w.-]+\/[\w.-]+)(?:@(?<revision>[\w./-]+))?$/;

/** True for text that can only be a path: absolute, or relative with a dot in front. */
export function looksLikePath(text: string): boolean {
  return /^(\.{0,2}[\\/]|~|[A-Za-z]:)/.test(text) || !pattern.test(text);
}

export function parseModelReference(text: string): ModelReference {
  const { name, revision } = pattern.exec(text)?.groups ?? {};
  const dots = /(^|\/)\.+(\/|$)/;
  if (name === undefined || dots.test(name) || dots.test(revision ?? "")) {
    throw new UsageError(
      "bad_model_name",
      `${JSON.stringify(text)} is neither a directory nor org/name[@revision]`,
    );
  }
  return { name, revision: revision ?? "main" };
}
