import {
  type NetworkDenial,
  type NetworkInfo,
  type NetworkRateLimit,
  previewAccesses,
} from '../../api/index.js';
import { boxOptionSpecs, networkOptions } from '../box-options.js';
import { createCommand } from '../command.js';
import { printOne } from '../listing.js';
import { formatBytes } from '../output/units.js';
import { flag, format, required, value } from '../specs.js';
import { requireBox } from '../targets.js';
import { oneOf } from '../values.js';

/** What a box may reach. `network` is a word of container tools for another thing. */
export const net = createCommand({
  name: 'net',
  summary: 'show what a box may reach and what was refused, or change it',
  args: { box: required('box', 'name or id') },
  options: {
    network: boxOptionSpecs.network,
    allowNet: boxOptionSpecs.allowNet,
    denyNet: boxOptionSpecs.denyNet,
    netSendBps: boxOptionSpecs.netSendBps,
    netReceiveBps: boxOptionSpecs.netReceiveBps,
    clear: flag('--clear', 'no lists and no limits any more'),
    inbound: value(
      '--inbound <who>',
      'private, or public: everybody who knows the id of the box reaches its ports (docs/networking.md)',
      oneOf(...previewAccesses),
    ),
    format,
  },
  async handler(context, { box: name }, { clear, inbound, format, ...options }) {
    const { signal } = context;
    const box = await requireBox(context, name);
    if (inbound !== undefined) await box.network.setInbound(inbound, { signal });
    const wanted = networkOptions(options) ?? (clear ? {} : undefined);
    // What is not said stays.
    const before = (await box.info({ signal })).network;
    const kept = clear ? { outbound: before.outbound } : before;
    const info =
      wanted === undefined
        ? await box.network.info({ signal })
        : await box.network.update({ ...kept, ...wanted, signal });
    await printOne(context, format, info, facts, (it) => it);
  },
});

function facts({
  outbound,
  allowNet,
  denyNet,
  rateLimit,
  inbound,
  traffic,
}: NetworkInfo): Record<string, string | number | null> {
  return {
    network: outbound === 'enabled' ? 'outbound' : 'none',
    allowed: allowNet.join(' ') || null,
    denied: denyNet.join(' ') || null,
    ports: inbound,
    ...(rateLimit && { limits: limitText(rateLimit) }),
    ...(traffic && {
      sent: formatBytes(traffic.bytesSent),
      received: formatBytes(traffic.bytesReceived),
      connections: `${traffic.connectionsOpen} open, ${traffic.connectionsOpened} made, ${traffic.connectionsFailed} failed`,
      ...Object.fromEntries(traffic.denials.slice(-20).map((it) => [`refused ${it.seq}`, denialText(it)])),
    }),
  };
}

function limitText({ sendBytesPerSecond: send, receiveBytesPerSecond: receive }: NetworkRateLimit): string {
  const text = (limit: number | undefined): string =>
    limit === undefined ? 'any' : `${formatBytes(limit)}/s`;
  return `${text(send)} out, ${text(receive)} in`;
}

function denialText({ reason, protocol, name, address, port, count }: NetworkDenial): string {
  const where = [name, address && (port === 0 ? address : `${address}:${port}`)].filter(Boolean).join(' ');
  return `${protocol} ${where}: ${reason}${count > 1 ? `, ${count} times` : ''}`;
}
