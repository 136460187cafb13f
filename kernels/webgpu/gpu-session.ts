// Sessions on the WebGPU provider of onnxruntime-node, and buffers that stay on its device. A session that names no
// preferred place for its outputs writes an output into the buffer that is passed for it, even one that is also an
// input: keys, values and adapter slots are changed in place (docs/webgpu.md). Nothing falls back to the CPU here.

import { InferenceSession, Tensor } from "onnxruntime-node";
import { GraphBuilder } from "../onnx/graph-builder.ts";
import { type Feeds, floatTensor, indexTensor, int32Tensor } from "../session.ts";

/** Floats, or bytes, on the device. Views may be of a part, from its beginning. */
export class GpuBuffer {
  readonly #owner: Tensor;

  constructor(owner: Tensor) {
    this.#owner = owner;
  }

  view(dims: readonly number[]): Tensor {
    this.#assertHolds(dims);
    return Tensor.fromGpuBuffer(this.#owner.gpuBuffer, { dataType: "float32", dims });
  }

  /** The same memory as int32. */
  words(dims: readonly number[]): Tensor {
    this.#assertHolds(dims);
    return Tensor.fromGpuBuffer(this.#owner.gpuBuffer, { dataType: "int32", dims });
  }

  /** Of bytes that were uploaded as such. */
  bytes(dims: readonly number[]): Tensor {
    return Tensor.fromGpuBuffer(this.#owner.gpuBuffer, { dataType: "uint8", dims });
  }

  /** Of float16 that were uploaded as bytes. */
  halves(dims: readonly number[]): Tensor {
    return Tensor.fromGpuBuffer(this.#owner.gpuBuffer, { dataType: "float16", dims });
  }

  dispose(): void {
    this.#owner.dispose();
  }

  #assertHolds(dims: readonly number[]): void {
    const count = dims.reduce((product, size) => product * size, 1);
    if (count > this.#owner.size) throw new RangeError(`[${dims}] is more than ${this.#owner.size} values`);
  }
}

/** Bytes that went from and to the device's runtime as host arrays, of all sessions that share the counter. */
export type BusCounter = { bytes: number; runMs: number };

export type GpuSessionOptions = {
  readonly model: string | Uint8Array; // a path where the weights lie in a file beside it
  readonly bus: BusCounter;
  readonly keptOutput?: string | readonly string[]; // comes back as a new buffer on the device
};

export class GpuSession {
  readonly #session: InferenceSession;
  readonly #bus: BusCounter;

  private constructor(session: InferenceSession, bus: BusCounter) {
    this.#session = session;
    this.#bus = bus;
  }

  static async open({ model, bus, keptOutput }: GpuSessionOptions): Promise<GpuSession> {
    const session = await InferenceSession.create(model as string /* the overloads take no union */, {
      executionProviders: ["webgpu"],
      graphOptimizationLevel: "all",
      enableMemPattern: false, // shapes change from step to step
      logSeverityLevel: 4, // what goes wrong is thrown
      extra: { session: { disable_cpu_ep_fallback: "1" } }, // an operator that the device lacks is an error
      ...(keptOutput === undefined ? {} : { preferredOutputLocation: onDevice([keptOutput].flat()) }),
    });
    return new GpuSession(session, bus);
  }

  /**
   * @param into views that outputs are written to
   * @returns the other outputs, on the host
   */
  async run(feeds: Feeds, into: Feeds = {}): Promise<Feeds> {
    const fetches: Record<string, Tensor | null> = {};
    for (const name of this.#session.outputNames) fetches[name] = into[name] ?? null;
    const startMs = performance.now();
    const results = (await this.#session.run(feeds, fetches)) as Feeds;
    this.#bus.runMs += performance.now() - startMs;
    for (const tensor of [...Object.values(feeds), ...Object.values(results)]) {
      if (tensor.location === "cpu") this.#bus.bytes += (tensor.data as Float32Array).byteLength;
    }
    return results;
  }

  async close(): Promise<void> {
    await this.#session.release();
  }
}

function onDevice(outputs: readonly string[]): Record<string, "gpu-buffer"> {
  return Object.fromEntries(outputs.map((name) => [name, "gpu-buffer"]));
}

/** The runtime's pool has no larger buffers. */
const largestPooledBytes = 160 * 2 ** 20;

/** The device made no such buffer. */
export class GpuMemoryError extends Error {
  /** Whether the runtime keeps buffers of this size, those that it could not make as well. */
  readonly isPooled: boolean;

  constructor(bytes: number, cause: unknown) {
    super(`the device made no buffer of ${bytes} bytes`, { cause });
    this.isPooled = bytes <= largestPooledBytes;
  }
}

/** Makes buffers. They are gone with it: close it last. */
export class GpuAllocator {
  readonly #zeros: GpuSession;
  readonly #upload: GpuSession;
  readonly #uploadWords: GpuSession;
  readonly #echo: GpuSession;
  #echoes = 0;

  private constructor(sessions: Record<"zeros" | "upload" | "uploadWords" | "echo", GpuSession>) {
    this.#zeros = sessions.zeros;
    this.#upload = sessions.upload;
    this.#uploadWords = sessions.uploadWords;
    this.#echo = sessions.echo;
  }

  static async open(bus: BusCounter): Promise<GpuAllocator> {
    const zeros = new GraphBuilder();
    zeros.input("shape", "int64", ["rank"]);
    zeros.node("Expand", [zeros.float(0), "shape"], { outputs: ["made"] });
    zeros.output("made", "float32", ["size"]);
    const copy = new GraphBuilder();
    copy.input("data", "float32", ["size"]);
    copy.node("Mul", ["data", copy.float(1)], { outputs: ["made"] });
    copy.output("made", "float32", ["size"]);
    const words = new GraphBuilder();
    words.input("data", "int32", ["size"]);
    words.input("one", "int32", [1]);
    words.node("Mul", ["data", "one"], { outputs: ["made"] });
    words.output("made", "int32", ["size"]);
    const kept = { bus, keptOutput: "made" };
    return new GpuAllocator({
      zeros: await GpuSession.open({ model: zeros.finish(), ...kept }),
      upload: await GpuSession.open({ model: copy.finish(), ...kept }),
      uploadWords: await GpuSession.open({ model: words.finish(), ...kept }),
      echo: await GpuSession.open({ model: copy.finish(), bus }),
    });
  }

  /** @throws GpuMemoryError */
  async zeros(count: number): Promise<GpuBuffer> {
    try {
      const { made } = await this.#zeros.run({ shape: indexTensor([count], [1]) });
      return new GpuBuffer(made!);
    } catch (cause) {
      throw new GpuMemoryError(count * Float32Array.BYTES_PER_ELEMENT, cause);
    }
  }

  /** Whether a buffer is to be had that no pool has. */
  async hasMemory(): Promise<boolean> {
    try {
      (await this.zeros(largestPooledBytes / Float32Array.BYTES_PER_ELEMENT + 1)).dispose();
      return true;
    } catch {
      return false;
    }
  }

  async upload(data: Float32Array): Promise<GpuBuffer> {
    const { made } = await this.#upload.run({ data: floatTensor(data, [data.length]) });
    return new GpuBuffer(made!);
  }

  /** @param data a multiple of four bytes, at a place that is one */
  async uploadBytes(data: Uint8Array): Promise<GpuBuffer> {
    const words = new Int32Array(data.buffer, data.byteOffset, data.byteLength / 4);
    const { made } = await this.#uploadWords.run({
      data: int32Tensor(words, [words.length]),
      one: int32Tensor(Int32Array.of(1), [1]),
    });
    return new GpuBuffer(made!);
  }

  /** Whether the device still computes. */
  async isAlive(): Promise<boolean> {
    const sent = ++this.#echoes; // never what an earlier buffer may still hold
    try {
      const { made } = await this.#echo.run({ data: floatTensor(Float32Array.of(sent), [1]) });
      return made!.data[0] === sent;
    } catch {
      return false;
    }
  }

  async close(): Promise<void> {
    for (const session of [this.#zeros, this.#upload, this.#uploadWords, this.#echo]) await session.close();
  }
}
