import { type Command, createGroup } from '../command.js';
import { refusedCommands } from '../refused.js';
import { kill, lifetime, rename, restart, rm, start, stop, update } from './boxes.js';
import { complete, completion } from './completion.js';
import { clone, exportBox, importBox } from './copies.js';
import { cp } from './cp.js';
import { diff } from './diff.js';
import { doctor } from './doctor.js';
import { engine } from './engine.js';
import { events } from './events.js';
import { attach, exec } from './exec.js';
import { executions } from './executions.js';
import { images, pull, rmi } from './images.js';
import { info } from './info.js';
import { inspect } from './inspect.js';
import { limits } from './limits.js';
import { ls, ps } from './list.js';
import { logs, wait } from './logs.js';
import { mcp } from './mcp.js';
import { fork, pause, resume, template } from './memory.js';
import { adopt, release } from './moves.js';
import { net } from './network.js';
import { port } from './ports.js';
import { preview } from './previews.js';
import { recover } from './recover.js';
import { create, run } from './run.js';
import { secret } from './secrets.js';
import { keys, serve } from './serve.js';
import { setup } from './setup.js';
import { rollback, snapshot } from './snapshots.js';
import { ssh } from './ssh.js';
import { stats } from './stats.js';
import { pruneBoxesCommand, system, version } from './system.js';
import { top } from './top.js';
import { ui } from './ui.js';
import { gc, verify } from './upkeep.js';
import { volume } from './volumes.js';
import { watch } from './watch.js';

const lifecycle = [
  ...[run, create, exec, attach, start, stop, restart, kill, wait],
  ...[rename, update, lifetime, rm],
];
const looking = [ls, ps, inspect, logs, top, stats, net, port, preview, secret];

/** What container tools call boxes. */
const container = createGroup({
  name: 'container',
  summary: 'the commands for boxes, as container tools group them',
  hidden: true,
  commands: [...lifecycle, ...looking, cp, diff, pause, resume, pruneBoxesCommand],
});

/** Every command, in the order of the help. */
export const commandGroups: readonly { readonly heading: string; readonly commands: readonly Command[] }[] = [
  { heading: 'Boxes:', commands: [...lifecycle, ...looking, cp, watch, ssh, executions, container] },
  { heading: 'States:', commands: [snapshot, rollback, diff, clone, exportBox, importBox, release, adopt] },
  { heading: 'Memory:', commands: [pause, resume, fork, template] },
  { heading: 'Images and volumes:', commands: [images, pull, rmi, volume] },
  {
    heading: 'Upkeep:',
    commands: [setup, gc, verify, doctor, info, version, system, events, engine, completion, complete],
  },
  { heading: 'Server:', commands: [serve, recover, ui, keys, limits, mcp] },
  { heading: 'Elsewhere:', commands: refusedCommands },
];
