import type { Command } from '../command.js';
import { inspect, logs, ls, rm, start, stop } from './boxes.js';
import { clone, exportBox, importBox } from './copies.js';
import { cp } from './cp.js';
import { doctor } from './doctor.js';
import { engine } from './engine.js';
import { attach, exec } from './exec.js';
import { images, pull } from './images.js';
import { info } from './info.js';
import { fork, pause, resume, template } from './memory.js';
import { create, run } from './run.js';
import { keys, serve } from './serve.js';
import { rollback, snapshot } from './snapshots.js';
import { gc, verify } from './upkeep.js';
import { volume } from './volumes.js';

/** Every command, in the order of the help. */
export const commandGroups: readonly { readonly heading: string; readonly commands: readonly Command[] }[] = [
  {
    heading: 'Boxes:',
    commands: [run, create, exec, attach, start, stop, rm, ls, inspect, logs, cp],
  },
  { heading: 'States:', commands: [snapshot, rollback, clone, exportBox, importBox] },
  { heading: 'Memory:', commands: [pause, resume, fork, template] },
  { heading: 'Images and volumes:', commands: [images, pull, volume] },
  { heading: 'Upkeep:', commands: [gc, verify, doctor, info, engine] },
  { heading: 'Server:', commands: [serve, keys] },
];
