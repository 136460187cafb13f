// The forward graph's session, opened anew between two runs where the graph lacks what an adapter needs.

import type { Feeds } from "../session.ts";
import type { DeviceFeatures } from "./gpu-adapter-graph.ts";
import type { GpuSession } from "./gpu-session.ts";

type OpenSession = (features: DeviceFeatures) => Promise<GpuSession>;

export class GrowingSession {
  readonly #open: OpenSession;
  #session: GpuSession;
  #features: DeviceFeatures = new Set();

  private constructor(open: OpenSession, session: GpuSession) {
    this.#open = open;
    this.#session = session;
  }

  static async open(open: OpenSession): Promise<GrowingSession> {
    return new GrowingSession(open, await open(new Set()));
  }

  get features(): DeviceFeatures {
    return this.#features;
  }

  /**
   * The former session goes first, so that the weights are never on the device twice. Takes about as long as the
   * session took at the start; buffers of the device stay.
   */
  async offer(features: DeviceFeatures): Promise<void> {
    if ([...features].every((feature) => this.#features.has(feature))) return;
    const grown = new Set([...this.#features, ...features]);
    await this.#session.close();
    this.#session = await this.#open(grown);
    this.#features = grown;
  }

  run(feeds: Feeds, into: Feeds = {}): Promise<Feeds> {
    return this.#session.run(feeds, into);
  }

  async close(): Promise<void> {
    await this.#session.close();
  }
}
