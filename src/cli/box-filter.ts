import { InvalidArgumentError } from 'commander';
import { type BoxInfo, type BoxStatus, boxStatuses } from '../api/index.js';
import { namesSameImage } from './image-name.js';

/** A condition of `--filter KEY=VALUE`. */
export interface BoxFilter {
  readonly key: string;
  matches(box: BoxInfo): boolean;
}

/** What container tools call the states of ours. */
const statusWords: Readonly<Record<string, BoxStatus>> = {
  created: 'configured',
  exited: 'stopped',
  dead: 'failed',
};

const makers: Readonly<Record<string, (value: string) => BoxFilter['matches']>> = {
  id: (value) => (box) => box.id.startsWith(value),
  name: (value) => (box) => box.name?.includes(value) ?? false,
  status: (value) => {
    const wanted = statusWords[value] ?? boxStatuses.find((status) => status === value);
    if (!wanted) throw new InvalidArgumentError(`Expected one of ${boxStatuses.join(', ')}.`);
    return (box) => box.status === wanted;
  },
  label: (value) => {
    const at = value.indexOf('=');
    if (at < 0) return (box) => value in box.labels;
    return (box) => box.labels[value.slice(0, at)] === value.slice(at + 1);
  },
  ancestor: (value) => (box) => namesSameImage(box.image, value),
  volume: (value) => (box) =>
    box.volumes.some(({ volume, guestPath }) => volume === value || guestPath === value),
};

/** One `--filter`. */
export function parseFilter(text: string): BoxFilter {
  const at = text.indexOf('=');
  const key = text.slice(0, Math.max(0, at));
  const matches = makers[key]?.(text.slice(at + 1));
  if (!matches)
    throw new InvalidArgumentError(`Expected KEY=VALUE with one of ${Object.keys(makers).join(', ')}.`);
  return { key, matches };
}

/** Whether a box meets every key; of several conditions with one key it needs only one, but every label. */
export function meets(box: BoxInfo, filters: readonly BoxFilter[]): boolean {
  return [...new Set(filters.map(({ key }) => key))].every((key) => {
    const some = filters.filter((it) => it.key === key);
    return key === 'label' ? some.every((it) => it.matches(box)) : some.some((it) => it.matches(box));
  });
}
