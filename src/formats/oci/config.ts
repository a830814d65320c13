import { z } from 'zod';
import { CryoboxError } from '../../errors.js';
import { isDigest } from './digest.js';
import { parseDocument } from './documents.js';
import type { Platform } from './platform.js';

/** How a box of an image starts, from the image's config with its defaults filled in. */
export interface ImageConfig {
  readonly env: Readonly<Record<string, string>>;
  /** Absolute. @default '/' */
  readonly workingDir: string;
  /** Name or uid, with `:group` when one is given; empty means root. */
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Such as `80/tcp`. */
  readonly exposedPorts: readonly string[];
  readonly volumes: readonly string[];
  readonly stopSignal: string | undefined;
}

/** All that is read of a config document. */
export interface ParsedConfig {
  readonly config: ImageConfig;
  readonly platform: Platform;
  /** Digest of each layer's unpacked tar, lowest first. */
  readonly diffIds: readonly string[];
  /** When the image was made, as its config says. */
  readonly createdAt: string | undefined;
}

/** A text that can become an argument or an environment variable of a Linux process. */
const text = z.string().refine((value) => !value.includes('\0'), 'holds a NUL');
/** The keys are the set; docker writes `null` for an empty one. */
const keys = z.record(text, z.unknown()).nullish();

const schema = z.object({
  architecture: text,
  os: text,
  variant: text.nullish(),
  created: z.string().nullish(),
  config: z
    .object({
      Env: z.array(text).nullish(),
      WorkingDir: text.nullish(),
      User: text.nullish(),
      Entrypoint: z.array(text).nullish(),
      Cmd: z.array(text).nullish(),
      Labels: z.record(text, text).nullish(),
      ExposedPorts: keys,
      Volumes: keys,
      StopSignal: text.nullish(),
    })
    .nullish(),
  rootfs: z.object({
    type: z.literal('layers').nullish(),
    diff_ids: z.array(z.string().refine(isDigest, 'is no digest')).nullable(),
  }),
});

/** Parses a config document (OCI image spec, "Image Configuration"). Throws `image_invalid` naming the field. */
export function parseConfig(bytes: Buffer): ParsedConfig {
  const document = parseDocument(bytes, schema, 'config');
  const config = document.config ?? {};
  const variant = document.variant ?? undefined;
  return {
    config: {
      env: parseEnv(config.Env ?? []),
      workingDir: absolute(config.WorkingDir ?? ''),
      user: userOf(config.User ?? ''),
      entrypoint: config.Entrypoint ?? [],
      cmd: config.Cmd ?? [],
      labels: config.Labels ?? {},
      exposedPorts: Object.keys(config.ExposedPorts ?? {}),
      volumes: Object.keys(config.Volumes ?? {}),
      stopSignal: config.StopSignal ?? undefined,
    },
    platform: { os: document.os, architecture: document.architecture, ...(variant ? { variant } : {}) },
    diffIds: document.rootfs.diff_ids ?? [],
    createdAt: document.created ?? undefined,
  };
}

/** A later line of the same name wins, as in a process's environment; a line without `=` is a name without value. */
function parseEnv(lines: readonly string[]): Record<string, string> {
  const env: [string, string][] = lines.map((line) => {
    const equals = line.indexOf('=');
    if (equals === 0)
      throw new CryoboxError(
        'image_invalid',
        `the image's config has the variable ${JSON.stringify(line)} without a name`,
      );
    return equals < 0 ? [line, ''] : [line.slice(0, equals), line.slice(equals + 1)];
  });
  // fromEntries defines own properties, so that a variable called __proto__ is one like any other.
  return Object.fromEntries(env);
}

/** A group alone belongs to root, as container tools take it. */
function userOf(user: string): string {
  return user.startsWith(':') ? `0${user}` : user;
}

function absolute(directory: string): string {
  return directory.startsWith('/') ? directory : `/${directory}`;
}
