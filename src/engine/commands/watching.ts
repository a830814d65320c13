import type { FileEvent } from '../../api/index.js';
import type { GuestWatchEvent } from '../../guest/index.js';

/** What the guest tells of a directory, with the paths that callers know. */
export async function* eventsBelow(
  directory: string,
  told: AsyncIterable<GuestWatchEvent>,
): AsyncGenerator<FileEvent> {
  const prefix = directory.replace(/\/+$/, '');
  const below = (name: string): string => (name === '' ? directory : `${prefix}/${name}`);
  for await (const { type, name, to, isDirectory } of told) {
    // Of an agent of a later release.
    if (type === 'other' || type === 'started') continue;
    const renamed = to === null ? {} : { to: below(to) };
    yield { type, path: below(name), ...renamed, isDirectory };
  }
}
