import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  oneOf,
  parseCount,
  parseDiskGb,
  parseDurationMs,
  parseDurationSeconds,
  parseEnvironment,
  parseLabel,
  parseList,
  parseMemoryMiB,
  parsePublish,
  parsePublished,
  parseVolume,
} from '../../src/cli/values.js';

describe('durations', () => {
  it.each([
    ['500ms', 500],
    ['30s', 30_000],
    ['30', 30_000],
    ['1.5m', 90_000],
    ['2h', 7_200_000],
    ['1d', 86_400_000],
    ['0', 0],
  ])('%s is %i ms', (text, ms) => {
    expect(parseDurationMs(text)).toBe(ms);
  });

  it.each(['', 's', '-1s', '1w', '1 s', '1e3', 'NaN', '1m30s'])('refuses %j', (text) => {
    expect(() => parseDurationMs(text)).toThrow('Expected a duration such as 30s, 5m or 2h.');
  });

  it('refuses fractions where seconds are counted', () => {
    expect(parseDurationSeconds('5m')).toBe(300);
    expect(() => parseDurationSeconds('1500ms')).toThrow('Expected whole seconds.');
  });
});

describe('sizes', () => {
  it.each([
    ['512', 512],
    ['512m', 512],
    ['512MiB', 512],
    ['2g', 2048],
    ['1.5G', 1536],
    ['2GB', 2048],
  ])('memory %s is %i MiB', (text, mib) => {
    expect(parseMemoryMiB(text)).toBe(mib);
  });

  it.each(['', 'm', '1.2', '512k', '-1', '1t', '0x10'])('refuses memory %j', (text) => {
    expect(() => parseMemoryMiB(text)).toThrow('Expected MiB or a size such as 512m or 2g.');
  });

  it('takes whole GiB for disks', () => {
    expect(['10', '10g', '10GiB'].map(parseDiskGb)).toEqual([10, 10, 10]);
    expect(() => parseDiskGb('512m')).toThrow('Expected whole GiB');
  });
});

describe('pairs and lists', () => {
  it('splits at the first equals sign only', () => {
    expect(parseEnvironment('A=b=c')).toEqual(['A', 'b=c']);
    expect(parseEnvironment('A=')).toEqual(['A', '']);
    expect(parseLabel('team')).toEqual(['team', '']);
  });

  it('keeps any value', () => {
    fc.assert(
      fc.property(fc.string(), (value) => {
        expect(parseEnvironment(`KEY=${value}`)).toEqual(['KEY', value]);
      }),
    );
  });

  it('takes a lone name from the environment of this process', () => {
    expect(parseEnvironment('PATH')).toEqual(['PATH', process.env.PATH]);
    expect(() => parseEnvironment('NO_SUCH_VARIABLE')).toThrow('NO_SUCH_VARIABLE is not set here');
    expect(() => parseEnvironment('=x')).toThrow('Expected KEY=VALUE.');
  });

  it('splits lists at commas and white space', () => {
    expect(parseList('python3, git,,make curl')).toEqual(['python3', 'git', 'make', 'curl']);
  });

  it('reads volumes', () => {
    expect(parseVolume('data:/srv')).toEqual({ volume: 'data', guestPath: '/srv' });
    expect(parseVolume('data:/srv:ro')).toEqual({ volume: 'data', guestPath: '/srv', readOnly: true });
    for (const bad of ['data', ':/srv', 'data:srv', 'data:/srv:xx', 'data:/srv:ro:more']) {
      expect(() => parseVolume(bad)).toThrow('Expected NAME:/PATH');
    }
  });

  it('reads ports that are published', () => {
    expect(parsePublish('8000')).toEqual({ guestPort: 8000 });
    expect(parsePublish('8080:8000/tcp')).toEqual({ guestPort: 8000, hostPort: 8080 });
    expect(parsePublish('0.0.0.0:80:8000')).toEqual({ guestPort: 8000, hostPort: 80, hostIp: '0.0.0.0' });
    expect(parsePublish('127.0.0.1::8000')).toEqual({ guestPort: 8000, hostIp: '127.0.0.1' });
    expect(parsePublish('[::1]:80:8000')).toEqual({ guestPort: 8000, hostPort: 80, hostIp: '::1' });
    for (const bad of ['', 'web', '80:web', '1:2:3:4', '80:', '::1:80:80', '80-90:80-90']) {
      expect(() => parsePublish(bad)).toThrow('Expected PORT');
    }
    expect(() => parsePublish('53:53/udp')).toThrow('Only TCP');
    expect(parsePublished('8080')).toEqual({ hostPort: 8080 });
    expect(parsePublished('[::1]:8080')).toEqual({ hostPort: 8080, hostIp: '::1' });
    expect(() => parsePublished('web')).toThrow('Expected HOSTPORT');
  });

  it('takes only the words it knows', () => {
    expect(oneOf('a', 'b')('b')).toBe('b');
    expect(() => oneOf('a', 'b')('c')).toThrow('Expected one of a, b.');
    expect(() => parseCount('1.5')).toThrow('Expected a whole number.');
  });
});
