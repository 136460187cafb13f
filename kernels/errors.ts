// The base class of every failure that a user can meet. `code` is stable and public; the message says what to
// do next. server/http-error.ts maps codes to HTTP statuses; nothing else does.

export class CotenantError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** A checkpoint (config or weights) that cannot be served: names the file, the tensor and the cause. */
export class CheckpointError extends CotenantError {}

/** An adapter that cannot be served on this base: names the module or tensor and the cause. */
export class AdapterError extends CotenantError {}

/** The device's memory for keys and values is all promised: nothing was changed; close a sequence and try again. */
export class KvMemoryError extends CotenantError {}
