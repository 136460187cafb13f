// Tar archives behind gzip. What they unpack to is bounded by unpack.ts, and by tar.ts between two files.

import { createGunzip } from "node:zlib";
import type { ArchiveFormat } from "./archive-format.ts";
import { tarEntries } from "./tar.ts";

export const tarGz: ArchiveFormat = {
  matches: (head) => head[0] === 0x1f && head[1] === 0x8b,
  entries: (path) => tarEntries(path, createGunzip()),
};
