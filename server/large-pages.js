// Replaces this process by one whose allocations lie in large pages, where the C library can do that (glibc 2.35 and
// newer): decoding reads all weights once per token, and finding 4 KiB pages costs it up to a tenth of its time
// (docs/experiments.md). There is no way to ask for them later. Run directly, it starts the script that it is given.

const tunable = "GLIBC_TUNABLES";

/** Does not return where it restarts; whoever set the tunables already keeps them. */
export function restartWithLargePages(args) {
  if (process.platform !== "linux" || process.env[tunable] !== undefined) return;
  if (process.execve === undefined) return; // an older Node, or in a worker
  const environment = { ...process.env, [tunable]: "glibc.malloc.hugetlb=1" };
  process.execve(process.execPath, [process.execPath, ...process.execArgv, ...args], environment);
}

if (import.meta.main) {
  const [script, ...args] = process.argv.slice(2);
  restartWithLargePages([script, ...args]);
  process.argv.splice(1, 2, script);
  await import(new URL(script, `file://${process.cwd()}/`).href);
}
