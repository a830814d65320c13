import { describe, expect, it } from 'vitest';
import type {
  BoxInfo,
  BoxMetrics,
  CreateOptions,
  DiffOptions,
  DiskDiff,
  ExecutionInfo,
  ExitStatus,
  SnapshotResult,
} from '../../src/api/index.js';
import { boxFromJson, boxMetricsFromJson, boxMetricsToJson, boxToJson } from '../../src/wire/box.js';
import { createFromJson, createToJson } from '../../src/wire/create.js';
import { diffFromJson, diffFromQuery, diffToJson, diffToQuery } from '../../src/wire/diff.js';
import { executionFromJson, executionToJson, exitFromJson, exitToJson } from '../../src/wire/execution.js';
import type { JsonObject } from '../../src/wire/json.js';
import { snapshotFromJson, snapshotToJson } from '../../src/wire/snapshot.js';

const overWire = (json: unknown): JsonObject => JSON.parse(JSON.stringify(json)) as JsonObject;

const box: BoxInfo = {
  id: 'box_1',
  name: null,
  status: 'paused',
  operation: 'resuming',
  createdAt: new Date('2026-01-02T03:04:05.678Z'),
  updatedAt: new Date('2026-01-02T03:04:06.789Z'),
  lastActivityAt: new Date('2026-01-02T03:04:07.890Z'),
  image: 'debian-python',
  template: 'base',
  cpus: 2,
  memoryMiB: 1024,
  diskSizeGb: 5,
  env: { A: '1' },
  hostname: 'host.lan',
  workingDir: '/w',
  user: '1000:1000',
  entrypoint: ['/e'],
  cmd: ['c', ''],
  main: { command: ['/e', 'c', ''], tty: true, exitCode: null, signal: 9 },
  labels: { team: 'x' },
  autoStop: 60,
  autoStopAction: 'pause',
  autoDelete: 120,
  lifetime: 3600,
  lifetimeAction: 'remove',
  endsAt: new Date(3),
  autoResume: false,
  detach: true,
  network: {
    outbound: 'disabled',
    allowNet: ['*.a.test:443', '192.0.2.0/24'],
    denyNet: ['198.51.100.1'],
    rateLimit: { sendBytesPerSecond: 1024, receiveBytesPerSecond: 4096 },
  },
  diskLimits: {
    readBytesPerSecond: 1_048_576,
    writeBytesPerSecond: 65_536,
    readOperationsPerSecond: 100,
    writeOperationsPerSecond: 10,
  },
  capabilities: { add: ['NET_ADMIN'], drop: ['MKNOD'] },
  volumes: [{ volume: 'data', guestPath: '/data', readOnly: true }],
  ports: [{ guestPort: 8000, hostPort: 8080, hostIp: '127.0.0.1', failure: null }],
  pid: null,
  run: null,
  missingEnv: ['TOKEN'],
  failure: null,
  durability: 'replicated',
  stages: { restore: 12.25, mount: 3 },
  storage: { diskBytes: 5, memoryBytes: 7 },
};

