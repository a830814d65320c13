import { z } from 'zod';
import { guestPath, queryFlag } from './common.js';

/** Query of `PUT {p}/boxes/{id}/files`. */
export const unpackQuery = z.strictObject({
  path: guestPath,
  overwrite: queryFlag.optional(),
  follow_symlinks: queryFlag.optional(),
});

/** Query of `GET {p}/boxes/{id}/files`. */
export const packQuery = z.strictObject({ path: guestPath, follow_symlinks: queryFlag.optional() });

/** Query of what reads one path. */
export const pathQuery = z.strictObject({ path: guestPath });

/** Query of `PUT .../files/content`; `mode` in octal digits. */
export const writeQuery = z.strictObject({
  path: guestPath,
  mode: z
    .string()
    .regex(/^[0-7]{3,4}$/, 'should be octal digits such as 644')
    .transform((digits) => Number.parseInt(digits, 8))
    .optional(),
});

/** Query of `DELETE .../files`. */
export const removeFileQuery = z.strictObject({ path: guestPath, recursive: queryFlag.optional() });

/** Body of `POST .../files/directory`. */
export const directoryRequest = z.strictObject({ path: guestPath });

/** Body of `POST .../files/rename`. */
export const renameRequest = z.strictObject({ from: guestPath, to: guestPath });

/** Facts about one file. */
export const fileBody = z.object({
  path: z.string(),
  type: z.enum(['file', 'directory', 'symlink', 'other']),
  size_bytes: z.int(),
  mode: z.int(),
  uid: z.int(),
  gid: z.int(),
  modified_at: z.string(),
  link_target: z.string().optional(),
});
