import { isIP } from 'node:net';
import { boxLimits, type PublishOptions } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { checkInteger } from './integers.js';

const maxPort = 65_535;

const known: Readonly<Record<keyof PublishOptions, true>> = { guestPort: true, hostPort: true, hostIp: true };

/** Throws `invalid_argument` for ports that cannot be published, `unsupported` naming a member that is not known. */
export function checkPorts(ports: readonly PublishOptions[] = []): void {
  if (!Array.isArray(ports)) throw invalid('ports must be a list');
  if (ports.length > boxLimits.ports) {
    throw invalid(`a box has at most ${boxLimits.ports} published ports, got ${ports.length}`);
  }
  for (const [index, port] of ports.entries()) checkPort(port, `ports[${index}].`);
  const places = ports.map(({ hostIp, hostPort }) => hostPort !== undefined && `${hostIp ?? ''}:${hostPort}`);
  const twice = places.find((place, index) => place !== false && places.indexOf(place) < index);
  if (twice !== undefined) throw invalid(`ports has the host's port ${twice} twice`);
}

/** The same of one port; `where` is put before the names in messages. */
export function checkPort(port: PublishOptions, where = ''): void {
  if (typeof port !== 'object' || port === null) throw invalid(`${where || 'a port'} must be an object`);
  const unknown = Object.keys(port).filter((name) => !(name in known));
  if (unknown.length > 0) {
    throw new CryoboxError('unsupported', `not supported: ${where}${unknown[0]}`, {
      hint: 'A published port has guestPort, hostPort and hostIp; all are TCP.',
      details: { options: unknown },
    });
  }
  if (port.guestPort === undefined) throw invalid(`${where}guestPort is missing`);
  checkInteger(`${where}guestPort`, port.guestPort, 1, maxPort);
  checkInteger(`${where}hostPort`, port.hostPort, 1, maxPort);
  if (port.hostIp !== undefined && isIP(port.hostIp) === 0) {
    throw invalid(
      `${where}hostIp must be an address, got ${JSON.stringify(String(port.hostIp).slice(0, 60))}`,
    );
  }
}

const invalid = (message: string): CryoboxError => new CryoboxError('invalid_argument', message);
