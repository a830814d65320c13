import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { runProcess } from '../../src/base/process/index.js';

/** What arrived at the servers. */
export interface Arrived {
  readonly kind: 'http' | 'https' | 'raw' | 'udp' | 'dns';
  readonly host?: string;
  readonly path?: string;
  readonly name?: string;
}

/**
 * Hosts that boxes can connect to: a network namespace with servers at two addresses, reached by a pair of devices (veth(4)).
 * Needs root.
 */
export class Outside implements AsyncDisposable {
  /** Of `a.test`, `b.test` and `x.sub.test`. */
  readonly address: string;
  /** Of `other.test`. */
  readonly otherAddress: string;
  /** This host's own on that network. */
  readonly hostAddress: string;
  readonly #arrived: Arrived[] = [];
  /** The servers' certificate (PEM), which is its own root. */
  readonly certificate: string;
  readonly #directory: string;
  #child: ChildProcess | undefined;

  private constructor(directory: string) {
    this.#directory = directory;
    this.certificate = join(directory, 'cert.pem');
    // Beside other runs on this host.
    const number = process.pid % 250;
    this.hostAddress = `10.88.${number}.1`;
    this.address = `10.88.${number}.2`;
    this.otherAddress = `10.88.${number}.3`;
  }

  /** `script`: other servers than outside.mjs. `names`: those of the certificate. */
  static async start({
    script = join(import.meta.dirname, 'outside.mjs'),
    names = ['a.test'],
  } = {}): Promise<Outside> {
    const outside = new Outside(await mkdtemp(join(tmpdir(), 'cryobox-outside-')));
    try {
      await outside.#start(script, names);
      return outside;
    } catch (error) {
      await outside[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start(script: string, names: readonly string[]): Promise<void> {
    const key = join(this.#directory, 'key.pem');
    await run('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...[
        '-subj',
        `/CN=${names[0]}`,
        '-addext',
        `subjectAltName=${names.map((name) => `DNS:${name}`).join()}`,
      ],
      ...['-keyout', key, '-out', this.certificate],
    ]);
    // The shell waits for a line: by then the device is there.
    const wait = 'read line; ip link set lo up; exec "$@"';
    const server = [process.execPath, script, this.address, this.otherAddress, this.certificate, key];
    const child = spawn('unshare', ['--net', 'sh', '-c', wait, 'sh', ...server], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child = child;
    await once(child, 'spawn');
    await this.#connect(child.pid ?? 0);
    const lines = createInterface({ input: child.stdout });
    const ready = new Promise<void>((resolve, reject) => {
      child.once('exit', () => reject(new Error('the servers ended')));
      lines.on('line', (line) => {
        const what = JSON.parse(line) as { kind: string };
        if (what.kind === 'ready') resolve();
        else this.#arrived.push(what as Arrived);
      });
    });
    child.stdin.end('\n');
    await ready;
  }

  async #connect(pid: number): Promise<void> {
    const device = `cb${process.pid}`;
    // The namespace is there a moment after the process is.
    const own = await readNamespace('self');
    while ((await readNamespace(String(pid))) === own) await new Promise(setImmediate);
    await run('ip', ['link', 'add', device, 'type', 'veth', 'peer', 'name', 'out', 'netns', String(pid)]);
    await run('ip', ['addr', 'add', `${this.hostAddress}/24`, 'dev', device]);
    await run('ip', ['link', 'set', device, 'up']);
    const inside = (...args: string[]) => run('nsenter', ['--net', '-t', String(pid), 'ip', ...args]);
    await inside('addr', 'add', `${this.address}/24`, 'dev', 'out');
    await inside('addr', 'add', `${this.otherAddress}/24`, 'dev', 'out');
    await inside('link', 'set', 'out', 'up');
  }

  /** What has arrived since it was asked last. */
  take(): Arrived[] {
    return this.#arrived.splice(0);
  }

  /** Has a home's boxes ask the name server here, and reach its private addresses. */
  async useIn(home: string): Promise<void> {
    const settings = { private: 'allow', resolvers: [this.address], roots: [this.certificate] };
    await writeFile(join(home, 'network.json'), JSON.stringify(settings));
  }

  /** The device goes with the namespace. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child?.exitCode === null) {
      const ended = once(this.#child, 'exit');
      this.#child.kill('SIGKILL');
      await ended;
    }
    await rm(this.#directory, { recursive: true, force: true });
  }
}

async function readNamespace(pid: string): Promise<string> {
  return await readlink(`/proc/${pid}/ns/net`);
}

async function run(command: string, args: readonly string[]): Promise<void> {
  const { code, stderr } = await runProcess(command, { args, timeoutMs: 30_000 });
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
}
