// The adapter side of a run's inputs on the device: which row each slot reads, and which rows its result is added
// to. Where nobody has an adapter, one unused slot reads row 0 and adds its zeros there: the device takes no empty
// inputs.

import { adapterInputs } from "../adapter-graph.ts";
import type { AdapterSite } from "../adapter-sites.ts";
import { decodeAdapterFeeds } from "../cpu/adapter-feeds.ts";
import { assignSlots } from "../cpu/slot-sharing.ts";
import { type Feeds, floatTensor, indexTensor } from "../session.ts";
import type { SiteAdapter } from "../site-adapter.ts";
import type { GpuAdapterBank } from "./gpu-adapter-bank.ts";

/** @param versions of each row; their slots are loaded first */
export async function decodeFeeds(
  bank: GpuAdapterBank,
  versions: readonly (string | null)[],
  adapters: ReadonlyMap<string, SiteAdapter>,
): Promise<Feeds> {
  const assignment = assignSlots(versions);
  await bank.hold(
    assignment.readers.map(({ copy }) => copy),
    adapters,
  );
  const rowAdapters = versions.map((version) => (version === null ? null : adapters.get(version)!));
  const feeds = decodeAdapterFeeds({ bank: bank.host, rowAdapters, ...assignment }, new Set());
  for (const host of bank.sites) {
    const { name } = host.site;
    const tokens = feeds[adapterInputs.tokens(name)]!;
    if (tokens.size === 0) Object.assign(feeds, unusedSlot(name));
    Object.assign(feeds, bank.slots(host, tokens.size === 0 ? 0 : tokens.dims[0]!));
  }
  return feeds;
}

/** Of a prompt's chunk: every slot reads all tokens, and each token sums its slots' results. */
export async function prefillFeeds(
  bank: GpuAdapterBank,
  { version, tokens }: { readonly version: string | null; readonly tokens: number },
  adapters: ReadonlyMap<string, SiteAdapter>,
): Promise<Feeds> {
  await bank.hold(version === null ? [] : [{ version, copy: 0 }], adapters);
  const feeds: Feeds = {};
  for (const host of bank.sites) {
    const { site, slots } = host;
    const used = slots.length;
    Object.assign(feeds, used === 0 ? unusedSlot(site.name) : chunkFeeds(site, used, tokens));
    Object.assign(feeds, bank.slots(host, used));
  }
  return feeds;
}

function chunkFeeds({ name }: AdapterSite, slots: number, tokens: number): Feeds {
  const order = Array.from({ length: tokens }, (_, token) => token);
  const read = Array.from({ length: slots }, () => order).flat();
  const parts = order.flatMap((token) => Array.from({ length: slots }, (_, slot) => [slot, 0, token]).flat());
  return {
    [adapterInputs.tokens(name)]: indexTensor(read, [slots, 1, tokens]),
    [adapterInputs.parts(name)]: indexTensor(parts, [tokens, 1, slots, 3]),
    [adapterInputs.weights(name)]: floatTensor(new Float32Array(tokens * slots).fill(1), [
      tokens,
      1,
      1,
      slots,
    ]),
    [adapterInputs.rows(name)]: indexTensor(order, [tokens, 1, 1, 1]),
  };
}

function unusedSlot(site: AdapterSite["name"]): Feeds {
  return {
    [adapterInputs.tokens(site)]: indexTensor([0], [1, 1, 1]),
    [adapterInputs.parts(site)]: indexTensor([0, 0, 0], [1, 1, 1, 3]),
    [adapterInputs.weights(site)]: floatTensor(new Float32Array(1), [1, 1, 1, 1]),
    [adapterInputs.rows(site)]: indexTensor([0], [1, 1, 1, 1]),
  };
}
