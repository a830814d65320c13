import type { DoctorCheck } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { createCommand } from '../command.js';
import { exitCodes } from '../failure.js';
import { printJson } from '../listing.js';
import { printable } from '../output/printable.js';
import { format } from '../specs.js';

export const doctor = createCommand({
  name: 'doctor',
  summary: 'check everything Cryobox needs of this host; ends with 1 when something is missing',
  args: {},
  options: { format },
  async handler(context, _, { format }) {
    const { home, url } = context.connection;
    if (url !== undefined) {
      throw new CryoboxError('unsupported', 'doctor checks this host, not a server', {
        hint: 'Run it on the host of the server.',
      });
    }
    const { runDoctor } = await import('../../home/installation.js');
    const checks = await runDoctor({ home });
    if (format === 'json') await printJson(context, checks);
    else await context.stdout.write(renderChecks(checks));
    return checks.some(({ status }) => status === 'failed') ? exitCodes.problemsFound : 0;
  },
});

/** A line per check, with its hint below when there is something to do. */
function renderChecks(checks: readonly DoctorCheck[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const indent = ' '.repeat('warning'.length + width + 4);
  const block = (text: string) => printable(text, { lines: true }).trimEnd().replaceAll('\n', `\n${indent}`);
  const lines = checks.flatMap(({ name, status, detail, hint }) => {
    const line = `${status.padEnd('warning'.length)}  ${name.padEnd(width)}  ${block(detail)}`;
    return hint === undefined ? [line] : [line, `${indent}-> ${block(hint)}`];
  });
  return `${lines.join('\n')}\n`;
}
