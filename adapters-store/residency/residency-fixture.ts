// A store and a host that do what a test tells them to, and a residency between them. The host keeps its own account
// of what it holds, from the start of a load to the end of a removal.

import type { DecodedAdapter } from "../../kernels/adapter.ts";
import { AdapterResidency, type ResidencyOptions } from "./residency.ts";

export type PendingWork = { readonly version: string; finish(error?: Error): void };

export type ResidencyScene = {
  readonly residency: AdapterResidency;
  readonly sizes: Map<string, number>; // of what `load` decodes to
  readonly log: string[]; // "load v", "+v" added, "-v" removed, in the order in which the host was told
  readonly inHost: ReadonlySet<string>; // added, and not asked to leave
  readonly pending: PendingWork[]; // loads and removals that a manual scene has not finished
  readonly takenBytes: () => number;
};

/** Waits until all that can happen by itself has happened. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export function residencyScene(
  sizes: Readonly<Record<string, number>>,
  options: Partial<ResidencyOptions> & { readonly capacityBytes: number; readonly isManual?: boolean },
): ResidencyScene {
  const actual = new Map(Object.entries(sizes));
  const log: string[] = [];
  const taken = new Map<string, number>();
  const inHost = new Set<string>();
  const pending: PendingWork[] = [];
  const turn = (version: string) =>
    options.isManual
      ? new Promise<void>((resolve, reject) => pending.push(work(resolve, reject, version)))
      : null;
  const work = (resolve: () => void, reject: (error: Error) => void, version: string): PendingWork => ({
    version,
    finish(error) {
      pending.splice(pending.indexOf(this), 1);
      if (error === undefined) resolve();
      else reject(error);
    },
  });
  const residency = new AdapterResidency({
    async load(version) {
      if (taken.has(version)) throw new Error(`${version} is loaded while it is there`);
      log.push(`load ${version}`);
      taken.set(version, sizes[version]!);
      try {
        await turn(version);
      } catch (error) {
        taken.delete(version);
        throw error;
      }
      const sizeBytes = actual.get(version)!;
      if (sizeBytes !== sizes[version]) taken.delete(version); // what nobody adds is garbage
      return { adapter: adapterOf(sizeBytes) };
    },
    host: {
      async add(version) {
        log.push(`+${version}`);
        inHost.add(version);
        taken.set(version, actual.get(version)!);
      },
      async remove(version) {
        if (!inHost.delete(version)) throw new Error(`${version} is removed twice`);
        log.push(`-${version}`);
        try {
          await turn(version);
        } catch (error) {
          inHost.add(version);
          throw error;
        }
        taken.delete(version);
      },
    },
    ...options,
  });
  for (const [version, sizeBytes] of Object.entries(sizes)) residency.register(version, sizeBytes);
  const takenBytes = () => [...taken.values()].reduce((sum, sizeBytes) => sum + sizeBytes, 0);
  return { residency, sizes: actual, log, inHost, pending, takenBytes };
}

function adapterOf(sizeBytes: number): DecodedAdapter {
  return { modules: [{ kind: "soft-prompt", tokens: 1, hidden: new Float32Array(sizeBytes / 4) }] };
}
