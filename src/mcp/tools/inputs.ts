import { z } from 'zod';
import { boxLimits } from '../../api/index.js';
import { mcpLimits } from '../options.js';

/** The box a tool is about. */
export const box = z
  .string()
  .min(1)
  .max(boxLimits.nameLength)
  .optional()
  .describe('Name or id of a box; without it, the box of this conversation');

/** A path in a box. */
export const path = z.string().startsWith('/').max(4096).describe('Absolute path in the box');

/** How long a command may take. */
export const timeoutMs = z
  .number()
  .int()
  .min(1)
  .max(mcpLimits.maxCommandMs)
  .default(mcpLimits.commandMs)
  .describe('It is killed after this time, in milliseconds');

/** Where a command runs. */
export const cwd = z.string().startsWith('/').max(4096).optional().describe('Directory it runs in');

/** Longest text of a command or program, in characters: what is longer is a file. */
export const maxProgramLength = 100_000;
