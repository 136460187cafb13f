// What a thread did by V8's sampling profiler, by the function of this repository that was at work. Native code and
// packages count for who called them, except for the runtime, which is called from a promise.

/** Profiler.Profile of the inspector protocol, as far as it is read here. */
export type CpuProfile = {
  readonly nodes: readonly CpuNode[];
  readonly startTime: number; // microseconds of the monotonic clock
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
};

type CpuNode = {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string };
  readonly children?: readonly number[];
};

export type PlaceTime = { readonly place: string; readonly ms: number };

export type Window = { readonly startUs: number; readonly endUs: number };

export const insideRuntime = "(inside the runtime)";
const runtimePackage = "onnxruntime-node";
const bindingPackage = "onnxruntime-common"; // makes tensors of what goes in and comes out
const packages = /node_modules\/((?:@[^/]+\/)?[^/]+)/;

/** Times within the windows by place ("kernels/session.ts run"), longest first; `root` is the repository's URL. */
export function timesByPlace(profile: CpuProfile, windows: readonly Window[], root: string): PlaceTime[] {
  const places = placesOf(profile.nodes, root);
  const times = new Map<string, number>();
  let startUs = profile.startTime + (profile.timeDeltas[0] ?? 0);
  for (const [index, id] of profile.samples.entries()) {
    const endUs = startUs + (profile.timeDeltas[index + 1] ?? 0); // a sample stands for the time until the next one
    const ms = windows.reduce((sum, window) => sum + overlapUs(window, { startUs, endUs }), 0) / 1000;
    const place = places.get(id)!;
    if (ms > 0) times.set(place, (times.get(place) ?? 0) + ms);
    startUs = endUs;
  }
  return [...times].map(([place, ms]) => ({ place, ms })).sort((one, other) => other.ms - one.ms);
}

function overlapUs(one: Window, other: Window): number {
  return Math.max(0, Math.min(one.endUs, other.endUs) - Math.max(one.startUs, other.startUs));
}

function placesOf(nodes: readonly CpuNode[], root: string): Map<number, string> {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const places = new Map<number, string>();
  const visit = (node: CpuNode, caller: string | null): void => {
    const place = placeOf(node, root) ?? caller ?? node.callFrame.functionName;
    places.set(node.id, place);
    const passedOn = node.callFrame.functionName === "(root)" ? null : place;
    for (const child of node.children ?? []) visit(byId.get(child)!, passedOn);
  };
  visit(nodes[0]!, null);
  return places;
}

/** Null where the caller is to be named instead. */
function placeOf({ callFrame: { functionName, url } }: CpuNode, root: string): string | null {
  if (functionName === "(garbage collector)" || functionName === "(idle)") return functionName;
  const inPackage = packages.exec(url)?.[1];
  if (inPackage === runtimePackage) return insideRuntime;
  if (inPackage !== undefined) return inPackage === bindingPackage ? bindingPackage : null;
  const name = functionName === "" ? "(anonymous)" : functionName;
  return url.startsWith(root) ? `${url.slice(root.length)} ${name}` : null;
}
