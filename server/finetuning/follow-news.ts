// A job's news as they come.

import { isOver, type JobNewsEntry } from "./job-record.ts";
import type { JobStore } from "./job-store.ts";

export type NewsFrom = { readonly after: number; readonly signal: AbortSignal };

const newsAtOnce = 100;

/** Those behind the `after`th, and then as they come, until the job is over. Throws the signal's reason. */
export async function* followNews(
  store: JobStore,
  id: string,
  { after, signal }: NewsFrom,
): AsyncGenerator<JobNewsEntry> {
  let last = after;
  for (;;) {
    signal.throwIfAborted();
    const changed = Promise.withResolvers<void>();
    const wake = () => changed.resolve();
    const unfollow = store.follow(id, wake);
    signal.addEventListener("abort", wake);
    try {
      const wasOver = isOver(store.get(id)!); // its last news is written together with its end
      const news = store.newsSince(id, last, newsAtOnce);
      yield* news;
      last = news.at(-1)?.index ?? last;
      if (news.length === 0 && wasOver) return;
      if (news.length === 0) await changed.promise;
    } finally {
      unfollow();
      signal.removeEventListener("abort", wake);
    }
  }
}
