import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { CryoboxError } from '../../errors.js';
import { jsonMedia } from '../../wire/media.js';
import type { ErrorWriter } from './errors.js';

/** What Node's parser refuses before there is a request, by its code: status, and the error of ours. */
const refusals: Readonly<Record<string, readonly [number, () => CryoboxError]>> = {
  HPE_HEADER_OVERFLOW: [
    431,
    () =>
      new CryoboxError('payload_too_large', 'The head of the request is too large: at most 16 KiB are read'),
  ],
  ERR_HTTP_REQUEST_TIMEOUT: [
    408,
    () => new CryoboxError('timeout', 'The head of the request did not come in time'),
  ],
};
const malformed: (typeof refusals)[string] = [
  400,
  () => new CryoboxError('invalid_argument', 'The request is no HTTP'),
];

/** Answers what is no request, in the form of all errors, and ends its connection. */
export function answerNoRequest(error: NodeJS.ErrnoException, socket: Duplex, errors: ErrorWriter): void {
  // Whoever has failed at TLS, or is gone, hears no answer.
  const isHttp = /^(HPE|ERR_HTTP)_/.test(error.code ?? '');
  if (!isHttp || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, errorOf] = refusals[error.code ?? ''] ?? malformed;
  const body = JSON.stringify(errors.answer(errorOf(), randomUUID()).body);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    `content-type: ${jsonMedia}`,
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
}
