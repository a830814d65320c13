import type { PublishedPort } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { createCommand } from '../command.js';
import { printJson } from '../listing.js';
import { format, many, optional, required } from '../specs.js';
import { requireBox } from '../targets.js';
import { parsePublish, parsePublished } from '../values.js';

/** As docker prints it. */
const lineOf = ({ guestPort, hostIp, hostPort, failure }: PublishedPort): string => {
  const address = hostIp.includes(':') ? `[${hostIp}]` : hostIp;
  return `${guestPort}/tcp -> ${address}:${hostPort}${failure === null ? '' : ` (${failure})`}`;
};

export const port = createCommand({
  name: 'port',
  summary: 'list the published ports of a box, or change them',
  args: {
    box: required('box', 'name or id'),
    guestPort: optional('port', 'port in the box: prints only where it is published'),
  },
  options: {
    publish: many('-p, --publish <[[ip:]port:]port>', 'publish a port of the box', parsePublish),
    unpublish: many('--unpublish <[ip:]port>', 'end a published port of the host', parsePublished),
    format,
  },
  async handler(context, { box: name, guestPort }, { publish, unpublish, format }) {
    const { signal } = context;
    const box = await requireBox(context, name);
    for (const { hostPort, hostIp } of unpublish) await box.ports.unpublish(hostPort, { hostIp, signal });
    for (const wanted of publish) await box.ports.publish({ ...wanted, signal });
    const all = await box.ports.list({ signal });
    const shown = guestPort === undefined ? all : all.filter((it) => isGuestPort(it, guestPort));
    if (guestPort !== undefined && shown.length === 0) {
      throw new CryoboxError('not_found', `port ${guestPort} of box ${name} is not published`, {
        hint: `Publish it: \`cryobox port ${name} -p HOSTPORT:${guestPort}\`.`,
      });
    }
    if (format === 'json') await printJson(context, shown);
    else for (const each of shown) await context.stdout.line(lineOf(each));
  },
});

const isGuestPort = (port: PublishedPort, text: string): boolean =>
  String(port.guestPort) === text.replace(/\/tcp$/, '');
