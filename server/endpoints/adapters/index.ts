// The routes of adapters. Those below an id stand before the id's own, which would take them for a part of the id.

import type { Endpoint } from "../endpoint.ts";
import { moveAlias } from "./alias.ts";
import { compressAdapter } from "./compress.ts";
import { deleteAdapter, deleteAdapterVersion } from "./delete.ts";
import { downloadAdapter } from "./download.ts";
import { loadLoraAdapter, unloadLoraAdapter } from "./lora-adapters.ts";
import { mergeAdapters } from "./merge.ts";
import { getAdapter, listAdapters, listAdapterVersions } from "./read.ts";
import { pinAdapter, prefetchAdapter, unpinAdapter } from "./residency.ts";
import { uploadAdapter } from "./upload.ts";

export const adapterEndpoints = {
  uploadAdapter,
  listAdapters,
  listAdapterVersions,
  deleteAdapterVersion,
  downloadAdapter,
  moveAlias,
  compressAdapter,
  mergeAdapters,
  pinAdapter,
  unpinAdapter,
  prefetchAdapter,
  getAdapter,
  deleteAdapter,
  loadLoraAdapter,
  unloadLoraAdapter,
} as const satisfies Record<string, Endpoint>;
