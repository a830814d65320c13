import { join, resolve } from 'node:path';
import type { Box } from '../api/index.js';
import { absoluteDirectory, userHome } from '../base/environment.js';
import { writeFileDurably } from '../base/files.js';
import type { Connection } from './context.js';

/** Keys of the user's SSH to boxes: that of the client, and that of the server it starts. */
export interface SshKeys {
  readonly directory: string;
  /** File of the client's private key. */
  readonly identity: string;
  readonly clientPublicKey: string;
  readonly hostKey: string;
  /** File with the host key, by the name that all boxes have in it. */
  readonly knownHosts: string;
}

/** Name of the server's key in the file of known hosts: every box of a user is served by the same one. */
const hostKeyAlias = 'cryobox';

/** The user's keys in a directory, made at the first use. @default `~/.config/cryobox/ssh`. Throws `config_error`, `storage_error`. */
export async function sshKeys(given?: string): Promise<SshKeys> {
  const { keepKey } = await import('../ssh/index.js');
  const configuration = absoluteDirectory('XDG_CONFIG_HOME') ?? join(userHome(), '.config');
  const directory = given === undefined ? join(configuration, 'cryobox', 'ssh') : resolve(given);
  const identity = join(directory, 'id_ed25519');
  const client = await keepKey(identity, 'cryobox client');
  const host = await keepKey(join(directory, 'host_ed25519'), 'cryobox host');
  const knownHosts = join(directory, 'known_hosts');
  await writeFileDurably(knownHosts, `${hostKeyAlias} ${host.publicKey}\n`);
  return { directory, identity, clientPublicKey: client.publicKey, hostKey: host.privateKey, knownHosts };
}

/** Settings of ssh_config(5) with which a client reaches a box through a command of ours, in their order. */
export function sshSettings(
  box: Pick<Box, 'id'>,
  user: string,
  keys: SshKeys,
  connection: Connection,
): readonly (readonly [name: string, value: string])[] {
  return [
    ['User', quoted(user)],
    ['ProxyCommand', proxyCommand(box.id, keys.directory, connection)],
    // Of those that both sides have, the fastest.
    ['Ciphers', '^aes128-gcm@openssh.com'],
    ['IdentityFile', quoted(keys.identity)],
    ['IdentitiesOnly', 'yes'],
    ['IdentityAgent', 'none'],
    ['PreferredAuthentications', 'publickey'],
    ['HostKeyAlias', hostKeyAlias],
    ['UserKnownHostsFile', quoted(keys.knownHosts)],
    ['GlobalKnownHostsFile', 'none'],
    ['StrictHostKeyChecking', 'yes'],
    ['UpdateHostKeys', 'no'],
    // What is said through a pipe between two processes of one user needs no exchange that quantum computers cannot break.
    ['IgnoreUnknown', 'WarnWeakCrypto'],
    ['WarnWeakCrypto', 'no'],
  ];
}

/**
 * What starts this program again, for `sh -c`: as it was started, with the connection of this command line and the same keys,
 * whatever the environment of the client is.
 */
function proxyCommand(id: string, keys: string, { home, url, prefix }: Connection): string {
  const words = [process.execPath, ...process.execArgv, process.argv[1] ?? '', 'ssh', '--stdio'];
  words.push('--keys', keys);
  if (url !== undefined) words.push('--url', url);
  else if (home !== undefined) words.push('--home', home);
  if (prefix !== undefined) words.push('--prefix', prefix);
  return [...words, id].map((word) => shellWord(word).replaceAll('%', '%%')).join(' ');
}

/** A word for a shell, as it is. */
function shellWord(word: string): string {
  return /^[\w./:@=+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** A value of ssh_config(5) as one word, in which a percent sign is one. */
function quoted(value: string): string {
  const plain = value.replaceAll('%', '%%');
  return /^[\w./%:@+-]+$/.test(plain) ? plain : `"${plain.replaceAll(/["\\]/g, '\\$&')}"`;
}