describe('what goes over the wire comes back', () => {
  it('boxes', () => {
    expect(boxFromJson(overWire(boxToJson(box)))).toEqual(box);
  });

  it('boxes of servers that know less', () => {
    const json = {
      box_id: 'b',
      status: 'running',
      created_at: '2026-01-01T00:00:00Z',
      updated_at: '2026-01-01T00:00:00Z',
      image: 'i',
      cpus: 1,
      memory_mib: 128,
    };
    expect(boxFromJson(json)).toMatchObject({
      id: 'b',
      name: null,
      autoResume: true,
      volumes: [],
      ports: [],
      stages: {},
    });
    expect(() => boxFromJson({ ...json, cpus: '1' })).toThrow(
      'The answer\'s "cpus" should be a number, but is string',
    );
    expect(() => boxFromJson({ ...json, created_at: 'soon' })).toThrow('should be a time');
    expect(() => boxFromJson(null)).toThrow('should be an object');
  });

  it('options of a create', () => {
    const options: CreateOptions = {
      image: 'i',
      name: 'n',
      cpus: 2,
      memoryMiB: 512,
      diskSizeGb: 3,
      env: { A: 'b' },
      workingDir: '/',
      user: 'root',
      entrypoint: [],
      cmd: ['x'],
      labels: { l: 'v' },
      autoStop: 1,
      autoStopAction: 'stop',
      autoDelete: 2,
      lifetime: 3,
      lifetimeAction: 'pause',
      autoResume: true,
      network: {
        outbound: 'disabled',
        allowNet: ['a.test'],
        denyNet: ['192.0.2.0/24:80-90'],
        rateLimit: { sendBytesPerSecond: 1024 },
      },
      diskLimits: { readBytesPerSecond: 65_536, writeOperationsPerSecond: 50 },
      capabilities: { drop: ['ALL'] },
      volumes: [{ volume: 'v', guestPath: '/v', readOnly: false }],
      ports: [{ guestPort: 1, hostPort: 2, hostIp: '::1' }],
      secrets: { KEY: { value: 'v', hosts: ['a.test'], placeholder: 'stands-for' } },
    };
    expect(createFromJson(overWire(createToJson(options)))).toEqual(options);
    expect(createFromJson(overWire(createToJson({ template: 't' })))).toEqual({ template: 't' });
  });

  it('snapshots, with whole seconds for v1 clients', () => {
    const snapshot: SnapshotResult = {
      id: 'snp_1',
      boxId: 'box_1',
      name: 's',
      createdAt: new Date(1_767_323_045_678),
      sizeBytes: 9,
      guestDiskBytes: 1,
      containerDiskBytes: 8,
      exclusiveBytes: 2,
      hasMemory: true,
      parent: 'p',
      consistency: 'frozen',
      guestPauseMs: 12.5,
    };
    const json = overWire(snapshotToJson(snapshot));
    expect(json['created_at']).toBe(1_767_323_045);
    expect(snapshotFromJson(json)).toEqual(snapshot);
  });

  it('changed files, and which states are compared', () => {
    const diff: DiskDiff = {
      changes: [
        {
          path: '/a\udcff',
          kind: 'type',
          typeBefore: 'directory',
          typeAfter: 'symlink',
          sizeBefore: 4096,
          sizeAfter: 3,
        },
        { path: '/b', kind: 'added', typeBefore: null, typeAfter: 'file', sizeBefore: null, sizeAfter: 0 },
      ],
      next: 'pYQ',
    };
    expect(diffFromJson(overWire(diffToJson(diff)))).toEqual(diff);
    const through = (options: DiffOptions): DiffOptions => diffFromQuery(diffToQuery(options, 'box_1'));
    expect(through({})).toEqual({});
    expect(through({ from: 's', after: 'pYQ', limit: 3 })).toEqual({
      from: { snapshot: 's' },
      after: 'pYQ',
      limit: 3,
    });
    expect(through({ from: {}, to: { box: 'o', snapshot: 's' } })).toEqual({
      from: { box: 'box_1' },
      to: { box: 'o', snapshot: 's' },
    });
  });

  it('metrics, without the gauges of a box that does not run', () => {
    const metrics: BoxMetrics = {
      commandsExecutedTotal: 3,
      execErrorsTotal: 1,
      bytesSentTotal: 5,
      bytesReceivedTotal: 6,
      cpuPercent: null,
      memoryBytes: null,
      networkBytesSent: null,
      networkBytesReceived: null,
      diskUsedBytes: 77,
      uptimeMs: null,
      stages: { a: 1.5 },
    };
    const json = overWire(boxMetricsToJson(metrics));
    expect('cpu_percent' in json).toBe(false);
    expect(boxMetricsFromJson(json)).toEqual(metrics);
  });

  it('executions', () => {
    const execution: ExecutionInfo = {
      id: 'exe_1',
      boxId: 'box_1',
      status: 'killed',
      command: ['sh', '-c', 'sleep 1'],
      exitCode: null,
      signal: 9,
      startedAt: new Date(5),
      durationMs: 12,
      attached: false,
      tty: true,
      pid: 77,
      lostBytes: { stdout: 3, stderr: 0 },
      errorMessage: 'm',
    };
    const json = overWire(executionToJson(execution));
    expect(json).toMatchObject({ exit_code: -9, command: 'sh -c sleep 1' });
    expect(executionFromJson(json)).toEqual(execution);
    const running: ExecutionInfo = { ...execution, status: 'running', signal: null, durationMs: null };
    expect(executionFromJson(overWire(executionToJson(running)))).toEqual(running);
    // A client of version 1 takes 0 for a whole output.
    const cut: ExecutionInfo = { ...execution, status: 'completed', exitCode: 0, signal: null };
    expect(executionToJson(cut)).toMatchObject({ exit_code: 125, command_exit_code: 0, lost_stdout: 3 });
    expect(executionFromJson(overWire(executionToJson(cut)))).toEqual(cut);
  });

  it.each<[ExitStatus, number]>([
    [{ exitCode: 3, signal: null, timedOut: false, durationMs: 5 }, 3],
    [{ exitCode: null, signal: 15, timedOut: false, durationMs: 5 }, -15],
    [{ exitCode: null, signal: 9, timedOut: true, durationMs: 5 }, -9],
  ])('exits: %j', (exit, code) => {
    const json = overWire(exitToJson(exit));
    expect(json).toMatchObject({ type: 'exit', exit_code: code });
    expect(exitFromJson(json)).toEqual(exit);
  });
});
