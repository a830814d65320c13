import type { Message } from '@bufbuild/protobuf';
import type { GenMessage, GenService } from '@bufbuild/protobuf/codegenv2';
import { describePackage } from './descriptor.js';

/** How a process is started. */
export interface ProcessConfig {
  readonly cmd: string;
  readonly args: string[];
  readonly envs: Record<string, string>;
  readonly cwd?: string;
}

/** Names a process. */
export interface Selector {
  readonly selector:
    | { readonly case: 'pid'; readonly value: number }
    | { readonly case: 'tag'; readonly value: string }
    | { readonly case: undefined; readonly value?: undefined };
}

interface Terminal {
  readonly size?: { readonly cols: number; readonly rows: number };
}

type Input = {
  readonly input:
    | { readonly case: 'stdin' | 'pty'; readonly value: Uint8Array }
    | { readonly case: undefined; readonly value?: undefined };
};

/** What is told of a process while it runs. */
export type ProcessEvent = {
  readonly event:
    | { readonly case: 'start'; readonly value: { readonly pid: number } }
    | {
        readonly case: 'data';
        readonly value: {
          readonly output: { readonly case: 'stdout' | 'stderr' | 'pty'; readonly value: Uint8Array };
        };
      }
    | { readonly case: 'end'; readonly value: ProcessEnd }
    | { readonly case: 'keepalive'; readonly value: object };
};

/** How a process ended. */
export interface ProcessEnd {
  /** -1 when a signal ended it. */
  readonly exitCode: number;
  readonly exited: boolean;
  readonly status: string;
  readonly error?: string;
}

type Of<Name extends string, Fields> = Message<`process.${Name}`> & Fields;

/** Starts a process. */
export type StartRequest = Of<
  'StartRequest',
  {
    readonly process?: ProcessConfig;
    readonly pty?: Terminal;
    readonly tag?: string;
    readonly stdin?: boolean;
  }
>;
type Selecting<Name extends string, Fields = object> = Of<Name, { readonly process?: Selector } & Fields>;
type EventOf<Name extends string> = Of<Name, { readonly event?: ProcessEvent }>;
type Listed = Of<
  'ListResponse',
  { readonly processes: { readonly config?: ProcessConfig; readonly pid: number; readonly tag?: string }[] }
>;

/** One piece of {@link ProcessService}'s stream of input. */
export type StreamInputRequest = Of<
  'StreamInputRequest',
  {
    readonly event:
      | { readonly case: 'start'; readonly value: { readonly process?: Selector } }
      | { readonly case: 'data'; readonly value: { readonly input?: Input } }
      | { readonly case: 'keepalive'; readonly value: object }
      | { readonly case: undefined; readonly value?: undefined };
  }
>;

interface Unary<Request extends Message, Answer extends Message> {
  methodKind: 'unary';
  input: GenMessage<Request>;
  output: GenMessage<Answer>;
}

