// The models that a request runs on: one, or those that it blends. Each has a row of its own on the device.

import type { BlendMember, GenerationRequest } from "./protocol.ts";

export type Member = BlendMember & { readonly rowId: string };

/** The first member's row bears the request's own id. */
export function membersOf({ id, adapterVersion, blend }: GenerationRequest): readonly Member[] {
  if (blend === null) return [{ rowId: id, adapterVersion, weight: 1 }];
  return blend.members.map((member, index) => ({ ...member, rowId: index === 0 ? id : `${id}/${index}` }));
}

/** Distinct, without the base. */
export function versionsOf(request: GenerationRequest): string[] {
  return [...new Set(membersOf(request).flatMap(({ adapterVersion }) => adapterVersion ?? []))];
}
