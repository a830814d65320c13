import { InvalidArgumentError } from 'commander';
import type { PublishOptions, VolumeMount } from '../api/index.js';
import { CryoboxError } from '../errors.js';

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

/** Bytes of `65536`, `512k`, `10m` or `1g`: powers of 1024. */
export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([kmgt])?(?:i?b)?$/i.exec(text);
  const power = ['k', 'm', 'g', 't'].indexOf(match?.[2]?.toLowerCase() ?? '') + 1;
  const bytes = Number(match?.[1]) * 1024 ** power;
  if (!Number.isInteger(bytes))
    throw new InvalidArgumentError('Expected bytes, or a size such as 512k or 10m.');
  return bytes;
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

/** `outbound`, which container tools call `bridge`, or `none`. */
export function parseNetwork(text: string): 'outbound' | 'none' {
  if (text === 'bridge' || text === 'default') return 'outbound';
  return oneOf('outbound', 'none')(text);
}

const mountKeys: Readonly<Record<string, 'source' | 'target' | 'readonly' | 'type'>> = {
  type: 'type',
  source: 'source',
  src: 'source',
  target: 'target',
  destination: 'target',
  dst: 'target',
  readonly: 'readonly',
  ro: 'readonly',
};

/** `type=volume,source=NAME,target=/PATH[,readonly]`. @throws {CryoboxError} `unsupported` for another type */
export function parseMount(text: string): VolumeMount {
  const parts: Partial<Record<'source' | 'target' | 'readonly' | 'type', string>> = {};
  for (const part of text.split(',')) {
    const at = part.indexOf('=');
    const name = mountKeys[at < 0 ? part : part.slice(0, at)];
    if (!name)
      throw new InvalidArgumentError(
        `${JSON.stringify(part)} is none of ${Object.keys(mountKeys).join(', ')}.`,
      );
    parts[name] = at < 0 ? 'true' : part.slice(at + 1);
  }
  const { type = 'volume', source = '', target = '', readonly = 'false' } = parts;
  if (type !== 'volume') {
    throw new CryoboxError(
      'unsupported',
      `a mount of type ${JSON.stringify(type)} has no meaning for a box`,
      {
        hint:
          type === 'tmpfs'
            ? `Mount it in the box: \`cryobox exec BOX mount -t tmpfs none ${target || '/PATH'}\`.`
            : 'Directories of the host are not mounted: use a volume (`-v NAME:/PATH`), or `cryobox cp`.',
      },
    );
  }
  return parseVolume(`${source}:${target}${readonly === 'false' ? '' : ':ro'}`);
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

/** `8000`, `8080:8000`, `127.0.0.1:8080:8000` or `[::1]:8080:8000`, as docker reads them; TCP only. */
export function parsePublish(text: string): PublishOptions {
  const [, ports = '', protocol = 'tcp'] = /^(.*?)(?:\/(\w+))?$/.exec(text) ?? [];
  const [, ip, host = '', guest] = /^(?:(?:(\[[^\]]+\]|[^:]+):)?(\d*):)?(\d+)$/.exec(ports) ?? [];
  if (guest === undefined) {
    throw new InvalidArgumentError('Expected PORT, HOSTPORT:PORT or ADDRESS:HOSTPORT:PORT.');
  }
  if (protocol !== 'tcp') throw new InvalidArgumentError('Only TCP ports are published.');
  return {
    guestPort: Number(guest),
    ...(host !== '' && { hostPort: Number(host) }),
    ...(ip !== undefined && { hostIp: ip.replace(/^\[|\]$/g, '') }),
  };
}

/** A published port of the host: `8080` or `127.0.0.1:8080`. */
export function parsePublished(text: string): { readonly hostPort: number; readonly hostIp?: string } {
  const [, ip, port] = /^(?:(\[[^\]]+\]|[^:]+):)?(\d{1,5})$/.exec(text) ?? [];
  if (port === undefined) throw new InvalidArgumentError('Expected HOSTPORT or ADDRESS:HOSTPORT.');
  return { hostPort: Number(port), ...(ip !== undefined && { hostIp: ip.replace(/^\[|\]$/g, '') }) };
}

/** A signal by number or name, such as `15`, `TERM` or `SIGTERM`. */
export function parseSignal(text: string): number | string {
  if (/^\d{1,2}$/.test(text)) return Number(text);
  const name = text.toUpperCase();
  return name.startsWith('SIG') ? name : `SIG${name}`;
}
