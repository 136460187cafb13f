// Changes names under load, one change of a name at a time, and writes down what each may mean meanwhile: uploads,
// updates in place, moves back, aliases, deletions, pins. A pair is an id and the one alias that it may have.

import type { AdapterFiles } from "../load/generated-adapters.ts";
import type { Random } from "../load/random.ts";
import { type Meaning, NameHistory } from "./name-history.ts";
import { errorCode, type StoreAnswer, type StoreCalls } from "./store-calls.ts";

export type NamePair = {
  readonly id: string;
  readonly alias: string;
  readonly ofId: NameHistory;
  readonly ofAlias: NameHistory;
  readonly versions: Set<number>; // contents in the id's history in the store
  isBusy: boolean;
};

export type ChurnSetting = {
  readonly calls: StoreCalls;
  readonly contents: readonly AdapterFiles[];
  readonly versions: readonly string[]; // of the contents
  readonly random: Random;
  readonly nowMs: () => number;
};

const manyPinned = 1; // pinned at once: more would leave the others no memory

export class Churn {
  readonly pairs: readonly NamePair[];
  readonly counts: Record<string, number> = {}; // by what was done, and how it was answered
  readonly problems: string[] = [];
  readonly #setting: ChurnSetting;
  readonly #pinned: NamePair[] = [];

  constructor(pairs: number, setting: ChurnSetting) {
    this.#setting = setting;
    this.pairs = Array.from({ length: pairs }, (_, index) => ({
      id: `swap-${index}`,
      alias: `swap-${index}-alias`,
      ofId: new NameHistory(),
      ofAlias: new NameHistory(),
      versions: new Set<number>(),
      isBusy: false,
    }));
  }

  /** Gives every id a content. */
  async prepare(): Promise<void> {
    for (const [index, pair] of this.pairs.entries()) {
      await this.#upload(pair, index % this.#setting.contents.length);
    }
  }

  /** One change to one of the first `among` pairs. */
  async change(among: number): Promise<void> {
    const idle = this.pairs.slice(0, among).filter(({ isBusy }) => !isBusy);
    if (idle.length === 0) return;
    const pair = this.#pick(idle);
    pair.isBusy = true;
    try {
      await this.#pick(this.#changes)(pair);
    } finally {
      pair.isBusy = false;
    }
  }

