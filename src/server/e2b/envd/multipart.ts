import type { IncomingHttpHeaders } from 'node:http';
import { PassThrough, pipeline, Readable } from 'node:stream';
import { Busboy, type BusboyHeaders, type BusboyInstance } from '@fastify/busboy';
import type { ByteSource } from '../../../api/index.js';
import { CryoboxError, messageOf } from '../../../errors.js';

/** A file of a form. */
export interface FormFile {
  /** As the client wrote it, with all its `/`. */
  readonly name: string;
  readonly content: ByteSource;
}

/** Files of one form. */
const maxFiles = 10_000;

/** The parts named `file` of a form (RFC 7578), one after another; each is to be read before the next. */
export async function* multipartFiles(
  headers: IncomingHttpHeaders,
  body: ByteSource,
): AsyncGenerator<FormFile> {
  const found = new PassThrough({ objectMode: true });
  const source = Readable.from(body);
  const parser = parserOf(headers);
  parser.on('file', (field, content, name) => {
    // It fails with the form: whoever reads it then is told.
    content.on('error', () => undefined);
    if (field === 'file' && name) found.write({ name, content } satisfies FormFile);
    else content.resume();
  });
  parser.on('finish', () => found.end());
  parser.on('filesLimit', () =>
    source.destroy(new CryoboxError('payload_too_large', `a form has at most ${maxFiles} files`)),
  );
  pipeline(source, parser, (error) => {
    if (error) found.destroy(asBroken(error));
  });
  try {
    for await (const file of found) yield file as FormFile;
  } finally {
    source.destroy();
  }
}

function parserOf(headers: IncomingHttpHeaders): BusboyInstance {
  try {
    return new Busboy({
      headers: headers as BusboyHeaders,
      preservePath: true,
      limits: { files: maxFiles, fieldSize: 1024 * 1024 },
    });
  } catch (error) {
    throw asBroken(error);
  }
}

function asBroken(error: unknown): CryoboxError {
  if (error instanceof CryoboxError) return error;
  return new CryoboxError('invalid_argument', `the form cannot be read: ${messageOf(error)}`, {
    cause: error,
  });
}
