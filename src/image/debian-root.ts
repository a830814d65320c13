import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { CryoboxError, errnoOf } from '../errors.js';

/** What a Debian root is made of. */
export interface DebianRoot {
  /** A release by its code name, such as `bookworm`. */
  readonly suite: string;
  /** Packages beside the essential ones. */
  readonly packages: readonly string[];
  /** Mirrors or whole `deb` lines. @default the host's own sources for the suite, else Debian's */
  readonly mirrors?: readonly string[];
  /** No file of the root is newer, in seconds since 1970. @default the begin of today, or SOURCE_DATE_EPOCH */
  readonly epochSeconds?: number;
}

/** Options of {@link debootstrap}. */
interface DebootstrapOptions extends DebianRoot {
  readonly scratchDirectory: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (message: string) => void;
}

const suitePattern = /^[a-z][a-z0-9.-]{0,63}$/;
/** A package with optional architecture, and version or release, as apt-get install takes it. */
const packagePattern = /^[a-z0-9][a-z0-9+.-]{1,127}(?::[a-z0-9-]{1,32})?(?:[=/][a-zA-Z0-9.+:~-]{1,128})?$/;
/** A mirror or a line for sources.list, without anything that could be an option or a file. */
const mirrorPattern = /^(?:deb .*|[a-z+]+:\/\/)\S.*$/;
/** What an image does not need: documentation, as Debian's own container images leave it out; licences stay. */
const dpkgOptions = [
  'path-exclude=/usr/share/man/*',
  'path-exclude=/usr/share/info/*',
  'path-exclude=/usr/share/doc/*',
  'path-include=/usr/share/doc/*/copyright',
  'path-exclude=/usr/share/locale/*',
  'path-include=/usr/share/locale/locale.alias',
];
/** Lines of the program's messages kept for an error. */
const keptLines = 15;
/** A line of its messages is cut here, so that a line without end fills no memory. */
const maxLineChars = 4096;
/** How long it may take to remove its own directories after it was told to end. */
const endMs = 10_000;
/** apt answers at once; more is a hang. */
const queryMs = 20_000;

/**
 * The root of a Debian system as a tar stream, made by mmdebstrap: as root in a chroot, as any other user in a user
 * name space. The stream fails unless mmdebstrap succeeded, so that half a root is never taken for a whole one.
 */
export async function* debootstrap(options: DebootstrapOptions): AsyncGenerator<Buffer> {
  check(options);
  const args = await buildArguments(options);
  const isRoot = process.getuid?.() === 0;
  const child = spawn('mmdebstrap', args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    // Its own group: it runs apt, dpkg and tar, which have to end with it.
    detached: true,
    // In a user name space another uid has to reach the directory, which a private home does not allow.
    env: {
      ...process.env,
      SOURCE_DATE_EPOCH: String(options.epochSeconds ?? 0),
      ...(isRoot ? { TMPDIR: options.scratchDirectory } : {}),
    },
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', (error) => reject(errnoOf(error) === 'ENOENT' ? missing(error) : error));
    child.once('close', resolve);
  });
  ended.catch(() => undefined);
  const messages = keepMessages(child.stderr, options.onProgress);
  const stop = (): void => void endGroup(child, ended);
  options.signal?.addEventListener('abort', stop, { once: true });
  if (options.signal?.aborted) stop();
  try {
    yield* child.stdout as AsyncIterable<Buffer>;
    const code = await ended;
    options.signal?.throwIfAborted();
    if (code !== 0) throw failure(messages);
  } finally {
    options.signal?.removeEventListener('abort', stop);
    await endGroup(child, ended);
  }
}

function check({ suite, packages, mirrors }: DebianRoot): void {
  const refuse = (what: string, text: string): never => {
    throw new CryoboxError('invalid_argument', `${JSON.stringify(text.slice(0, 200))} is no ${what}`);
  };
  if (!suitePattern.test(suite)) refuse('Debian release, such as bookworm', suite);
  for (const name of packages) if (!packagePattern.test(name)) refuse('name of a Debian package', name);
  for (const mirror of mirrors ?? [])
    if (!mirrorPattern.test(mirror)) refuse('mirror; write a URL or a deb line', mirror);
}

