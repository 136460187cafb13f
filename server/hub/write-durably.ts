// A small file that is either the old one or the new one after a crash, never half of either.

import { open, rename } from "node:fs/promises";

export async function writeDurably(path: string, content: string): Promise<void> {
  const temporary = `${path}.${process.pid}.partial`;
  const file = await open(temporary, "w");
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}
