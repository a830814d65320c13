import { z } from 'zod';
import { type BoxInfo, boxLimits } from '../../api/index.js';
import { mcpLimits } from '../options.js';
import { type Tool, tool } from '../tool.js';
import { box } from './inputs.js';

/** A box as a model needs it. */
function facts({ id, name, status, image, cpus, memoryMiB, network, failure, createdAt }: BoxInfo) {
  return {
    id,
    name,
    status,
    image,
    cpus,
    memoryMiB,
    network: network.outbound,
    failure,
    createdAt: createdAt.toISOString(),
  };
}

function line({ id, name, status, image }: BoxInfo): string {
  return `${name ?? id} (${id}): ${status}, image ${image}`;
}

/** Tools that make, list, pause and remove boxes. */
export const boxTools: readonly Tool[] = [
  tool({
    name: 'create_box',
    title: 'Create a box',
    description:
      'Makes a small virtual machine. It is the box of this conversation from then on, is paused while it is not used, and goes on where it was at its next use. Other tools make one by themselves when there is none.',
    scope: 'box:write',
    effect: 'change',
    input: {
      image: z.string().min(1).max(2048).optional().describe('Image reference, such as debian-python'),
      name: z.string().min(1).max(boxLimits.nameLength).optional(),
      cpus: z.number().int().min(boxLimits.cpus.min).max(boxLimits.cpus.max).optional(),
      memoryMiB: z.number().int().min(boxLimits.memoryMiB.min).max(boxLimits.memoryMiB.max).optional(),
    },
    async run(input, { conversation, signal, onProgress }) {
      const made = await conversation.create({ ...input, signal, onProgress });
      const info = await made.info({ signal });
      return { text: line(info), data: { box: facts(info) } };
    },
  }),
  tool({
    name: 'list_boxes',
    title: 'List boxes',
    description: 'Lists boxes, newest first, with their states.',
    scope: 'box:read',
    effect: 'read',
    input: {
      limit: z.number().int().min(1).max(mcpLimits.entries).default(50),
      after: z.string().optional().describe('Id of the last box of the page before'),
    },
    async run({ limit, after }, { conversation, signal }) {
      const runtime = await conversation.settings.runtime();
      const found = await runtime.list({ limit: limit + 1, after, signal });
      const boxes = found.slice(0, limit);
      const more = found.length > limit ? boxes.at(-1)?.id : undefined;
      const lines = boxes.map(line);
      if (more) lines.push(`More with after=${more}`);
      return { text: lines.join('\n') || 'No boxes', data: { boxes: boxes.map(facts), more: more ?? null } };
    },
  }),
  tool({
    name: 'pause_box',
    title: 'Pause a box',
    description: 'Frees the memory of a box; its programs go on where they were at its next use.',
    scope: 'box:write',
    effect: 'change',
    idempotent: true,
    input: { box },
    async run({ box }, { conversation, signal }) {
      const paused = await conversation.existingBox(box, { signal });
      await paused.pause({ signal });
      return { text: `${paused.name ?? paused.id} is paused`, data: { id: paused.id } };
    },
  }),
  tool({
    name: 'remove_box',
    title: 'Remove a box',
    description: 'Removes a box with its files, memory and snapshots, whether it runs or not.',
    scope: 'box:delete',
    effect: 'destroy',
    input: { box },
    async run({ box }, { conversation, signal }) {
      const gone = await conversation.existingBox(box, { signal });
      await gone.remove({ force: true, signal });
      conversation.forget(gone);
      return { text: `${gone.name ?? gone.id} is removed`, data: { id: gone.id } };
    },
  }),
];
