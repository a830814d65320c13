/** A point in time as tar and ext4 know it. */
export interface FileTime {
  /** Whole seconds since 1970, may be negative. */
  readonly seconds: number;
  /** 0 to 999,999,999, always forward from `seconds`. */
  readonly nanoseconds: number;
}
