import type { ProgressLine } from '../lib/api.ts';
import { bytes } from '../lib/format.ts';

/** How far something long is. */
export function Progress({ line, first }: { line: ProgressLine | undefined; first: string }) {
  const { stage = first, item = '', done_bytes: done = 0, total_bytes: total } = line ?? {};
  return (
    <p role="status">
      {stage} {item} {done > 0 ? bytes(done) : ''} {total === undefined ? '' : `of ${bytes(total)}`}
      {total === undefined ? null : <progress aria-label={stage} value={done} max={total} />}
    </p>
  );
}
