import { once, setMaxListeners } from 'node:events';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import ssh2, { type AuthContext, type Connection, type ParsedKey, type Session } from 'ssh2';
import type { Box } from '../api/index.js';
import type { Logger } from '../base/log.js';
import { CryoboxError, messageOf } from '../errors.js';
import { type Account, findAccount } from './account.js';
import { carryForward, isBoxItself } from './forward.js';
import { sshLimits } from './limits.js';
import { CommandSession } from './session.js';
import { serveSftp } from './sftp.js';

/** What a connection is served with. */
export interface SshOptions {
  readonly box: Box;
  /** Private key of the server, as OpenSSH writes it. */
  readonly hostKey: string;
  /** Who may log in, as any user of the box: lines of `authorized_keys`. */
  readonly authorizedKeys: readonly string[];
  /** Hears why a login was refused, and what went wrong. */
  readonly logger: Pick<Logger, 'warn' | 'debug'>;
  /** Ends the connection. */
  readonly signal?: AbortSignal;
  /** How long a client may take to log in. @default {@link sshLimits} */
  readonly handshakeMs?: number;
}

/**
 * Ciphers that Node brings itself and that processors do in hardware; every client of the last ten years has one of them.
 */
const ciphers = ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com', 'aes128-ctr', 'aes256-ctr'] as const;

/**
 * Serves one connection of SSH over a stream: commands, shells, file transfers and forwarded ports of a box. The user name
 * of the client is a user of the box. Resolves when the connection has ended and its commands have too; never rejects for
 * what a client does. Throws `config_error` for a key that is none.
 */
export async function serveSsh(stream: Duplex, options: SshOptions): Promise<void> {
  const { hostKey, logger, signal, handshakeMs = sshLimits.handshakeMs } = options;
  const keys = options.authorizedKeys.map(publicKeyOf);
  const ended = new AbortController();
  // Every channel of the connection listens.
  setMaxListeners(0, ended.signal);
  const end = (): void => ended.abort();
  stream.once('end', end).once('close', end).once('error', end);
  if (signal?.aborted) end();
  signal?.addEventListener('abort', end, { once: true });
  const work = new Set<Promise<void>>();
  const handshake = setTimeout(() => {
    logger.warn(`no login within ${handshakeMs / 1000} seconds`);
    end();
  }, handshakeMs);
  const server = new ssh2.Server(
    {
      hostKeys: [hostKey],
      ident: 'cryobox',
      algorithms: { cipher: [...ciphers] },
      // A client that stands still, as one that was stopped by Ctrl-Z, is not gone: its end closes the stream.
      keepaliveCountMax: Number.MAX_SAFE_INTEGER,
    },
    (client) => {
      client.on('error', (error) => logger.debug(`connection: ${messageOf(error)}`));
      const login = new Login(client, { ...options, keys, ended: ended.signal, end });
      client.once('ready', () => {
        clearTimeout(handshake);
        if (login.account) serveChannels(client, login.account, { ...options, ended: ended.signal, work });
      });
    },
  );
  try {
    server.injectSocket(stream as Socket);
    if (!ended.signal.aborted) await once(ended.signal, 'abort');
    while (work.size > 0) await Promise.all(work);
  } finally {
    clearTimeout(handshake);
    signal?.removeEventListener('abort', end);
    stream.on('error', () => undefined);
    stream.destroy();
  }
}

function publicKeyOf(line: string): ParsedKey {
  const key = ssh2.utils.parseKey(line);
  if (!(key instanceof Error)) return key;
  throw new CryoboxError('config_error', `a line of the authorized keys is no public key: ${key.message}`);
}

interface LoginOptions extends SshOptions {
  readonly keys: readonly ParsedKey[];
  readonly ended: AbortSignal;
  readonly end: () => void;
}

/** Lets a client in that proves to have one of the keys, and names a user of the box. */
class Login {
  readonly #options: LoginOptions;
  #attempts = 0;
  account: Account | undefined;

  constructor(client: Connection, options: LoginOptions) {
    this.#options = options;
    client.on('authentication', (attempt) => {
      this.#decide(attempt).catch((error: unknown) => {
        options.logger.warn(messageOf(error));
        attempt.reject(['publickey']);
      });
    });
  }

  async #decide(attempt: AuthContext): Promise<void> {
    const { keys, box, logger, ended } = this.#options;
    if (attempt.method !== 'publickey') {
      // Every client begins with `none`, to hear what it may try.
      if (attempt.method === 'none') attempt.reject(['publickey']);
      else this.#refuse(attempt);
      return;
    }
    const { key: offered, signature, blob, hashAlgo } = attempt;
    const key = keys.find((known) => known.getPublicSSH().equals(offered.data));
    if (key && !signature) {
      attempt.accept();
      return;
    }
    if (!key || !signature || !blob || key.verify(blob, signature, hashAlgo) !== true) {
      this.#refuse(attempt);
      return;
    }
    const account = await findAccount(box, attempt.username, ended);
    if (account) {
      this.account = account;
      attempt.accept();
      return;
    }
    logger.warn(`the box has no user ${JSON.stringify(attempt.username)}`);
    this.#refuse(attempt);
  }

  #refuse(attempt: AuthContext): void {
    this.#attempts += 1;
    if (this.#attempts < sshLimits.attempts) attempt.reject(['publickey']);
    else this.#options.end();
  }
}

interface ChannelOptions extends SshOptions {
  readonly ended: AbortSignal;
  /** What has to end before the connection has. */
  readonly work: Set<Promise<void>>;
}

function serveChannels(client: Connection, account: Account, options: ChannelOptions): void {
  const { box, ended, work, logger } = options;
  const follow = (task: Promise<void>): void => {
    const followed = task
      .catch((error: unknown) => logger.debug(messageOf(error)))
      .finally(() => work.delete(followed));
    work.add(followed);
  };
  let sessions = 0;
  let forwards = 0;
  client.on('session', (accept, reject) => {
    if (sessions >= sshLimits.sessions) {
      reject();
      return;
    }
    sessions += 1;
    const session = accept();
    const gone = new AbortController();
    setMaxListeners(0, gone.signal);
    const leave = (): void => gone.abort();
    ended.addEventListener('abort', leave, { once: true });
    session.once('close', () => {
      sessions -= 1;
      ended.removeEventListener('abort', leave);
      leave();
    });
    serveSession(session, { box, account, ended }, gone.signal, follow);
  });
  client.on('tcpip', (accept, reject, { destIP, destPort }) => {
    if (!isBoxItself(destIP) || forwards >= sshLimits.forwards) {
      reject();
      return;
    }
    forwards += 1;
    const carried = async (): Promise<void> => {
      try {
        // The client is told that nobody listens by being refused, so the box is asked first.
        const port = await box.dial(destPort, { signal: ended }).catch(() => undefined);
        if (port) await carryForward(accept(), port, ended);
        else reject();
      } finally {
        forwards -= 1;
      }
    };
    follow(carried());
  });
}

function serveSession(
  session: Session,
  options: { readonly box: Box; readonly account: Account; readonly ended: AbortSignal },
  gone: AbortSignal,
  follow: (task: Promise<void>) => void,
): void {
  const command = new CommandSession(session, options, gone);
  session.on('exec', (accept, _reject, info) => follow(command.run(accept(), info.command)));
  session.on('shell', (accept) => follow(command.run(accept(), undefined)));
  session.on('sftp', (accept) => follow(serveSftp(accept(), options, gone)));
}