  /** Members that occur twice happen twice as often. */
  readonly #changes: readonly ((pair: NamePair) => Promise<void>)[] = [
    (pair) => this.#update(pair),
    (pair) => this.#update(pair),
    (pair) => this.#update(pair),
    (pair) => this.#again(pair),
    (pair) => this.#moveBack(pair),
    (pair) => this.#moveBack(pair),
    (pair) => this.#dropOldVersion(pair),
    (pair) => this.#nameAlias(pair),
    (pair) => this.#nameAlias(pair),
    (pair) => this.#deleteAlias(pair),
    (pair) => this.#delete(pair, ""),
    (pair) => this.#delete(pair, "?force=true"),
    (pair) => this.#delete(pair, "?force=true"),
    (pair) => this.#pin(pair),
    (pair) => this.#prefetch(pair),
  ];

  #update(pair: NamePair): Promise<void> {
    const next = this.#setting.random.below(this.#setting.contents.length);
    return this.#upload(pair, next);
  }

  /** The same bytes under the same name: nothing may change. */
  async #again(pair: NamePair): Promise<void> {
    const content = await this.#contentOf(pair);
    await this.#upload(pair, content);
  }

  async #upload(pair: NamePair, content: number): Promise<void> {
    const { calls, contents, versions } = this.#setting;
    const isNew = pair.ofId.current === null;
    const files = contents[content]!;
    const { status, text } = await this.#meaning(pair.ofId, content, () => calls.upload(pair.id, files));
    this.#note(isNew ? "upload" : "update", { status, text }, [201]);
    if (status !== 201) return;
    pair.versions.add(content);
    const { version } = JSON.parse(text) as { readonly version: string };
    if (version !== versions[content]) this.problems.push(`content ${content} became version ${version}`);
  }

  async #moveBack(pair: NamePair): Promise<void> {
    await this.#contentOf(pair);
    const content = this.#pick([...pair.versions]);
    const version = this.#setting.versions[content];
    const move = () => this.#setting.calls.post(pair.id, "alias", { version });
    this.#note("move to a version", await this.#meaning(pair.ofId, content, move), [200]);
  }

  async #dropOldVersion(pair: NamePair): Promise<void> {
    const current = await this.#contentOf(pair);
    const old = [...pair.versions].filter((content) => content !== current);
    if (old.length === 0) return;
    const content = this.#pick(old);
    const answer = await this.#setting.calls.delete(pair.id, `/versions/${this.#setting.versions[content]}`);
    this.#note("delete a version", answer, [200, 409]);
    if (answer.status === 200) pair.versions.delete(content);
  }

  async #nameAlias(pair: NamePair): Promise<void> {
    const content = await this.#contentOf(pair);
    const name = () => this.#setting.calls.post(pair.id, "alias", { alias: pair.alias });
    this.#note("alias", await this.#meaning(pair.ofAlias, content, name), [200]);
  }

  async #deleteAlias(pair: NamePair): Promise<void> {
    if (pair.ofAlias.current === null) return;
    const remove = () => this.#setting.calls.delete(pair.alias, "?force=true");
    this.#note("delete an alias", await this.#meaning(pair.ofAlias, null, remove), [200]);
  }

  /** Half of the deleted ids come back at once with another content, the others when they are wanted next. */
  async #delete(pair: NamePair, how: "" | "?force=true"): Promise<void> {
    await this.#contentOf(pair);
    const remove = () => this.#setting.calls.delete(pair.id, how);
    const answer = await this.#meaning(pair.ofId, null, remove);
    this.#note(how === "" ? "delete" : "force-delete", answer, how === "" ? [200, 409] : [200]);
    if (answer.status !== 200) return;
    pair.versions.clear();
    const pinnedAt = this.#pinned.indexOf(pair);
    if (pinnedAt >= 0) this.#pinned.splice(pinnedAt, 1);
    if (this.#setting.random.below(2) === 0) await this.#update(pair);
  }

  async #pin(pair: NamePair): Promise<void> {
    const { calls } = this.#setting;
    await this.#contentOf(pair);
    if (!this.#pinned.includes(pair) && this.#pinned.length < manyPinned) {
      this.#pinned.push(pair); // before the answer: two pins at once would both find room
      const answer = await calls.post(pair.id, "pin");
      this.#note("pin", answer, [200, 409, 429]);
      if (answer.status !== 200) this.#pinned.splice(this.#pinned.indexOf(pair), 1);
      return;
    }
    const pinned = this.#pinned.find((each) => each === pair || !each.isBusy);
    if (pinned === undefined) return;
    this.#pinned.splice(this.#pinned.indexOf(pinned), 1);
    pinned.isBusy = true;
    try {
      this.#note("unpin", await calls.post(pinned.id, "unpin"), [200]);
    } finally {
      pinned.isBusy = false;
    }
  }

  async #prefetch(pair: NamePair): Promise<void> {
    await this.#contentOf(pair);
    this.#note("prefetch", await this.#setting.calls.post(pair.id, "prefetch"), [200]);
  }

  /** What the id means, which gets a content first where it has none. */
  async #contentOf(pair: NamePair): Promise<number> {
    if (pair.ofId.current === null) await this.#update(pair);
    const content = pair.ofId.current;
    if (content === null) throw new Error(`${pair.id} could not be uploaded: ${this.problems.at(-1)}`);
    return content;
  }

  async #meaning(
    history: NameHistory,
    meaning: Meaning,
    call: () => Promise<StoreAnswer>,
  ): Promise<StoreAnswer> {
    const change = history.change(meaning, this.#setting.nowMs());
    const answer = await call();
    if (answer.status < 300) change.done(this.#setting.nowMs());
    else change.refused();
    return answer;
  }

  #note(what: string, { status, text }: StoreAnswer, allowed: readonly number[]): void {
    const how = status < 300 ? what : `${what}: ${status} ${errorCode(text)}`;
    this.counts[how] = (this.counts[how] ?? 0) + 1;
    if (!allowed.includes(status))
      this.problems.push(`${what} was answered ${status}: ${text.slice(0, 300)}`);
  }

  #pick<T>(items: readonly T[]): T {
    return items[this.#setting.random.below(items.length)]!;
  }
}
