import { posix } from 'node:path';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { Box, ByteSource } from '../../../api/index.js';
import { CryoboxError } from '../../../errors.js';
import { type Answer, boxOf, type Call, ok, type Route, route } from '../../http/route.js';
import { boxIdParams } from '../params.js';
import { downloadOf } from './download.js';
import { makeDirectories } from './make-directories.js';
import { multipartFiles } from './multipart.js';
import { type FileOperation, type FileQuery, fileQuery } from './signatures.js';
import { defaultUser, requireUser, resolvePath, type User } from './users.js';

/** A request for a file of a sandbox. */
type FileCall = Call<{ id: string }, FileQuery>;

interface Written {
  readonly name: string;
  readonly path: string;
  readonly type: 'file';
}

/** Writes one file as a user: it, and what is made above it, belongs to them. */
async function write(
  box: Box,
  user: User,
  path: string,
  content: ByteSource,
  signal: AbortSignal,
): Promise<Written> {
  const target = resolvePath(path, user);
  const there = await box.files.stat(target);
  if (there?.type === 'directory') {
    throw new CryoboxError('invalid_argument', `path is a directory: ${target}`);
  }
  if (!there) await makeDirectories(box.files, posix.dirname(target), user);
  await box.files.write(target, content, { owner: { uid: user.uid, gid: user.gid }, signal });
  return { name: posix.basename(target), path: target, type: 'file' };
}

/** The bytes of a body as they were before the client packed them. */
function plain({ headers, upload }: Call): ByteSource {
  const coding = headers['content-encoding'] ?? 'identity';
  if (coding === 'identity') return upload;
  if (coding !== 'gzip') throw new CryoboxError('unsupported', `bodies in ${coding} are not read`);
  return pipeline(Readable.from(upload), createGunzip(), () => undefined);
}

async function* writeAll(call: FileCall): AsyncGenerator<Written> {
  const box = await boxOf(call);
  const user = await requireUser(box.files, call.query.username || defaultUser);
  const { path } = call.query;
  const type = call.headers['content-type'] ?? '';
  if (!type.startsWith('multipart/form-data')) {
    if (!path) throw new CryoboxError('invalid_argument', 'the query has no path');
    yield await write(box, user, path, plain(call), call.signal);
    return;
  }
  const seen = new Set<string>();
  for await (const { name, content } of multipartFiles(call.headers, plain(call))) {
    const target = path || name;
    if (seen.has(target)) {
      throw new CryoboxError(
        'invalid_argument',
        `you cannot upload multiple files to the same path '${target}'`,
      );
    }
    seen.add(target);
    yield await write(box, user, target, content, call.signal);
  }
  if (seen.size === 0) throw new CryoboxError('invalid_argument', 'the form has no part named file');
}

/** Answers with a file. */
export async function readFile(call: FileCall): Promise<Answer> {
  const box = await boxOf(call);
  const user = await requireUser(box.files, call.query.username || defaultUser);
  return await downloadOf(box, resolvePath(call.query.path ?? '', user), call.headers, call.signal);
}

/** Writes files, and answers with what they are. */
export async function writeFiles(call: FileCall): Promise<Answer> {
  const written: Written[] = [];
  for await (const each of writeAll(call)) written.push(each);
  return ok(written);
}

/** The files of a sandbox over plain HTTP, up and down. */
export function envdFileRoutes(foreign: Readonly<Record<FileOperation, Route['foreign']>>): Route[] {
  const facts = { path: '/e2b/envd/:id/files', root: true, params: boxIdParams, query: fileQuery } as const;
  return [
    route({
      ...facts,
      method: 'GET',
      operation: 'e2bReadFile',
      summary: 'The bytes of a file',
      scope: 'box:read',
      foreign: foreign.read,
      answer: { status: 200 },
      handle: readFile,
    }),
    route({
      ...facts,
      method: 'POST',
      operation: 'e2bWriteFiles',
      summary: 'Write files',
      scope: 'box:write',
      foreign: foreign.write,
      body: 'bytes',
      answer: { status: 200 },
      handle: writeFiles,
    }),
  ];
}
