import type { FileInfo } from '../../api/index.js';
import { isCryoboxError } from '../../errors.js';
import { createCommand } from '../command.js';
import { printListing } from '../listing.js';
import { formatBytes } from '../output/units.js';
import { format, required, rest } from '../specs.js';
import { requireBox, requireRunning } from '../targets.js';

interface Process {
  readonly pid: number;
  readonly ppid: number;
  readonly uid: number;
  readonly state: string;
  readonly memoryBytes: number;
  readonly command: string;
}

/** Looks at /proc through the files of the box, so that the image needs neither a shell nor ps(1). */
export const top = createCommand({
  name: 'top',
  summary: 'list the processes of a box',
  args: { box: required('box', 'name or id'), options: rest('option', 'ignored: options of ps') },
  options: { format },
  anyOptions: true,
  async handler(context, { box: name }, { format }) {
    const box = await requireBox(context, name);
    await requireRunning(context, box);
    const { signal } = context;
    const entries = await box.files.list('/proc', { signal });
    const found = await Promise.all(
      entries
        .filter(isProcess)
        .map(({ path }) => readProcess((file) => box.files.read(`${path}/${file}`, { signal }))),
    );
    const processes = found.filter((it) => it !== null);
    await printListing(context, format, processes, [
      { header: 'UID', cell: (it) => it.uid, align: 'right' },
      { header: 'PID', cell: (it) => it.pid, align: 'right' },
      { header: 'PPID', cell: (it) => it.ppid, align: 'right' },
      { header: 'STATE', cell: (it) => it.state },
      { header: 'MEMORY', cell: (it) => formatBytes(it.memoryBytes), align: 'right' },
      { header: 'COMMAND', cell: (it) => it.command },
    ]);
  },
});

const isProcess = ({ path }: FileInfo): boolean => /\/\d+$/.test(path);

/** Null for a thread of the kernel, which has no memory of its own, and for what has ended meanwhile. */
async function readProcess(read: (file: string) => Promise<Buffer>): Promise<Process | null> {
  let status: string;
  let words: string[];
  try {
    status = (await read('status')).toString();
    words = (await read('cmdline')).toString().split('\0').filter(Boolean);
  } catch (error) {
    if (isCryoboxError(error, 'not_found') || isCryoboxError(error, 'storage_error')) return null;
    throw error;
  }
  const field = (name: string): string => new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1] ?? '';
  const state = field('State');
  if (field('VmRSS') === '' && state !== 'Z') return null;
  return {
    pid: Number(field('Pid')),
    ppid: Number(field('PPid')),
    uid: Number(field('Uid')),
    state,
    memoryBytes: Number(field('VmRSS')) * 1024,
    command: words.length > 0 ? words.join(' ') : `[${field('Name')}]`,
  };
}
