// Where data and cache lie when nobody says: the XDG variables, else the operating system's own convention.

import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { InvalidOptionError } from "./errors.ts";
import type { DefaultFolder, Environment } from "./kinds.ts";

type Convention = {
  readonly variable: string;
  readonly linux: string;
  readonly macos: string;
  readonly windows: string;
};

function folderBy(convention: Convention): DefaultFolder {
  return {
    documented: `$${convention.variable}/cotenant, else ${convention.linux}/cotenant (macOS ${convention.macos}/cotenant, Windows %LOCALAPPDATA%\\cotenant\\${convention.windows})`,
    path: (environment) => {
      const base = environment[convention.variable];
      if (base === undefined || base === "") return systemFolder(convention, environment);
      // The XDG specification has relative values ignored; we say so instead of writing elsewhere in silence.
      if (!isAbsolute(base))
        throw new InvalidOptionError(convention.variable, base, "must be an absolute path");
      return join(base, "cotenant");
    },
  };
}

function systemFolder(convention: Convention, environment: Environment): string {
  if (process.platform === "win32") {
    const local = environment.LOCALAPPDATA ?? join(homedir(), "AppData", "Local");
    return join(local, "cotenant", convention.windows);
  }
  const home = process.platform === "darwin" ? convention.macos : convention.linux;
  return join(homedir(), home.replace("~/", ""), "cotenant");
}

export const dataFolder = folderBy({
  variable: "XDG_DATA_HOME",
  linux: "~/.local/share",
  macos: "~/Library/Application Support",
  windows: "data",
});

export const cacheFolder = folderBy({
  variable: "XDG_CACHE_HOME",
  linux: "~/.cache",
  macos: "~/Library/Caches",
  windows: "cache",
});
