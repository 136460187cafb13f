// The registry of archive formats.

import type { ArchiveFormat } from "./archive-format.ts";
import { tar } from "./tar.ts";
import { tarGz } from "./tar-gz.ts";
import { zip } from "./zip.ts";

export const archiveFormats = { tar, "tar.gz": tarGz, zip } as const satisfies Record<string, ArchiveFormat>;
