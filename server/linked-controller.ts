// An abort controller that follows a signal.

/**
 * Aborts with `signal`, for its reason, or on its own. For signals that live no longer than one request: the listener
 * stays. `AbortSignal.any` would do, but for its weak references, whose targets no collection of young objects frees:
 * each request would leave all that it reached, some 35 kB, to the next full collection (docs/experiments.md).
 */
export function linkedController(signal: AbortSignal): AbortController {
  const controller = new AbortController();
  const follow = () => controller.abort(signal.reason);
  if (signal.aborted) follow();
  else signal.addEventListener("abort", follow, { once: true });
  return controller;
}
