// Makes driver.c the Vulkan driver of processes that are given `environment`, before the one that they would have.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";

export type FailingDriver = {
  readonly environment: Readonly<Record<string, string>>;
  lose(): void;
  readonly isLost: () => boolean; // whether the loss has happened
  setFull(isFull: boolean): void;
  setWrong(isWrong: boolean): void;
  remove(): void;
};

/** Null, with the reason, where it cannot be made. */
export function makeFailingDriver(): FailingDriver | { readonly reason: string } {
  const manifest = (process.env.VK_DRIVER_FILES ?? process.env.VK_ICD_FILENAMES)?.split(delimiter)[0];
  if (manifest === undefined) return { reason: "neither VK_ICD_FILENAMES nor VK_DRIVER_FILES is set" };
  const directory = mkdtempSync(join(tmpdir(), "cotenant-driver-"));
  const library = join(directory, "driver.so");
  try {
    const source = join(import.meta.dirname, "driver.c");
    execFileSync("cc", ["-shared", "-fPIC", "-O1", "-nostdlib", "-o", library, source]);
  } catch (error) {
    rmSync(directory, { recursive: true });
    return { reason: `no C compiler: ${error instanceof Error ? error.message : String(error)}` };
  }
  const { ICD: real } = JSON.parse(readFileSync(manifest, "utf8"));
  const own = join(directory, "driver.json");
  writeFileSync(
    own,
    JSON.stringify({ file_format_version: "1.0.0", ICD: { ...real, library_path: library } }),
  );
  const fileOf = (name: string) => join(directory, name);
  const [lose, full, wrong] = [fileOf("lose"), fileOf("full"), fileOf("wrong")];
  const setFile = (path: string, isThere: boolean) =>
    isThere ? writeFileSync(path, "") : rmSync(path, { force: true });
  return {
    environment: {
      VK_ICD_FILENAMES: own,
      VK_DRIVER_FILES: own,
      // As the loader reads it: a bare name is searched for, a path is relative to the manifest.
      FAILING_DRIVER_REAL: real.library_path.includes("/")
        ? resolve(dirname(manifest), real.library_path)
        : real.library_path,
      FAILING_DRIVER_LOSE: lose,
      FAILING_DRIVER_FULL: full,
      FAILING_DRIVER_WRONG: wrong,
    },
    lose: () => writeFileSync(lose, ""),
    isLost: () => !existsSync(lose),
    setFull: (isFull) => setFile(full, isFull),
    setWrong: (isWrong) => setFile(wrong, isWrong),
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}
