// Replaces this process by one whose memory the C library hands out as this server needs it (glibc 2.35 and newer;
// elsewhere nothing happens). There is no way to ask for it later. Run directly, it starts the script that it is given.
//  - hugetlb: large pages. Decoding reads all weights once per token, and finding 4 KiB pages costs a tenth of its time.
//  - arena_max: one heap, not one for each thread that ever allocated. Sixteen of them, each with holes of its own, made
//    the memory of a busy server rise for hours.
// Both measured in docs/experiments.md.

const variable = "GLIBC_TUNABLES";
const tunables = "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1";

/** Does not return where it restarts; whoever set the tunables already keeps them. */
export function restartWithTunedMalloc(args) {
  if (process.platform !== "linux" || process.env[variable] !== undefined) return;
  if (process.execve === undefined) return; // an older Node, or in a worker
  const environment = { ...process.env, [variable]: tunables };
  process.execve(process.execPath, [process.execPath, ...process.execArgv, ...args], environment);
}

if (import.meta.main) {
  const [script, ...args] = process.argv.slice(2);
  restartWithTunedMalloc([script, ...args]);
  process.argv.splice(1, 2, script);
  await import(new URL(script, `file://${process.cwd()}/`).href);
}
