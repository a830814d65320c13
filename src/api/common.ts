/** Options every asynchronous call takes. */
export interface CallOptions {
  /** Cancels the call; it rejects with the code `cancelled` and leaves nothing half done. */
  readonly signal?: AbortSignal;
}

/** Options of a call that makes boxes. */
export interface RepeatableOptions extends CallOptions {
  /**
   * Names the call, for a caller that may lose its answer: made again with the same id it gives the boxes it made before,
   * as long as they are there, instead of more. `opn_` and 26 characters of Crockford's base32 in lower case, never used
   * for another call. @default a new one
   */
  readonly operationId?: string;
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
  /** Called at each step. */
  readonly onProgress?: (progress: Progress) => void;
}

/** Anything that gives bytes: Node streams, web streams and async generators do. */
export type ByteSource = AsyncIterable<Uint8Array>;

/** Bytes that are there as a whole: text is UTF-8, memory that threads share is copied first. */
export type Bytes = string | ArrayBuffer | SharedArrayBuffer | ArrayBufferView;

/**
 * Bytes as a caller may have them: whole, as a Blob or File, as a web stream or a Node stream of bytes, as an iterable of
 * {@link Bytes}. Refused with `invalid_argument`: everything else, and a stream that was read from, has ended or failed.
 */
export type ByteInput =
  | Bytes
  | Iterable<Bytes>
  | AsyncIterable<Bytes>
  | {
      /** What a Blob and a File are known by. */
      stream(): unknown;
      /** All of its bytes. */
      arrayBuffer(): Promise<ArrayBuffer>;
    }
  | {
      readonly locked: boolean;
      /** What a web stream is known by. */
      getReader(): unknown;
    };
