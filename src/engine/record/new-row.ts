import { newId } from '../../base/ids.js';
import type { BoxRow } from '../../store/index.js';

/** What follows from a box being new: its id, its times, and that nothing has happened to it. */
type NewFields =
  | 'id'
  | 'created_at'
  | 'updated_at'
  | 'last_active_at'
  | 'in_use'
  | 'failure'
  | 'stages'
  | 'main_exit'
  | 'commands_total'
  | 'exec_errors_total'
  | 'bytes_sent_total'
  | 'bytes_received_total'
  | 'record_version'
  | 'epoch';

/** What has to be decided of a new box, however it is made. */
export type NewBox = Omit<BoxRow, NewFields>;

/** The row of a box that is about to be stored, `id` when it is decided already; given the row of another box, nothing of its history is kept. */
export function newBoxRow(box: NewBox, id = newId('box')): BoxRow {
  const now = Date.now();
  return {
    ...box,
    id,
    created_at: now,
    updated_at: now,
    last_active_at: now,
    in_use: 0,
    failure: null,
    stages: '{}',
    main_exit: null,
    commands_total: 0,
    exec_errors_total: 0,
    bytes_sent_total: 0,
    bytes_received_total: 0,
    record_version: 0,
    epoch: 1,
  };
}
