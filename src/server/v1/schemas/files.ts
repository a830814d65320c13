import { z } from 'zod';
import { errorBody, guestPath, named, openQuery, queryFlag, queryNumber } from '../../http/common-schemas.js';

/**
 * Query of `PUT {p}/boxes/{id}/files`. `source_is_dir`: whether the tar was made of a directory; its files then go into
 * the path, also when it is one alone. Older clients do not say it.
 */
export const unpackQuery = openQuery({
  path: guestPath,
  source_is_dir: queryFlag.optional(),
  overwrite: queryFlag.optional(),
  follow_symlinks: queryFlag.optional(),
});

/** Query of `GET {p}/boxes/{id}/files`. `named`: whether a directory comes with its name; unless the path ends in `/.` it does. */
export const packQuery = openQuery({
  path: guestPath,
  follow_symlinks: queryFlag.optional(),
  named: queryFlag.optional(),
});

/** Query of what reads one path. */
export const pathQuery = z.strictObject({ path: guestPath });

/** A count of bytes in a query. */
const byteCount = z
  .string()
  .regex(/^\d{1,16}$/, 'should be a number of bytes')
  .transform(Number)
  .pipe(z.int());

/** Query of `GET .../files/content`. */
export const readQuery = z.strictObject({
  path: guestPath,
  offset_bytes: byteCount.optional(),
  length_bytes: byteCount.optional(),
});

/** Query of `GET .../files/watch`. */
export const watchQuery = z.strictObject({ path: guestPath, recursive: queryFlag.optional() });

/** The largest number of a user or group. */
const maxOwnerId = 0xffff_fffe;
const ownerId = z.int().min(0).max(maxOwnerId);

const bothOrNone = (it: { uid?: number | undefined; gid?: number | undefined }): boolean =>
  (it.uid === undefined) === (it.gid === undefined);

/** Query of `PUT .../files/content`; `mode` in octal digits; `uid` and `gid` belong together. */
export const writeQuery = z
  .strictObject({
    path: guestPath,
    mode: z
      .string()
      .regex(/^[0-7]{3,4}$/, 'should be octal digits such as 644')
      .transform((digits) => Number.parseInt(digits, 8))
      .optional(),
    uid: queryNumber(0, maxOwnerId).optional(),
    gid: queryNumber(0, maxOwnerId).optional(),
  })
  .refine(bothOrNone, 'uid and gid belong together');

/** Query of `DELETE .../files`. */
export const removeFileQuery = z.strictObject({ path: guestPath, recursive: queryFlag.optional() });

/** Body of `POST .../files/directory`. */
export const directoryRequest = z
  .strictObject({ path: guestPath, uid: ownerId.optional(), gid: ownerId.optional() })
  .refine(bothOrNone, 'uid and gid belong together');

/** Body of `POST .../files/rename`. */
export const renameRequest = z.strictObject({
  from: guestPath,
  to: guestPath,
  overwrite: z.boolean().optional(),
});

/** Facts about one file. */
export const fileBody = z
  .object({
    path: z.string(),
    type: z.enum(['file', 'directory', 'symlink', 'other']),
    size_bytes: z.int(),
    mode: z.int(),
    uid: z.int(),
    gid: z.int(),
    modified_at: z.string(),
    link_target: z.string().optional(),
  })
  .register(named, { id: 'FileEntry' });

/** One line of `GET .../files/watch`. */
export const watchLine = z
  .discriminatedUnion('type', [
    z.object({
      type: z.enum(['created', 'written', 'removed', 'attributes']),
      path: z.string(),
      is_directory: z.boolean(),
    }),
    z.object({
      type: z.literal('renamed'),
      path: z.string(),
      to: z.string(),
      is_directory: z.boolean(),
    }),
    z.object({
      type: z.literal('overflow').describe('Events were lost'),
      path: z.string().describe('The watched path'),
      is_directory: z.boolean(),
    }),
    z.object({ type: z.literal('ended').describe('The watched directory is gone') }),
    z.object({ type: z.literal('error'), error: errorBody.shape.error }),
  ])
  .register(named, { id: 'FileEventLine' });