const table = {
  messages: {
    ProcessConfig: {
      cmd: [1, 'string'],
      args: [2, 'string', 'repeated'],
      envs: [3, 'map'],
      cwd: [4, 'string', 'optional'],
    },
    ProcessInfo: { config: [1, 'ProcessConfig'], pid: [2, 'uint32'], tag: [3, 'string', 'optional'] },
    ProcessSelector: { pid: [1, 'uint32', { oneof: 'selector' }], tag: [2, 'string', { oneof: 'selector' }] },
    Size: { cols: [1, 'uint32'], rows: [2, 'uint32'] },
    PTY: { size: [1, 'Size'] },
    ProcessInput: { stdin: [1, 'bytes', { oneof: 'input' }], pty: [2, 'bytes', { oneof: 'input' }] },
    StartEvent: { pid: [1, 'uint32'] },
    DataEvent: {
      stdout: [1, 'bytes', { oneof: 'output' }],
      stderr: [2, 'bytes', { oneof: 'output' }],
      pty: [3, 'bytes', { oneof: 'output' }],
    },
    EndEvent: {
      exit_code: [1, 'sint32'],
      exited: [2, 'bool'],
      status: [3, 'string'],
      error: [4, 'string', 'optional'],
    },
    KeepAlive: {},
    ProcessEvent: {
      start: [1, 'StartEvent', { oneof: 'event' }],
      data: [2, 'DataEvent', { oneof: 'event' }],
      end: [3, 'EndEvent', { oneof: 'event' }],
      keepalive: [4, 'KeepAlive', { oneof: 'event' }],
    },
    ListRequest: {},
    ListResponse: { processes: [1, 'ProcessInfo', 'repeated'] },
    StartRequest: {
      process: [1, 'ProcessConfig'],
      pty: [2, 'PTY', 'optional'],
      tag: [3, 'string', 'optional'],
      stdin: [4, 'bool', 'optional'],
    },
    StartResponse: { event: [1, 'ProcessEvent'] },
    ConnectRequest: { process: [1, 'ProcessSelector'] },
    ConnectResponse: { event: [1, 'ProcessEvent'] },
    UpdateRequest: { process: [1, 'ProcessSelector'], pty: [2, 'PTY', 'optional'] },
    UpdateResponse: {},
    SendInputRequest: { process: [1, 'ProcessSelector'], input: [2, 'ProcessInput'] },
    SendInputResponse: {},
    InputStart: { process: [1, 'ProcessSelector'] },
    InputData: { input: [2, 'ProcessInput'] },
    StreamInputRequest: {
      start: [1, 'InputStart', { oneof: 'event' }],
      data: [2, 'InputData', { oneof: 'event' }],
      keepalive: [3, 'KeepAlive', { oneof: 'event' }],
    },
    StreamInputResponse: {},
    SendSignalRequest: { process: [1, 'ProcessSelector'], signal: [2, 'Signal'] },
    SendSignalResponse: {},
    CloseStdinRequest: { process: [1, 'ProcessSelector'] },
    CloseStdinResponse: {},
  },
  enums: { Signal: { SIGNAL_UNSPECIFIED: 0, SIGNAL_SIGKILL: 9, SIGNAL_SIGTERM: 15 } },
  services: {
    Process: {
      List: ['ListRequest', 'ListResponse'],
      Connect: ['ConnectRequest', 'ConnectResponse', 'out'],
      Start: ['StartRequest', 'StartResponse', 'out'],
      Update: ['UpdateRequest', 'UpdateResponse'],
      StreamInput: ['StreamInputRequest', 'StreamInputResponse', 'in'],
      SendInput: ['SendInputRequest', 'SendInputResponse'],
      SendSignal: ['SendSignalRequest', 'SendSignalResponse'],
      CloseStdin: ['CloseStdinRequest', 'CloseStdinResponse'],
    },
  },
} as const;

/** Processes of a sandbox: `process.Process`. */
export const processService = describePackage('process', table).getService('process.Process') as GenService<{
  list: Unary<Of<'ListRequest', object>, Listed>;
  connect: {
    methodKind: 'server_streaming';
    input: GenMessage<Selecting<'ConnectRequest'>>;
    output: GenMessage<EventOf<'ConnectResponse'>>;
  };
  start: {
    methodKind: 'server_streaming';
    input: GenMessage<StartRequest>;
    output: GenMessage<EventOf<'StartResponse'>>;
  };
  update: Unary<Selecting<'UpdateRequest', { readonly pty?: Terminal }>, Of<'UpdateResponse', object>>;
  streamInput: {
    methodKind: 'client_streaming';
    input: GenMessage<StreamInputRequest>;
    output: GenMessage<Of<'StreamInputResponse', object>>;
  };
  sendInput: Unary<
    Selecting<'SendInputRequest', { readonly input?: Input }>,
    Of<'SendInputResponse', object>
  >;
  sendSignal: Unary<
    Selecting<'SendSignalRequest', { readonly signal: number }>,
    Of<'SendSignalResponse', object>
  >;
  closeStdin: Unary<Selecting<'CloseStdinRequest'>, Of<'CloseStdinResponse', object>>;
}>;
