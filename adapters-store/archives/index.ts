// The registry of archive formats.

import type { ArchiveFormat } from "./archive-format.ts";
import { tar } from "./tar.ts";
import { zip } from "./zip.ts";

export const archiveFormats = { tar, zip } as const satisfies Record<string, ArchiveFormat>;
