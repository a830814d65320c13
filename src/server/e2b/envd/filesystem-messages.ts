import type { Message } from '@bufbuild/protobuf';
import type { GenMessage, GenService } from '@bufbuild/protobuf/codegenv2';
import type { Timestamp } from '@bufbuild/protobuf/wkt';
import { describePackage } from './descriptor.js';

/** Numbers of what an entry is. */
export const fileTypes = { unspecified: 0, file: 1, directory: 2, symlink: 3 } as const;

/** Numbers of what happened to a file. */
export const eventTypes = { create: 1, write: 2, remove: 3, rename: 4, chmod: 5 } as const;

/** A file, directory or link; of a link most of it is said of what it leads to. */
export interface EntryInfo {
  readonly name: string;
  readonly type: number;
  readonly path: string;
  readonly size: bigint;
  readonly mode: number;
  /** As `ls -l` writes it, with Go's letters for the kind. */
  readonly permissions: string;
  readonly owner: string;
  readonly group: string;
  readonly modifiedTime: Omit<Timestamp, '$unknown'>;
  readonly symlinkTarget?: string;
  readonly isSymlink: boolean;
}

/** Something that happened in a watched directory. */
export interface FilesystemEvent {
  /** Below the directory. */
  readonly name: string;
  readonly type: number;
  readonly entry?: EntryInfo;
}

/** What is told of a watched directory: that it is watched, what happens, and that the stream lives. */
type WatchEvent =
  | { readonly case: 'start' | 'keepalive'; readonly value: object }
  | { readonly case: 'filesystem'; readonly value: FilesystemEvent };

type Of<Name extends string, Fields = object> = Message<`filesystem.${Name}`> & Fields;
type AtPath<Name extends string, Fields = object> = Of<Name, { readonly path: string } & Fields>;
type WithEntry<Name extends string> = Of<Name, { readonly entry?: EntryInfo }>;

type Watching<Name extends string> = AtPath<
  Name,
  { readonly recursive: boolean; readonly includeEntry: boolean }
>;
type OfWatcher<Name extends string> = Of<Name, { readonly watcherId: string }>;

interface Unary<Request extends Message, Answer extends Message> {
  methodKind: 'unary';
  input: GenMessage<Request>;
  output: GenMessage<Answer>;
}

const watched = {
  path: [1, 'string'],
  recursive: [2, 'bool'],
  include_entry: [3, 'bool'],
  allow_network_mounts: [4, 'bool'],
} as const;

const table = {
  messages: {
    EntryInfo: {
      name: [1, 'string'],
      type: [2, 'FileType'],
      path: [3, 'string'],
      size: [4, 'int64'],
      mode: [5, 'uint32'],
      permissions: [6, 'string'],
      owner: [7, 'string'],
      group: [8, 'string'],
      modified_time: [9, 'google.protobuf.Timestamp'],
      symlink_target: [10, 'string', 'optional'],
      metadata: [11, 'map'],
      is_symlink: [12, 'bool'],
    },
    StatRequest: { path: [1, 'string'] },
    StatResponse: { entry: [1, 'EntryInfo'] },
    MakeDirRequest: { path: [1, 'string'] },
    MakeDirResponse: { entry: [1, 'EntryInfo'] },
    MoveRequest: { source: [1, 'string'], destination: [2, 'string'] },
    MoveResponse: { entry: [1, 'EntryInfo'] },
    ListDirRequest: { path: [1, 'string'], depth: [2, 'uint32'] },
    ListDirResponse: { entries: [1, 'EntryInfo', 'repeated'] },
    RemoveRequest: { path: [1, 'string'] },
    RemoveResponse: {},
    WatchDirRequest: watched,
    StartEvent: {},
    KeepAlive: {},
    FilesystemEvent: { name: [1, 'string'], type: [2, 'EventType'], entry: [3, 'EntryInfo'] },
    WatchDirResponse: {
      start: [1, 'StartEvent', { oneof: 'event' }],
      filesystem: [2, 'FilesystemEvent', { oneof: 'event' }],
      keepalive: [3, 'KeepAlive', { oneof: 'event' }],
    },
    CreateWatcherRequest: watched,
    CreateWatcherResponse: { watcher_id: [1, 'string'] },
    GetWatcherEventsRequest: { watcher_id: [1, 'string'] },
    GetWatcherEventsResponse: { events: [1, 'FilesystemEvent', 'repeated'] },
    RemoveWatcherRequest: { watcher_id: [1, 'string'] },
    RemoveWatcherResponse: {},
  },
  enums: {
    FileType: { FILE_TYPE_UNSPECIFIED: 0, FILE_TYPE_FILE: 1, FILE_TYPE_DIRECTORY: 2, FILE_TYPE_SYMLINK: 3 },
    EventType: {
      EVENT_TYPE_UNSPECIFIED: 0,
      EVENT_TYPE_CREATE: 1,
      EVENT_TYPE_WRITE: 2,
      EVENT_TYPE_REMOVE: 3,
      EVENT_TYPE_RENAME: 4,
      EVENT_TYPE_CHMOD: 5,
    },
  },
  services: {
    Filesystem: {
      Stat: ['StatRequest', 'StatResponse'],
      MakeDir: ['MakeDirRequest', 'MakeDirResponse'],
      Move: ['MoveRequest', 'MoveResponse'],
      ListDir: ['ListDirRequest', 'ListDirResponse'],
      Remove: ['RemoveRequest', 'RemoveResponse'],
      WatchDir: ['WatchDirRequest', 'WatchDirResponse', 'out'],
      CreateWatcher: ['CreateWatcherRequest', 'CreateWatcherResponse'],
      GetWatcherEvents: ['GetWatcherEventsRequest', 'GetWatcherEventsResponse'],
      RemoveWatcher: ['RemoveWatcherRequest', 'RemoveWatcherResponse'],
    },
  },
} as const;

/** Files of a sandbox: `filesystem.Filesystem`. */
export const filesystemService = describePackage('filesystem', table).getService(
  'filesystem.Filesystem',
) as GenService<{
  stat: Unary<AtPath<'StatRequest'>, WithEntry<'StatResponse'>>;
  makeDir: Unary<AtPath<'MakeDirRequest'>, WithEntry<'MakeDirResponse'>>;
  move: Unary<
    Of<'MoveRequest', { readonly source: string; readonly destination: string }>,
    WithEntry<'MoveResponse'>
  >;
  listDir: Unary<
    AtPath<'ListDirRequest', { readonly depth: number }>,
    Of<'ListDirResponse', { readonly entries: EntryInfo[] }>
  >;
  remove: Unary<AtPath<'RemoveRequest'>, Of<'RemoveResponse'>>;
  watchDir: {
    methodKind: 'server_streaming';
    input: GenMessage<Watching<'WatchDirRequest'>>;
    output: GenMessage<Of<'WatchDirResponse', { readonly event: WatchEvent }>>;
  };
  createWatcher: Unary<Watching<'CreateWatcherRequest'>, OfWatcher<'CreateWatcherResponse'>>;
  getWatcherEvents: Unary<
    OfWatcher<'GetWatcherEventsRequest'>,
    Of<'GetWatcherEventsResponse', { readonly events: FilesystemEvent[] }>
  >;
  removeWatcher: Unary<OfWatcher<'RemoveWatcherRequest'>, Of<'RemoveWatcherResponse'>>;
}>;
