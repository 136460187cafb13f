// The only file that knows onnxruntime-node. Inputs are views that the caller owns and are not copied; outputs
// arrive in fresh typed arrays. `run` blocks the calling thread for the whole step (see docs/architecture.md).

import { InferenceSession, Tensor } from "onnxruntime-node";

export type FloatInput = { readonly data: Float32Array; readonly dims: readonly number[] };
export type IndexInput = { readonly data: BigInt64Array; readonly dims: readonly number[] };
export type Feeds = Record<string, Tensor>;

export type SessionOptions = {
  readonly modelPath: string | Uint8Array; // or the model itself, where it has no data file
  readonly threads: number; // 0 = the runtime's choice
  readonly keepMemory?: boolean; // what a run worked with, for the next one; true unless given
  readonly profilePrefix?: string;
};

export function floatTensor(data: Float32Array, dims: readonly number[]): Tensor {
  return new Tensor("float32", data, dims);
}

export function int32Tensor(data: Int32Array, dims: readonly number[]): Tensor {
  return new Tensor("int32", data, dims);
}

export function indexTensor(values: readonly number[] | BigInt64Array, dims: readonly number[]): Tensor {
  const data = values instanceof BigInt64Array ? values : BigInt64Array.from(values, BigInt);
  return new Tensor("int64", data, dims);
}

/**
 * Gives an output's memory back at once and leaves the array empty. Left to the garbage collector, the megabytes that
 * a step returns make it run every few steps, and each next output lies on fresh pages.
 */
export function freeOutput({ buffer }: Float32Array<ArrayBuffer>): void {
  buffer.transfer(0);
}

export class Session {
  readonly #session: InferenceSession;
  #runMs = 0;

  private constructor(session: InferenceSession) {
    this.#session = session;
  }

  static async open(options: SessionOptions): Promise<Session> {
    const session = await InferenceSession.create(
      options.modelPath as string /* the overloads take no union */,
      {
        executionProviders: ["cpu"],
        intraOpNumThreads: options.threads,
        interOpNumThreads: 1,
        executionMode: "sequential",
        graphOptimizationLevel: "all",
        enableCpuMemArena: options.keepMemory ?? true,
        enableMemPattern: false, // shapes change from step to step; a pattern per shape would pile up
        logSeverityLevel: 3,
        // Idle threads must not spin: another session's run (finetuning beside serving) would take twice as long.
        extra: { session: { force_spinning_stop: "1" } },
        ...(options.profilePrefix === undefined
          ? {}
          : { enableProfiling: true, profileFilePrefix: options.profilePrefix }),
      },
    );
    return new Session(session);
  }

  /** Milliseconds spent inside the runtime since the session was opened. */
  get runMs(): number {
    return this.#runMs;
  }

  async run(feeds: Feeds): Promise<Record<string, Float32Array<ArrayBuffer>>> {
    const start = performance.now();
    const results = await this.#session.run(feeds);
    this.#runMs += performance.now() - start;
    const out: Record<string, Float32Array<ArrayBuffer>> = {};
    for (const [name, tensor] of Object.entries(results))
      out[name] = tensor.data as Float32Array<ArrayBuffer>;
    return out;
  }

  async close(): Promise<void> {
    await this.#session.release();
  }

  endProfiling(): void {
    this.#session.endProfiling();
  }
}
