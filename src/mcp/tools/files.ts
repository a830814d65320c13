import { z } from 'zod';
import type { Box } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { mcpLimits } from '../options.js';
import { runCommand } from '../run-command.js';
import { type Tool, tool } from '../tool.js';
import { box, path } from './inputs.js';

const encoding = z.enum(['utf8', 'base64']).default('utf8');

/** A piece of a file, from an offset; reads no more of it than that. */
async function piece(
  where: Box,
  path: string,
  {
    offset,
    limit,
    signal,
  }: { readonly offset: number; readonly limit: number; readonly signal: AbortSignal },
): Promise<{ readonly bytes: Buffer; readonly more: boolean }> {
  const chunks: Uint8Array[] = [];
  let at = 0;
  let kept = 0;
  for await (const chunk of await where.files.readStream(path, { signal })) {
    const wanted = chunk.subarray(Math.max(0, offset - at));
    at += chunk.length;
    if (wanted.length === 0) continue;
    chunks.push(wanted.subarray(0, limit - kept));
    kept += wanted.length;
    if (kept > limit) break;
  }
  return { bytes: Buffer.concat(chunks), more: kept > limit };
}

/** Tools that work with files of a box. */
export const fileTools: readonly Tool[] = [
  tool({
    name: 'write_file',
    title: 'Write a file',
    description: 'Writes a whole file in the box, with its parent directories.',
    scope: 'box:write',
    effect: 'change',
    idempotent: true,
    input: { path, content: z.string().max(mcpLimits.writtenBytes), encoding, box },
    async run({ path, content, encoding, box }, call) {
      const bytes = Buffer.from(content, encoding);
      if (
        encoding === 'base64' &&
        bytes.toString('base64').replace(/=+$/, '') !== content.replace(/=+$/, '')
      ) {
        throw new CryoboxError('invalid_argument', 'content is not base64', {
          details: { field: 'content' },
        });
      }
      const where = await call.conversation.box(box, call);
      await where.files.write(path, bytes, { signal: call.signal });
      return { text: `${bytes.length} bytes written to ${path}`, data: { path, bytes: bytes.length } };
    },
  }),
  tool({
    name: 'read_file',
    title: 'Read a file',
    description: `Reads a file of the box, at most ${mcpLimits.fileBytes} bytes at once; offset reads on.`,
    scope: 'box:read',
    effect: 'read',
    input: {
      path,
      offset: z.number().int().min(0).default(0).describe('In bytes'),
      limit: z.number().int().min(1).max(mcpLimits.fileBytes).default(mcpLimits.fileBytes),
      encoding,
      box,
    },
    async run({ path, offset, limit, encoding, box }, { conversation, signal }) {
      const where = await conversation.existingBox(box, { signal });
      const { bytes, more } = await piece(where, path, { offset, limit, signal });
      const content = bytes.toString(encoding);
      const end = offset + bytes.length;
      const text = more ? `${content}\n[... more with offset=${end} ...]` : content;
      return { text, data: { path, content, bytes: bytes.length, next: more ? end : null } };
    },
  }),
  tool({
    name: 'list_files',
    title: 'List a directory',
    description: 'Lists what is in a directory of the box.',
    scope: 'box:read',
    effect: 'read',
    input: { path, box },
    async run({ path, box }, { conversation, signal }) {
      const where = await conversation.existingBox(box, { signal });
      const found = await where.files.list(path, { signal });
      const entries = found.slice(0, mcpLimits.entries).map((it) => ({
        path: it.path,
        type: it.type,
        sizeBytes: it.sizeBytes,
        modifiedAt: it.modifiedAt.toISOString(),
      }));
      const cut = found.length - entries.length;
      const lines = entries.map((it) => `${it.type}\t${it.sizeBytes}\t${it.path}`);
      if (cut > 0) lines.push(`[... ${cut} entries cut ...]`);
      return { text: lines.join('\n') || 'empty', data: { entries, cutEntries: cut } };
    },
  }),
  tool({
    name: 'search_files',
    title: 'Search in files',
    description: 'Lines of files below a directory of the box that match an extended regular expression.',
    scope: 'box:exec',
    effect: 'read',
    input: { pattern: z.string().min(1).max(1000), path, box },
    async run({ pattern, path, box }, call) {
      const where = await call.conversation.existingBox(box, call);
      // The count is taken where the lines are, so that no more of them cross over than are shown.
      const line = `grep -rnIE -e "$1" -- "$2" | head -n ${mcpLimits.entries + 1}`;
      const { stdout, stderr } = await runCommand(
        where,
        ['sh', '-c', line, 'sh', pattern, path],
        { timeoutMs: mcpLimits.commandMs },
        call,
      );
      const lines = stdout.text.split('\n').filter(Boolean);
      const shown = lines.slice(0, mcpLimits.entries);
      const cut = lines.length > shown.length || stdout.cutBytes > 0;
      if (shown.length === 0 && stderr.text) throw new CryoboxError('invalid_argument', stderr.text.trim());
      const text = [...shown, ...(cut ? ['[... more lines match ...]'] : [])].join('\n');
      return { text: text || 'nothing matches', data: { lines: shown, cut } };
    },
  }),
];