async function buildArguments({ suite, packages, mirrors }: DebianRoot): Promise<string[]> {
  return [
    '--variant=minbase',
    '--format=tar',
    ...(packages.length > 0 ? [`--include=${packages.join(',')}`] : []),
    ...dpkgOptions.map((option) => `--dpkgopt=${option}`),
    ...(await hostProxies()).map((option) => `--aptopt=${option}`),
    suite,
    '-',
    ...(mirrors ?? (await hostSources(suite))),
  ];
}

/** The host's own `deb` lines for a release, with its updates and security, so that its mirror is used. */
async function hostSources(suite: string): Promise<string[]> {
  const format = '$(SITE) $(RELEASE) $(COMPONENT)';
  const lines = await query('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']);
  const found = new Map<string, string[]>();
  for (const line of lines) {
    const [site = '', release = '', component = ''] = line.split(' ');
    if (![suite, `${suite}-updates`, `${suite}-security`].includes(release)) continue;
    const key = `${site} ${release}`;
    found.set(key, [...(found.get(key) ?? []), component]);
  }
  // Without the release itself the host is another one, and mmdebstrap's defaults are right.
  if (![...found.keys()].some((key) => key.endsWith(` ${suite}`))) return [];
  return [...found].map(([key, components]) => `deb ${key} ${[...new Set(components)].join(' ')}`);
}

/** The host's proxies, which apt inside the new root would not know. */
async function hostProxies(): Promise<string[]> {
  const lines = await query('apt-config', ['dump', '--format', '%f "%v";%n', 'Acquire']);
  return lines.filter((line) => /^Acquire::https?::Proxy(::[^ ]+)? ".+";$/.test(line));
}

/** Lines a program prints; none where it does not exist or fails. */
async function query(command: string, args: readonly string[]): Promise<string[]> {
  try {
    const { stdout } = await promisify(execFile)(command, args, { timeout: queryMs });
    return stdout.split('\n').filter((line) => line !== '');
  } catch {
    return [];
  }
}

/** Passes lines on and returns the list of the last ones, which goes on growing and shrinking. */
function keepMessages(stream: Readable, onProgress?: (message: string) => void): string[] {
  const kept: string[] = [];
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const lines = (rest + text).split(/[\r\n]+/);
    rest = (lines.pop() ?? '').slice(-maxLineChars);
    for (const line of lines.filter((each) => each.trim() !== '')) {
      kept.push(line.slice(0, maxLineChars));
      if (kept.length > keptLines) kept.shift();
      onProgress?.(line.replace(/^I: /, ''));
    }
  });
  return kept;
}

/** Ends the program and its children: politely first, so that it removes its directories, then for certain. */
async function endGroup(
  child: ChildProcessByStdio<null, Readable, Readable>,
  ended: Promise<unknown>,
): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  killGroup(child.pid, 'SIGTERM');
  // A full pipe would keep it from ending.
  child.stdout.resume();
  const timer = setTimeout(() => child.pid !== undefined && killGroup(child.pid, 'SIGKILL'), endMs);
  await ended.catch(() => undefined);
  clearTimeout(timer);
}

function killGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
  }
}

function failure(messages: readonly string[]): CryoboxError {
  const text = messages.filter((line) => !line.startsWith('I: ')).join('\n') || messages.join('\n');
  const isWrongName = /Unable to locate package|has no installation candidate|was not found/.test(text);
  return new CryoboxError(
    isWrongName ? 'invalid_argument' : 'image_pull_failed',
    `mmdebstrap failed:\n${text}`,
    {
      hint: 'Check the release, the package names and that the Debian mirror can be reached.',
    },
  );
}

function missing(cause: unknown): CryoboxError {
  return new CryoboxError(
    'config_error',
    'mmdebstrap, which makes images from Debian packages, is not installed',
    {
      cause,
      hint: 'Install it: apt-get install mmdebstrap (and uidmap when not run by root).',
    },
  );
}
