import { InvalidArgumentError } from 'commander';
import type { VolumeMount } from '../api/index.js';

const durationUnits: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Milliseconds of `500ms`, `30s`, `5m`, `2h`, `1d` or a plain number of seconds. */
export function parseDurationMs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/.exec(text);
  const unit = durationUnits[match?.[2] ?? 's'];
  if (!match || unit === undefined) {
    throw new InvalidArgumentError('Expected a duration such as 30s, 5m or 2h.');
  }
  return Math.round(Number(match[1]) * unit);
}

/** Whole seconds of a duration, as {@link parseDurationMs}. */
export function parseDurationSeconds(text: string): number {
  const ms = parseDurationMs(text);
  if (ms % 1000 !== 0) throw new InvalidArgumentError('Expected whole seconds.');
  return ms / 1000;
}

/** MiB of `512`, `512m` or `2g`. */
export function parseMemoryMiB(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(m|g)?(?:i?b)?$/i.exec(text);
  const mib = Number(match?.[1]) * (match?.[2]?.toLowerCase() === 'g' ? 1024 : 1);
  if (!Number.isInteger(mib)) {
    throw new InvalidArgumentError('Expected MiB or a size such as 512m or 2g.');
  }
  return mib;
}

/** GiB of `10` or `10g`. */
export function parseDiskGb(text: string): number {
  const match = /^(\d+)(?:g(?:i?b)?)?$/i.exec(text);
  if (!match) throw new InvalidArgumentError('Expected whole GiB such as 10 or 10g.');
  return Number(match[1]);
}

/** A whole number of at least 0; its range is checked by the engine. */
export function parseCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Expected a whole number.');
  return Number(text);
}

/** `KEY=VALUE`; a lone `KEY` takes its value from this process, as container tools do. */
export function parseEnvironment(text: string): readonly [string, string] {
  const [key, value] = splitPair(text);
  if (value !== undefined) return [key, value];
  const inherited = process.env[key];
  if (inherited === undefined) throw new InvalidArgumentError(`${key} is not set here; write ${key}=VALUE.`);
  return [key, inherited];
}

/** `KEY=VALUE`, or `KEY` for an empty value. */
export function parseLabel(text: string): readonly [string, string] {
  const [key, value] = splitPair(text);
  return [key, value ?? ''];
}

function splitPair(text: string): readonly [string, string | undefined] {
  const at = text.indexOf('=');
  const key = at < 0 ? text : text.slice(0, at);
  if (key === '') throw new InvalidArgumentError('Expected KEY=VALUE.');
  return [key, at < 0 ? undefined : text.slice(at + 1)];
}

/** The parts of a list separated by commas or white space. */
export function parseList(text: string): readonly string[] {
  return text.split(/[\s,]+/).filter((part) => part !== '');
}

/** A parser that accepts one of some words. */
export function oneOf<const T extends string>(...words: readonly T[]): (text: string) => T {
  return (text) => {
    const word = words.find((candidate) => candidate === text);
    if (word === undefined) throw new InvalidArgumentError(`Expected one of ${words.join(', ')}.`);
    return word;
  };
}

/** `name:/path` or `name:/path:ro`. */
export function parseVolume(text: string): VolumeMount {
  const [volume = '', guestPath = '', mode, ...more] = text.split(':');
  const known = mode === undefined || mode === 'ro' || mode === 'rw';
  if (volume === '' || !guestPath.startsWith('/') || !known || more.length > 0) {
    throw new InvalidArgumentError('Expected NAME:/PATH or NAME:/PATH:ro.');
  }
  return { volume, guestPath, ...(mode === 'ro' && { readOnly: true }) };
}
