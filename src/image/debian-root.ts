import type { Readable } from 'node:stream';
import { runProcess, startProcess } from '../base/process/index.js';
import { CryoboxError } from '../errors.js';

/** What a Debian root is made of. */
export interface DebianRoot {
  /** A release by its code name, such as `bookworm`. */
  readonly suite: string;
  /** Packages beside the essential ones. */
  readonly packages: readonly string[];
  /** Mirrors or whole `deb` lines. @default the host's own sources for the suite, else Debian's */
  readonly mirrors?: readonly string[];
  /** Shell lines that finish the root directory, which is their `$1`; none of them is a caller's. @default none */
  readonly hooks?: readonly string[];
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
  const child = await startProcess('mmdebstrap', {
    args,
    stdout: 'pipe',
    stderr: 'pipe',
    // It runs apt, dpkg and tar, which have to end with it.
    session: true,
    installHint: 'Install it: apt-get install mmdebstrap (and uidmap when not run by root).',
    // In a user name space another uid has to reach the directory, which a private home does not allow.
    env: {
      ...process.env,
      SOURCE_DATE_EPOCH: String(options.epochSeconds ?? 0),
      ...(isRoot ? { TMPDIR: options.scratchDirectory } : {}),
    },
  });
  const messages = keepMessages(child.stderr, options.onProgress);
  // Politely first, so that it removes its directories; a full pipe would keep it from ending.
  const end = async (): Promise<void> => {
    child.stdout.resume();
    await child.stop(endMs);
  };
  const stop = (): void => {
    end().catch(() => undefined);
  };
  options.signal?.addEventListener('abort', stop, { once: true });
  if (options.signal?.aborted) stop();
  try {
    yield* child.stdout as AsyncIterable<Buffer>;
    const { code } = await child.closed;
    options.signal?.throwIfAborted();
    if (code !== 0) throw failure(messages);
  } finally {
    options.signal?.removeEventListener('abort', stop);
    await end();
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

async function buildArguments({ suite, packages, mirrors, hooks = [] }: DebianRoot): Promise<string[]> {
  return [
    '--variant=minbase',
    '--format=tar',
    ...(packages.length > 0 ? [`--include=${packages.join(',')}`] : []),
    ...dpkgOptions.map((option) => `--dpkgopt=${option}`),
    ...(await hostProxies()).map((option) => `--aptopt=${option}`),
    ...hooks.map((line) => `--customize-hook=${line}`),
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
    const { code, stdout } = await runProcess(command, { args, timeoutMs: queryMs });
    const lines = code === 0 ? stdout.toString('utf8').split('\n') : [];
    return lines.filter((line) => line !== '');
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
