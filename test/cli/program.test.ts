import { EventEmitter } from 'node:events';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { splitOperands } from '../../src/cli/box-options.js';
import { parsePlace } from '../../src/cli/commands/cp.js';
import type { Connection } from '../../src/cli/context.js';
import { Interrupts } from '../../src/cli/interrupts.js';
import { runCli } from '../../src/cli/program.js';
import { exitCodeOfStatus } from '../../src/cli/session.js';
import { commandLine } from '../../src/cli/specs.js';
import { CryoboxError } from '../../src/errors.js';

/** Runs a command line up to where it asks for its runtime, which is refused. */
async function cli(...argv: string[]) {
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
  const connections: Connection[] = [];
  const exitCode = await runCli(argv, {
    streams,
    signals: new EventEmitter(),
    exit: () => undefined,
    openRuntime: async (connection) => {
      connections.push(connection);
      throw new CryoboxError('engine_unavailable', 'no engine \u001b[31mhere');
    },
  });
  streams.stdout.end();
  streams.stderr.end();
  const [stdout, stderr] = await Promise.all([text(streams.stdout), text(streams.stderr)]);
  return { exitCode, stdout, stderr, connections };
}

describe('command lines', () => {
  it('shows help on stdout and ends with 0', async () => {
    const { exitCode, stdout, stderr } = await cli('--help');
    expect(exitCode).toBe(0);
    expect(stderr).toBe('');
    for (const name of ['run', 'exec', 'snapshot', 'pause', 'images', 'gc'])
      expect(stdout).toContain(`  ${name}`);
  });

  it.each([
    [['nonsense'], "unknown command 'nonsense'"],
    [['ls', '--bogus'], "unknown option '--bogus'"],
    [['exec'], "missing required argument 'box'"],
    [['exec', 'b'], "missing required argument 'command'"],
    [['ls', '--format', 'xml'], 'Expected one of table, json.'],
    [['ls', '--status', 'asleep'], 'Expected one of configured, running'],
    [['run', '--memory', '1q', 'image'], 'Expected MiB or a size'],
    [['ls', 'extra'], 'too many arguments'],
  ])('refuses %j with 125 and says why on stderr', async (argv, message) => {
    const { exitCode, stdout, stderr, connections } = await cli(...argv);
    expect(exitCode).toBe(125);
    expect(stderr).toContain(message);
    expect(stdout).toBe('');
    expect(connections).toEqual([]);
  });

  it('prints a failure with its hint, without control characters', async () => {
    const { exitCode, stdout, stderr } = await cli('ls');
    expect(exitCode).toBe(125);
    expect(stdout).toBe('');
    expect(stderr).toBe(
      'error: no engine \ufffd[31mhere\nhint: Start the engine, or wait until it has recovered.\n',
    );
  });

  it('takes the connection before and after the command; the nearer one counts', async () => {
    const only = (await cli('--home', '/a', 'ls')).connections;
    expect(only[0]?.home).toBe('/a');
    const both = (await cli('--home', '/a', 'images', 'ls', '--home', '/b', '--url', 'http://h')).connections;
    expect(both[0]).toMatchObject({ home: '/b', url: 'http://h' });
  });

  it('needs an image or a template', async () => {
    const { exitCode, stderr } = await cli('run', '--rm');
    expect(exitCode).toBe(125);
    expect(stderr).toContain('Neither an image nor a template was named');
  });
});

describe('operands', () => {
  it('leaves options after the image to the command', () => {
    expect(commandLine(['--', 'sh', '--', '-c'])).toEqual(['sh', '--', '-c']);
    expect(splitOperands({ image: 'debian', command: ['ls', '-l'] }, undefined)).toEqual({
      image: 'debian',
      command: ['ls', '-l'],
    });
    expect(splitOperands({ image: 'ls', command: ['-l'] }, 'base')).toEqual({ command: ['ls', '-l'] });
    expect(splitOperands({ image: undefined, command: [] }, 'base')).toEqual({ command: [] });
  });

  it('tells a box from a path', () => {
    expect(parsePlace('-')).toEqual({ kind: 'stream' });
    expect(parsePlace('b:/etc/a:b')).toEqual({ kind: 'box', box: 'b', path: '/etc/a:b' });
    expect(parsePlace('./a:/b')).toEqual({ kind: 'host', path: './a:/b' });
    expect(parsePlace('file')).toEqual({ kind: 'host', path: 'file' });
    expect(() => parsePlace('b:etc')).toThrow('The path in a box must be absolute, got "etc"');
  });

  it('gives the exit code a shell would', () => {
    const status = { exitCode: null, signal: null, timedOut: false, durationMs: 1 };
    expect(exitCodeOfStatus({ ...status, exitCode: 7 })).toBe(7);
    expect(exitCodeOfStatus({ ...status, signal: 9 })).toBe(137);
    expect(exitCodeOfStatus({ ...status, signal: 9, timedOut: true })).toBe(124);
  });
});

describe('Ctrl-C', () => {
  function interrupts() {
    const source = new EventEmitter();
    const exits: number[] = [];
    return { source, exits, it: new Interrupts(source, (code) => exits.push(code)) };
  }

  it('cancels first, and ends at once when repeated', () => {
    const { source, exits, it } = interrupts();
    source.emit('SIGINT', 'SIGINT');
    expect([it.signal.aborted, it.exitCode, exits]).toEqual([true, 130, []]);
    source.emit('SIGTERM', 'SIGTERM');
    expect(exits).toEqual([143]);
    it[Symbol.dispose]();
    expect(source.listenerCount('SIGINT')).toBe(0);
  });

  it('goes to an attached command once, then cancels', async () => {
    const { source, it } = interrupts();
    const forwarded: string[] = [];
    await it.forward(
      (name) => forwarded.push(name),
      async () => {
        source.emit('SIGINT', 'SIGINT');
        expect(it.signal.aborted).toBe(false);
        source.emit('SIGINT', 'SIGINT');
        expect(it.signal.aborted).toBe(true);
      },
    );
    expect(forwarded).toEqual(['SIGINT']);
  });

  it('cancels at once when the terminal has gone', async () => {
    const { source, it } = interrupts();
    await it.forward(
      () => expect.unreachable(),
      async () => {
        source.emit('SIGHUP', 'SIGHUP');
      },
    );
    expect(it.exitCode).toBe(129);
  });
});
