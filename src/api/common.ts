/** Options every asynchronous call takes. */
export interface CallOptions {
  /** Cancels the call; it rejects with the code `cancelled` and leaves nothing half done. */
  readonly signal?: AbortSignal;
}

/** How far a long operation has come. */
export interface Progress {
  /** What is being done, such as `layer` or `disk.qcow2`. */
  readonly stage: string;
  readonly doneBytes: number;
  /** Absent while it is not known. */
  readonly totalBytes?: number;
  /** Which of several parts of a stage this is about, such as a layer's digest. */
  readonly item?: string;
}

/** A call that reports its progress. */
export interface ProgressOptions extends CallOptions {
  readonly onProgress?: (progress: Progress) => void;
}

/** Anything that gives bytes: Node streams, web streams and async generators do. */
export type ByteSource = AsyncIterable<Uint8Array>;
