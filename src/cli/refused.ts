import { CryoboxError } from '../errors.js';
import { type Command, createCommand, type RefusedOption } from './command.js';
import { rest } from './specs.js';

/**
 * Words of container tools that have no meaning for a box, each with what to use instead. Not in the help; refused by
 * name, never ignored.
 */

const boot =
  'A box is a machine of its own: set it in the box, such as `cryobox exec BOX sysctl -w NAME=VALUE`.';
const ports = 'Name each port: `-p 8080:8000`, or `-p 8000` for a port of the host that is free.';
const hardware =
  'A box has no devices of the host. Its own processors and memory are set by --cpus and --memory.';
const whole = 'Processors and memory of a box are its own: set --cpus and --memory.';
const disks =
  'A box has no devices of the host: limit its own disks by --disk-read-bps, --disk-write-bps, --disk-read-iops and --disk-write-iops.';
const names = 'Write the name into /etc/hosts of the box, such as with `cryobox exec BOX`.';
const namespaces = 'A box is a machine of its own and shares no namespace with the host or another box.';

const option = (flags: string, instead: string): RefusedOption => ({ flags, instead });

const shape = 'Make a box with other --cpus and --memory; `cryobox clone` keeps its disks.';

/** Of `update`. */
export const refusedChanges: readonly RefusedOption[] = [
  option('-m, --memory <size>', shape),
  option('--cpus <count>', shape),
  option('--restart <policy>', 'A box that is stopped starts by itself with the next exec or cp.'),
];

/** Of `run` and `create`. */
export const refusedBoxOptions: readonly RefusedOption[] = [
  option(
    '--privileged',
    'Root in a box has the whole kernel of the box already; `--cap-add ALL` undoes an earlier --cap-drop.',
  ),
  option('-P, --publish-all', ports),
  option('--device <device>', hardware),
  option('--gpus <gpus>', hardware),
  option('--tmpfs <path>', 'Mount it in the box: `cryobox exec BOX mount -t tmpfs none /PATH`.'),
  option('--shm-size <size>', 'Mount it in the box: `cryobox exec BOX mount -o remount,size=SIZE /dev/shm`.'),
  option('--read-only', 'Take a snapshot and go back to it: `cryobox snapshot create`, `cryobox rollback`.'),
  option('--restart <policy>', 'A box that is stopped starts by itself with the next exec or cp.'),
  option('--volumes-from <box>', 'Name the volumes: `-v NAME:/PATH`.'),
  option('--sysctl <setting>', boot),
  option(
    '--ulimit <limit>',
    'Set it for the command: `cryobox exec BOX sh -c "ulimit -n 4096; exec COMMAND"`.',
  ),
  option('--security-opt <option>', 'Every box is a machine of its own; use --cap-drop within it.'),
  option('--dns <address>', 'Write it into /etc/resolv.conf of the box.'),
  option('--add-host <host>', names),
  option('--link <box>', names),
  option('--ip <address>', 'Every box has a network of its own; use --network outbound or none.'),
  option('--mac-address <address>', 'Every box gets an address of its own.'),
  option('--network-alias <name>', 'Boxes do not see each other; use --network outbound or none.'),
  option('--ipc <mode>', namespaces),
  option('--pid <mode>', namespaces),
  option('--uts <mode>', namespaces),
  option('--userns <mode>', namespaces),
  option('--cgroupns <mode>', namespaces),
  option('-c, --cpu-shares <shares>', whole),
  option('--cpuset-cpus <cpus>', whole),
  option('--memory-swap <size>', whole),
  option('--pids-limit <count>', 'A box has process ids of its own, and cannot use up those of the host.'),
  option('--device-read-bps <limit>', disks),
  option('--device-write-bps <limit>', disks),
  option('--device-read-iops <limit>', disks),
  option('--device-write-iops <limit>', disks),
  option('--group-add <group>', 'Write the group with the user: `-u USER:GROUP`.'),
  option('--stop-signal <signal>', 'Send it by `cryobox kill --signal`.'),
  option('--stop-timeout <seconds>', 'Say it when you stop the box: `cryobox stop -t SECONDS`.'),
  option('--health-cmd <command>', 'Ask from outside: `cryobox exec BOX COMMAND`.'),
  option('--log-driver <driver>', 'Read what it writes by `cryobox logs` or `cryobox attach`.'),
  option('--cidfile <file>', 'The id is printed: `cryobox create IMAGE > FILE`.'),
  option('--isolation <mode>', 'Every box is a virtual machine.'),
  option('--runtime <runtime>', 'Every box is a virtual machine.'),
];

/** Of `exec`. */
export const refusedExecOptions: readonly RefusedOption[] = [
  option('--privileged', 'Root in a box has the whole kernel of the box already: add `-u root`.'),
];

function refusedCommand(name: string, instead: string): Command {
  return createCommand({
    name,
    summary: `not in Cryobox: ${instead}`,
    hidden: true,
    anyOptions: true,
    args: { words: rest('word', 'ignored') },
    options: {},
    async handler() {
      throw new CryoboxError('unsupported', `there is no command ${name}`, { hint: instead });
    },
  });
}

const registryLogin =
  'Registries are asked with the credentials of ~/.docker/config.json, or `cryobox pull --username NAME --password-stdin`.';
const noDaemonGroup = 'Cryobox runs boxes on one host: `cryobox run`, or the SDK for more.';

/** Commands of container tools that have no meaning here. */
export const refusedCommands: readonly Command[] = [
  refusedCommand(
    'network',
    'Every box has a network of its own; use --network outbound or none, --allow-net, or `cryobox net BOX`.',
  ),
  refusedCommand(
    'build',
    'Use `cryobox images build NAME --packages ...`, or build elsewhere and `cryobox images import FILE`.',
  ),
  refusedCommand('buildx', 'Build elsewhere and `cryobox images import FILE`.'),
  refusedCommand('builder', 'Use `cryobox images build`; `cryobox gc` frees what is left over.'),
  refusedCommand('compose', noDaemonGroup),
  refusedCommand('swarm', noDaemonGroup),
  refusedCommand('stack', noDaemonGroup),
  refusedCommand('service', noDaemonGroup),
  refusedCommand('node', noDaemonGroup),
  refusedCommand('context', 'Choose where to go by --home or --url, or by CRYOBOX_HOME and CRYOBOX_URL.'),
  refusedCommand('login', registryLogin),
  refusedCommand('logout', registryLogin),
  refusedCommand('search', 'Name the image: `cryobox pull REGISTRY/NAME:TAG`.'),
  refusedCommand(
    'push',
    'Images are only read from registries. Move boxes by `cryobox export` and `cryobox import`.',
  ),
  refusedCommand('load', 'Use `cryobox images import FILE`.'),
  refusedCommand('history', 'Use `cryobox images inspect IMAGE`.'),
  refusedCommand('plugin', 'There are no plugins.'),
];
