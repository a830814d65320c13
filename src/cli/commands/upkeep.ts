import { createCommand } from '../command.js';
import { exitCodes } from '../failure.js';
import { printJson, printListing } from '../listing.js';
import { formatBytes } from '../output/units.js';
import { flag, format } from '../specs.js';

export const gc = createCommand({
  name: 'gc',
  summary: 'delete what nothing holds any more',
  args: {},
  options: { dryRun: flag('--dry-run', 'only say what would be deleted'), format },
  async handler(context, _, { dryRun, format }) {
    const runtime = await context.runtime();
    const result = await runtime.gc({ dryRun, signal: context.signal });
    if (format === 'json') return await printJson(context, result);
    await printListing(context, format, result.removed, [
      { header: dryRun ? 'WOULD REMOVE' : 'REMOVED', cell: (it) => it.path },
      { header: 'SIZE', cell: (it) => formatBytes(it.bytes), align: 'right' },
    ]);
    await context.stderr.line(`${dryRun ? 'would free' : 'freed'} ${formatBytes(result.freedBytes)}`);
  },
});

export const verify = createCommand({
  name: 'verify',
  summary: 'check all layers and the database against each other',
  args: {},
  options: { format },
  async handler(context, _, { format }) {
    const runtime = await context.runtime();
    const result = await context.withProgress((onProgress) =>
      runtime.verify({ onProgress, signal: context.signal }),
    );
    if (format === 'json') await printJson(context, result);
    else if (result.problems.length > 0) {
      await printListing(context, format, result.problems, [
        { header: 'WHAT', cell: (it) => it.what },
        { header: 'PROBLEM', cell: (it) => it.problem },
      ]);
    }
    const found = result.ok ? 'all is well' : `${result.problems.length} problems`;
    await context.stderr.line(`${result.checkedLayers} layers checked, ${found}`);
    return result.ok ? 0 : exitCodes.problemsFound;
  },
});
