import { posix } from 'node:path';
import { boxLimits, type VolumeMount } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';

const invalid = (message: string): CryoboxError => new CryoboxError('invalid_argument', message);

/** v1 contract, section 1.5. */
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;
/** What looks like an id is one, so that a name is never taken for another volume's id. */
const idPattern = /^vol_[0-9a-z]{26}$/;

/** Longest path of a mount: Linux takes no more (PATH_MAX). */
const maxPathBytes = 4095;
/** What the guest itself mounts, and must find there. */
const guestPlaces = ['/proc', '/sys', '/dev', '/run'];

const copyHint = 'Copy files of the host into the box, or keep them in a volume.';

const knownMembers: Readonly<Record<keyof VolumeMount, true>> = {
  volume: true,
  guestPath: true,
  readOnly: true,
};

/** Whether a text is the id of a volume rather than its name. */
export function isVolumeId(text: string): boolean {
  return idPattern.test(text);
}

/** Throws `invalid_argument` unless a name is one a volume may have. */
export function checkVolumeName(name: string): void {
  const shown = JSON.stringify(name.slice(0, 40));
  if (name.length > boxLimits.nameLength || !namePattern.test(name)) {
    throw invalid(
      `the name of a volume must have 2 to ${boxLimits.nameLength} letters, digits, ".", "_" or "-", the first a letter or digit, got ${shown}`,
    );
  }
  if (isVolumeId(name)) throw invalid(`the name of a volume must not look like an id, got ${shown}`);
}

/** Throws `invalid_argument` when the volumes of a new box cannot be, `unsupported` naming a member that is not known. */
export function checkVolumeMounts(mounts: readonly VolumeMount[] = []): void {
  if (mounts.length > boxLimits.volumes) {
    throw invalid(`a box has at most ${boxLimits.volumes} volumes, got ${mounts.length}`);
  }
  mounts.forEach(checkMount);
  const paths = mounts.map(({ guestPath }) => normalGuestPath(guestPath));
  const twice = paths.find((path, index) => paths.indexOf(path) < index);
  if (twice !== undefined) throw invalid(`two volumes have the guestPath ${JSON.stringify(twice)}`);
}

function checkMount(mount: VolumeMount, index: number): void {
  const unknown = Object.keys(mount).filter((name) => !(name in knownMembers));
  if (unknown.length > 0) {
    throw new CryoboxError('unsupported', `not supported: volumes[${index}].${unknown[0]}`, {
      hint: copyHint,
      details: { options: unknown },
    });
  }
  if (mount.volume.includes('/')) {
    const message = `not supported: volumes[${index}].volume ${JSON.stringify(mount.volume.slice(0, 100))}`;
    throw new CryoboxError('unsupported', `${message}: directories of the host are not mounted`, {
      hint: copyHint,
    });
  }
  if (!isVolumeId(mount.volume)) checkVolumeName(mount.volume);
  const { guestPath } = mount;
  const what = `volumes[${index}].guestPath`;
  const shown = JSON.stringify(guestPath.slice(0, 100));
  if (!guestPath.startsWith('/')) throw invalid(`${what} must be an absolute path, got ${shown}`);
  if (guestPath.includes('\0') || Buffer.byteLength(guestPath) > maxPathBytes) {
    throw invalid(`${what} must have at most ${maxPathBytes} bytes and no NUL, got ${shown}`);
  }
  const path = normalGuestPath(guestPath);
  const taken = guestPlaces.find((place) => path === place || path.startsWith(`${place}/`));
  if (path === '/' || taken !== undefined) throw invalid(`${what} must not be ${taken ?? '/'} or in it`);
}

/** A path without `..`, `//` and a slash at the end. */
export function normalGuestPath(path: string): string {
  const normal = posix.normalize(path);
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal;
}
