// One process at a time downloads into a folder: two would write the same partial files.

import { lockFolder } from "../folder-lock.ts";
import { HubError } from "./errors.ts";

/** Released by `await using`. Throws HubError while another process holds it. */
export function lockDownload(directory: string): Promise<AsyncDisposable> {
  return lockFolder(directory, (owner, lockPath, cause) => {
    const remedy = `wait for it, or remove ${lockPath} if that process is not a cotenant`;
    const message = `process ${owner} is downloading into ${directory}: ${remedy}`;
    return new HubError("hub_download_busy", message, { cause });
  });
}
