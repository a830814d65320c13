import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Box, BoxStatus } from '../../src/api/index.js';
import { failureOf, output, TestEngine } from './support.js';

const engine = new TestEngine();
let box: Box;

beforeAll(async () => {
  box = await engine.runtime.create({ image: 'debian-python', name: 'programs', detach: true });
});

describe('standard streams', () => {
  it.each(['root', 'daemon', '12345:100'])('can be opened by their names, by %s', async (user) => {
    const script =
      'echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin; echo more >> /proc/self/fd/1';
    const result = await box.exec(['sh', '-c', script], { user, stdin: 'in\n' });
    expect([result.exitCode, String(result.stdout), String(result.stderr)]).toEqual([
      0,
      'out\nin\nmore\n',
      'err\n',
    ]);
  });

  it.each(['root', 'daemon'])('are a terminal of its own, for %s', async (user) => {
    const script =
      'stty -onlcr; stat -c "%u %g %a" "$(tty)"; echo to tty > /dev/tty; echo to out > /dev/stdout; id -u';
    const { stdout, exitCode } = await box.exec(['sh', '-c', script], { user, tty: true });
    const uid = user === 'root' ? 0 : 1;
    expect([exitCode, String(stdout)]).toEqual([0, `${uid} 5 620\nto tty\nto out\n${uid}\n`]);
  });

  it('leave /dev/null with root, and what others write to it', async () => {
    await box.exec(['true'], { user: 'daemon' });
    expect(await output(box, 'stat -c "%u %g %a" /dev/null')).toBe('0 0 666');
  });
});

describe('the terminal', () => {
  it('has a name, unless the caller or the box gives it one', async () => {
    const termOf = async (options: object) =>
      String((await box.exec(['sh', '-c', 'printf %s "$TERM"'], options)).stdout);
    expect(await termOf({ tty: true })).toBe('xterm');
    expect(await termOf({ tty: { cols: 100, rows: 30 } })).toBe('xterm');
    expect(await termOf({ tty: true, env: { TERM: 'vt100' } })).toBe('vt100');
    expect(await termOf({ tty: true, env: { TERM: '' } })).toBe('');
    expect(await termOf({})).toBe('');
  });

  it('is one that full-screen programs know', async () => {
    const script = 'import curses; curses.setupterm(); print(curses.tigetnum("colors") > 0)';
    const { stdout } = await box.exec(['python3', '-c', script], { tty: true });
    expect(String(stdout)).toBe('True\r\n');
  });
});

describe('ports', () => {
  const server = (host: string) =>
    `import socket; s = socket.create_server((${JSON.stringify(host)}, 0), family=socket.AF_INET6 if ":" in ${JSON.stringify(host)} else socket.AF_INET)
print(s.getsockname()[1], flush=True)
c, _ = s.accept(); c.sendall(b"hello from ${host}"); c.close()`;

  it.each(['127.0.0.1', '0.0.0.0', '::1', '::'])('are reached where %s is listened on', async (host) => {
    const execution = await box.startExec(['python3', '-c', server(host)]);
    let port = 0;
    for await (const chunk of execution.stdout) {
      port = Number(String(chunk));
      break;
    }
    const connection = await box.dial(port);
    const chunks: Uint8Array[] = [];
    for await (const chunk of connection.output) chunks.push(chunk);
    expect(Buffer.concat(chunks).toString()).toBe(`hello from ${host}`);
    await connection.close();
  });

  it('are waited for', async () => {
    const waiting = box.waitForPort(5173);
    const line =
      'python3 -c "import socket; s = socket.create_server((\'::1\', 5173), family=socket.AF_INET6); s.accept()"';
    const server = await box.startExec(line);
    await waiting;
    expect((await server.wait()).exitCode).toBe(0);
  });

  it('nobody listens on are refused by both addresses', async () => {
    const { code, message } = await failureOf(box.dial(9));
    expect([code, message]).toEqual([
      'network_unavailable',
      expect.stringContaining('127.0.0.1:9 and [::1]:9'),
    ]);
    expect(message).toContain('Connection refused');
  });
});

describe('the kernel', () => {
  it('is set up as on the machine of a developer', async () => {
    const settings = {
      'fs.inotify.max_user_watches': '524288',
      'fs.inotify.max_user_instances': '1024',
      'vm.max_map_count': '1048576',
      'kernel.pid_max': '4194304',
      'net.ipv4.ping_group_range': '0\t2147483647',
      'net.ipv4.ip_unprivileged_port_start': '0',
    };
    const paths = Object.keys(settings).map((name) => `/proc/sys/${name.replaceAll('.', '/')}`);
    expect((await output(box, `cat ${paths.join(' ')}`)).split('\n')).toEqual(Object.values(settings));
  });
});

describe('a box without a /dev', () => {
  it('runs commands, with and without a terminal, and goes on after a pause', async () => {
    await output(box, 'rm /dev/null /dev/ptmx /dev/urandom /dev/random');
    expect(await output(box, 'echo fine')).toBe('fine');
    expect(String((await box.exec(['echo', 'drawn'], { tty: true })).stdout)).toBe('drawn\r\n');
    await box.pause();
    await box.resume();
    expect(await output(box, 'echo still fine')).toBe('still fine');
    // Its devices are of this run only.
    await box.stop();
    expect(await output(box, 'stat -c %F /dev/null')).toBe('character special file');
  });
});

describe('a guest that ends itself', () => {
  const reboot = (command: string) =>
    box.startExec(['python3', '-c', `import ctypes, os; os.sync(); ctypes.CDLL(None).reboot(${command})`]);
  const sysrq = (letter: string) => box.startExec(['sh', '-c', `sync; echo ${letter} > /proc/sysrq-trigger`]);

  /** The state that a box comes to. */
  async function comesTo(status: BoxStatus): Promise<void> {
    await expect.poll(async () => (await box.info()).status, { timeout: 60_000 }).toBe(status);
  }

  afterEach(async () => {
    await box.start();
  });

  it.each([
    ['powers off', '0x4321fedc'],
    ['halts', '0xcdef0123'],
    ['restarts', '0x01234567'],
  ])('%s is stopped, and comes up with what it wrote', async (_, command) => {
    await output(box, `echo ${command} > /root/kept`);
    const execution = await reboot(command);
    const told = await failureOf(execution.wait());
    expect(told.code).toBe('machine_failed');
    await comesTo('stopped');
    expect((await box.info()).failure).toBeNull();
    expect(await output(box, 'cat /root/kept')).toBe(command);
  });

  it.each([
    ['panics', 'c', 'sysrq triggered crash'],
    ['is reset', 'b', 'the machine ended unexpectedly'],
  ])('%s has failed, and says why', async (_, letter, words) => {
    const execution = await sysrq(letter);
    const { code } = await failureOf(execution.wait());
    expect(code).toBe('machine_failed');
    await comesTo('failed');
    expect((await box.info()).failure).toContain(words);
  });

  it('is left alone when a program only writes what the kernel would', async () => {
    const { run } = await box.info();
    await output(box, 'echo "reboot: System halted" > /dev/console');
    await expect.poll(() => box.consoleLog()).toContain('reboot: System halted');
    expect(await output(box, 'echo alive')).toBe('alive');
    expect((await box.info()).run).toBe(run);
  });
});
