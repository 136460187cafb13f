// Where a worker thread's entry lies: beside the module that starts it, as TypeScript in a checkout and as
// JavaScript in the built package.

/** @param from the caller's `import.meta.url`; @param name without extension, e.g. "./prepare-worker" */
export function siblingModule(from: string, name: string): URL {
  return new URL(`${name}${from.endsWith(".ts") ? ".ts" : ".js"}`, from);
}
