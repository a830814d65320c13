import type { FileOwner } from '../../api/index.js';
import { copyResultToHeaders, fileToJson } from '../../wire/files.js';
import { jsonMedia, octets, tarMedia } from '../../wire/media.js';
import { boxParams } from '../http/common-schemas.js';
import { boxOf, empty, notFound, ok, type Route, route } from '../http/route.js';
import { jsonList } from '../http/streams.js';
import {
  directoryRequest,
  fileBody,
  packQuery,
  pathQuery,
  readQuery,
  removeFileQuery,
  renameRequest,
  unpackQuery,
  writeQuery,
} from './schemas/files.js';

/** Whether v1 clients expect the tar of a directory to begin with its name: `/a/d` has one, `/a/d/.`, `..` and `/` have not. */
function hasName(path: string): boolean {
  const last = path.split('/').findLast((part) => part !== '') ?? '.';
  return last !== '.' && last !== '..';
}

/** Files as tar streams, both directions (v1 contract, section 1.7). */
const treeRoutes: readonly Route[] = [
  route({
    method: 'PUT',
    path: '/boxes/:id/files',
    operation: 'unpackFiles',
    summary: 'Unpack a tar: one file to the path, or a tree into it',
    scope: 'box:write',
    params: boxParams,
    query: unpackQuery,
    body: 'bytes',
    answer: { status: 204 },
    handle: async (call) => {
      const { files } = await boxOf(call);
      const { path, overwrite, source_is_dir: tree, follow_symlinks: followSymlinks } = call.query;
      // A slash at the end says that the path is a directory.
      const copied = await files.unpack(tree ? `${path}/` : path, call.upload, {
        overwrite,
        followSymlinks,
        signal: call.signal,
      });
      return { ...empty, headers: copyResultToHeaders(copied) };
    },
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/files',
    operation: 'packFiles',
    summary: 'A file or tree as a tar',
    scope: 'box:read',
    params: boxParams,
    query: packQuery,
    answer: { status: 200, body: tarMedia },
    handle: async (call) => {
      const { files } = await boxOf(call);
      const { path, follow_symlinks: followSymlinks, named = hasName(path) } = call.query;
      const bytes = await files.pack(path, { followSymlinks, named, signal: call.signal });
      return { bytes, contentType: tarMedia };
    },
  }),
  route({
    method: 'DELETE',
    path: '/boxes/:id/files',
    operation: 'removeFile',
    summary: 'Remove a file or tree',
    scope: 'box:write',
    params: boxParams,
    query: removeFileQuery,
    answer: { status: 204 },
    handle: async (call) => {
      const { files } = await boxOf(call);
      await files.remove(call.query.path, { recursive: call.query.recursive, signal: call.signal });
      return empty;
    },
  }),
];

/** The owner a request names, by both numbers. */
function ownerOf({ uid, gid }: { uid?: number; gid?: number }): FileOwner | undefined {
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}

/** Single files and directories: ours. */
const fileRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/boxes/:id/files/content',
    operation: 'readFile',
    summary: 'The bytes of one file, or a part of them',
    scope: 'box:read',
    params: boxParams,
    query: readQuery,
    answer: { status: 200, body: octets },
    handle: async (call) => {
      const { files } = await boxOf(call);
      const { path, offset_bytes: offsetBytes, length_bytes: lengthBytes } = call.query;
      const bytes = await files.readStream(path, { offsetBytes, lengthBytes, signal: call.signal });
      return { bytes, contentType: octets };
    },
  }),
  route({
    method: 'PUT',
    path: '/boxes/:id/files/content',
    operation: 'writeFile',
    summary: 'Write one file; missing parent directories are made',
    scope: 'box:write',
    params: boxParams,
    query: writeQuery,
    body: 'bytes',
    answer: { status: 204 },
    handle: async (call) => {
      const { files } = await boxOf(call);
      const { path, mode } = call.query;
      await files.write(path, call.upload, { mode, owner: ownerOf(call.query), signal: call.signal });
      return empty;
    },
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/files/stat',
    operation: 'statFile',
    summary: 'Facts about one path',
    scope: 'box:read',
    params: boxParams,
    query: pathQuery,
    answer: { status: 200, body: fileBody },
    handle: async (call) => {
      const { files } = await boxOf(call);
      const info = await files.stat(call.query.path, { signal: call.signal });
      if (!info) throw notFound('file', call.query.path);
      return ok(fileToJson(info));
    },
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/files/list',
    operation: 'listFiles',
    summary: 'What is in a directory',
    scope: 'box:read',
    params: boxParams,
    query: pathQuery,
    answer: { status: 200, body: fileBody.array() },
    handle: async (call) => {
      const { files } = await boxOf(call);
      const entries = await files.list(call.query.path, { signal: call.signal });
      return { bytes: jsonList(entries, fileToJson), contentType: jsonMedia };
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/files/directory',
    operation: 'makeDirectory',
    summary: 'Make a directory and its parents',
    scope: 'box:write',
    params: boxParams,
    body: directoryRequest,
    answer: { status: 204 },
    handle: async (call) => {
      const { files } = await boxOf(call);
      const owner = ownerOf(call.body);
      await files.makeDirectory(call.body.path, { owner, signal: call.signal });
      return empty;
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/files/rename',
    operation: 'renameFile',
    summary: 'Rename a file or directory',
    scope: 'box:write',
    params: boxParams,
    body: renameRequest,
    answer: { status: 204 },
    handle: async (call) => {
      const { files } = await boxOf(call);
      const { from, to, overwrite } = call.body;
      await files.rename(from, to, { overwrite, signal: call.signal });
      return empty;
    },
  }),
];

/** Files of a box. */
export const filesRoutes: readonly Route[] = [...treeRoutes, ...fileRoutes];
