import { chmodSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Leaves } from './certificates.js';
import {
  type InterceptorOrder,
  type InterceptorStart,
  type InterceptorWord,
  interceptorSocket,
} from './messages.js';
import { InterceptingServer } from './server.js';

// The process that puts secrets in (docs/networking.md): run in its directory, with orders as lines on its standard input.
// It ends when that does.

const say = (word: InterceptorWord): void => {
  process.stdout.write(`${JSON.stringify(word)}\n`);
};

function begin({ authority, user }: InterceptorStart): InterceptingServer {
  const server = new InterceptingServer(new Leaves(authority), say);
  server.listen(interceptorSocket).once('listening', () => {
    // Machines have users of their own; who reaches the socket in their directories is checked by a token.
    chmodSync(interceptorSocket, 0o666);
    if (user) {
      process.setgroups?.([]);
      process.setgid?.(user.gid);
      process.setuid?.(user.uid);
    }
    say({ ready: true });
  });
  return server;
}

let server: InterceptingServer | undefined;
// A process that was killed leaves its socket; the engine has removed it.
createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (server) server.order(JSON.parse(line) as InterceptorOrder);
    else server = begin(JSON.parse(line) as InterceptorStart);
  })
  .on('close', () => process.exit(0));
