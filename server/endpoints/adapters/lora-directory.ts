// The files of an adapter that a client names by its path, which must lie in the one directory that the operator has
// chosen for that, wherever symbolic links lead.

import { readdir, realpath, stat } from "node:fs/promises";
import { join, resolve, sep } from "node:path";
import type { NamedFile } from "../../../adapters-store/store.ts";

/**
 * Null where the path is no directory in `root`: whether there is something else outside of it is not told. A relative
 * path starts there. Files that lead outside of it are left out.
 */
export async function filesInDirectory(root: string, path: string): Promise<readonly NamedFile[] | null> {
  if (path.includes("\0")) return null;
  try {
    const inside = `${await realpath(root)}${sep}`;
    const directory = await realpath(resolve(root, path));
    if (!directory.startsWith(inside) || !(await stat(directory)).isDirectory()) return null;
    const files: NamedFile[] = [];
    for (const name of await readdir(directory)) {
      const target = await realpath(join(directory, name)); // the copy is made from what was checked
      if (target.startsWith(inside) && (await stat(target)).isFile()) files.push({ name, path: target });
    }
    return files;
  } catch {
    return null;
  }
}
