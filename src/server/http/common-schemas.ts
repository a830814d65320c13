import { z } from 'zod';

/** Schemas that the description of the API calls by a name. */
export const named = z.registry<{ id: string }>();

/** A switch in a query string. */
export const queryFlag = z.enum(['true', 'false']).transform((value) => value === 'true');

/** What a whole number looks like in a query string. */
export const wholeNumber = /^\d{1,15}$/;

/** A whole number in a query string. */
export const queryNumber = (min: number, max: number) =>
  z
    .string()
    .regex(wholeNumber, 'should be a whole number')
    .meta({ minimum: min, maximum: max })
    .transform(Number)
    .pipe(z.int().min(min).max(max));

/** Longest path in a box; Linux takes 4096 bytes (PATH_MAX). */
const pathLength = 4096;

/**
 * Query of a route that other servers of the v1 contract have too: their newer clients send parameters that mean
 * something to newer servers, and all of those servers ignore what they do not know. Our own routes refuse it.
 */
export const openQuery = <Shape extends z.ZodRawShape>(shape: Shape) => z.object(shape);

/** An absolute path in a box. */
export const guestPath = z
  .string()
  .min(1)
  .max(pathLength)
  .refine((path) => !path.includes('\0'), 'should hold no NUL');

/** `:id` of a box: its id, name, or the unique beginning of its id. */
export const boxParams = z.strictObject({ id: z.string().min(1).max(128) });

/** A body of which everything may be left out; no body is an empty one. */
export const optionalBody = <Shape extends z.ZodRawShape>(shape: Shape) => z.strictObject(shape);

/** Texts by name, such as an environment. */
export const textMap = z.record(z.string().min(1).max(1024), z.string().max(131_072));

/** Body of every answer that is not 2xx. */
export const errorBody = z
  .object({
    error: z
      .object({
        message: z.string(),
        type: z.string(),
        code: z.string(),
        reason: z.string().optional(),
        hint: z.string().optional(),
        details: z.record(z.string(), z.unknown()).optional(),
        request_id: z.string().optional(),
      })
      .register(named, { id: 'ErrorDetail' }),
  })
  .register(named, { id: 'ErrorAnswer' });
