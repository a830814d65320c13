import { constants } from 'node:os';
import { Duplex } from 'node:stream';
import type { Box } from '../../api/index.js';
import { startProcess } from '../../base/process/index.js';
import { CryoboxError } from '../../errors.js';
import { createCommand } from '../command.js';
import type { Context } from '../context.js';
import { commandLine, flag, many, refuseOptionWord, required, rest, text } from '../specs.js';
import { sshKeys, sshSettings } from '../ssh-client.js';
import { requireBox } from '../targets.js';

export const ssh = createCommand({
  name: 'ssh',
  summary: 'a shell or command in a box by the SSH client of this host, and the settings for other clients',
  args: {
    box: required('box', 'name or id'),
    command: rest('command', 'command line for the shell of the box (default: the shell itself)'),
  },
  options: {
    user: text('-u, --user <user>', "user of the box (default: the box's user)"),
    forward: many('-L <address>', 'forward a port of this host, as ssh -L', (address) => address),
    forwardOnly: flag('-N, --forward-only', 'run no command: only forward ports'),
    tty: flag('-t, --tty', 'give the command a terminal'),
    config: flag('--config', 'print settings for ~/.ssh/config: for scp, sftp, rsync and editors'),
    keys: text(
      '--keys <directory>',
      'where the keys of the connection are kept (default: ~/.config/cryobox/ssh)',
    ),
    stdio: flag('--stdio', 'speak SSH on the standard streams: what ssh starts as its ProxyCommand'),
  },
  passThrough: true,
  async handler(context, args, options) {
    refuseOptionWord(args.command, args.box, 'box');
    if (options.stdio) {
      await serveStdio(context, args.box, options.keys);
      return 0;
    }
    const box = await requireBox(context, args.box);
    const { accountName } = await import('../../ssh/index.js');
    const user = options.user ?? accountName((await box.info({ signal: context.signal })).user);
    const settings = sshSettings(box, user, await sshKeys(options.keys), context.connection);
    if (options.config) {
      const lines = settings.map(([name, value]) => `  ${name} ${value}\n`).join('');
      await context.stdout.write(`Host ${hostOf(box)}\n${lines}`);
      return 0;
    }
    // Without the user's own settings, which may be about a host of the same name.
    const words = ['-F', 'none', ...settings.flatMap(([name, value]) => ['-o', `${name}=${value}`])];
    for (const address of options.forward) words.push('-L', address);
    if (options.forwardOnly) words.push('-N');
    if (options.tty) words.push('-t');
    return await runClient(context, [...words, '--', hostOf(box), ...commandLine(args.command)]);
  },
});

/** The name that clients of SSH know a box by. */
function hostOf({ name, id }: Pick<Box, 'name' | 'id'>): string {
  return `${name ?? id}.cryobox`;
}

/** Runs the SSH client of this host on our own streams, and gives its exit code. */
async function runClient(context: Context, args: readonly string[]): Promise<number> {
  const installHint = 'Install it: `apt-get install openssh-client`.';
  const client = await startProcess('ssh', { args, stdin: 0, stdout: 1, stderr: 2, installHint });
  await using _ = client;
  const hangUp = (): void => client.kill('SIGHUP');
  context.signal.addEventListener('abort', hangUp, { once: true });
  try {
    const { code, signal } = await context.interrupts.forward(
      (name) => client.kill(name),
      () => client.exited,
    );
    return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
  } finally {
    context.signal.removeEventListener('abort', hangUp);
  }
}

/** Serves the client at our standard streams until it ends. Its signals end us too, often two at once. */
async function serveStdio(context: Context, name: string, keys: string | undefined): Promise<void> {
  context.interrupts.bePatient();
  const { serveSsh } = await import('../../ssh/index.js');
  const box = await requireBox(context, name);
  const { hostKey, clientPublicKey } = await sshKeys(keys);
  const { stdin, stdout } = context.streams;
  const stream = Duplex.from({ readable: stdin, writable: stdout });
  const warn = (message: string): void => {
    context.stderr.line(`cryobox: ${message}`).catch(() => undefined);
  };
  await serveSsh(stream, {
    box,
    hostKey,
    authorizedKeys: [clientPublicKey],
    logger: { warn, debug: process.env.CRYOBOX_DEBUG ? warn : () => undefined },
    signal: context.signal,
  });
  if (context.signal.aborted) throw new CryoboxError('cancelled', 'the connection was ended by a signal');
}
