// llama.cpp from Debian's package of a newer suite, unpacked with all libraries that it needs, its C library included,
// into the prefix: nothing is installed into the system.

import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const suite = "sid";
const packageName = "llama.cpp-tools";
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
const loaderName = "ld-linux-x86-64.so.2";

export const llamaCppNeeds = "Debian's apt-get and dpkg on x86-64";

export function installLlamaCpp(prefix: string): void {
  const root = rootOf(prefix);
  if (existsSync(root)) return;
  const apt = join(prefix, "apt");
  for (const folder of ["lists/partial", "archives/partial"])
    mkdirSync(join(apt, folder), { recursive: true });
  const noPackages = join(apt, "status"); // so that apt takes nothing of this machine for installed
  writeFileSync(noPackages, "");
  const sources = join(apt, "sources.list");
  writeFileSync(sources, `deb [signed-by=${keyring}] ${debianMirror()} ${suite} main\n`);
  const options = {
    "Dir::Etc::SourceList": sources,
    "Dir::Etc::SourceParts": "/dev/null",
    "Dir::State": apt,
    "Dir::State::Lists": join(apt, "lists"),
    "Dir::State::status": noPackages,
    "Dir::Cache": apt,
    "Dir::Cache::Archives": join(apt, "archives"),
    "APT::Install-Recommends": "false",
    "APT::Sandbox::User": "root",
  };
  const flags = Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  const stdio = ["ignore", "ignore", "inherit"] as const;
  execFileSync("apt-get", [...flags, "update"], { stdio: [...stdio] });
  execFileSync("apt-get", [...flags, "-y", "--download-only", "install", packageName], { stdio: [...stdio] });
  const unfinished = `${root}.unfinished`;
  mkdirSync(unfinished, { recursive: true });
  for (const file of readdirSync(join(apt, "archives")).filter((name) => name.endsWith(".deb")))
    execFileSync("dpkg", ["-x", join(apt, "archives", file), unfinished]);
  // ggml looks for its processors' variants beside the program, which is the loader where that is named.
  copyFileSync(join(libraries(unfinished), loaderName), join(variants(unfinished), loaderName));
  renameSync(unfinished, root);
}

/** The Debian mirror that this machine is set up with. */
function debianMirror(): string {
  const format = "$(SITE) $(ORIGIN) $(LABEL)";
  const targets = execFileSync("apt-get", ["indextargets", "--format", format], { encoding: "utf8" });
  const site = /^(\S+) Debian Debian$/m.exec(targets)?.[1];
  if (site !== undefined) return site;
  throw new Error("apt knows no Debian mirror here; run apt-get update on a Debian machine once");
}

/** The start of a command line that runs one of llama.cpp's programs. */
export function llamaCommand(prefix: string, program: string): string[] {
  const root = rootOf(prefix);
  const paths = [libraries(root), join(libraries(root), "llama")].join(":");
  return [join(variants(root), loaderName), "--library-path", paths, join(root, "usr/bin", program)];
}

export function llamaVersion(prefix: string): string {
  const [file, ...args] = [...llamaCommand(prefix, "llama-server"), "--version"];
  const text = execFileSync("sh", ["-c", '"$@" 2>&1', "sh", file!, ...args], { encoding: "utf8" });
  return `llama.cpp ${/version: ([^,)]*)/.exec(text)?.[1] ?? "of unknown version"})`;
}

function rootOf(prefix: string): string {
  return join(prefix, "llama.cpp");
}

function libraries(root: string): string {
  return join(root, "usr/lib/x86_64-linux-gnu");
}

function variants(root: string): string {
  return join(libraries(root), "ggml/backends0");
}
