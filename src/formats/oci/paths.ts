import { showName } from '../../base/tar/names.js';
import { CryoboxError } from '../../errors.js';
import { FileType, impliedDirectory, TreeNode } from '../tree/tree.js';

/** Linux's limits for a path and for one name in it. */
const maxPathBytes = 4096;
const maxNameBytes = 255;
/** Linux's limit for symlinks met while one path is resolved. */
const maxSymlinks = 40;

/**
 * The parts of an entry's or hard link's name. Throws `image_refused` for an absolute name, `..`, a NUL or a name or
 * path longer than Linux takes. `entryName` is what a message calls the entry, the name itself by default.
 */
export function splitEntryName(name: string, entryName = name): string[] {
  const refuse = (what: string): CryoboxError =>
    new CryoboxError('image_refused', `the entry ${showName(entryName)} ${what}`, {
      details: { entry: entryName.slice(0, maxPathBytes) },
    });
  if (name.length > maxPathBytes) throw refuse(`has a name of more than ${maxPathBytes} bytes`);
  if (name.includes('\0')) throw refuse('has a NUL in its name');
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (name.startsWith('/') && parts.length > 0) throw refuse(`has the absolute name ${showName(name)}`);
  for (const part of parts) {
    if (part === '..') throw refuse(`leads out of the image: ${showName(name)}`);
    if (part.length > maxNameBytes) throw refuse(`has a part of more than ${maxNameBytes} bytes`);
  }
  return parts;
}

/** Joins an identity of a directory and a name into a key. */
export function joinPath(directory: number, name: string): string {
  return `${directory}/${name}`;
}

/** Finds directories in a tree, following the image's own symlinks as its kernel would, and never above its root. */
export class PathResolver {
  readonly #root: TreeNode;
  readonly #ids = new WeakMap<TreeNode, number>();
  #nextId = 0;

  constructor(root: TreeNode) {
    this.#root = root;
  }

  /** A number that stands for a directory as long as the tree lives. */
  idOf(directory: TreeNode): number {
    const known = this.#ids.get(directory);
    if (known !== undefined) return known;
    this.#nextId += 1;
    this.#ids.set(directory, this.#nextId);
    return this.#nextId;
  }

  /** The directory a path leads to, or undefined. Throws `image_refused` when a symlink leads above the root. */
  find(parts: readonly string[], entryName: string): TreeNode | undefined {
    return this.#walk(parts, entryName, () => undefined);
  }

  /**
   * The directory a path leads to; missing ones are made, and all are marked as touched by `layer` so that its own
   * whiteouts keep them. Throws `image_invalid` when a file is in the way.
   */
  makeDirectories(parts: readonly string[], entryName: string, layer: number): TreeNode {
    const directory = this.#walk(
      parts,
      entryName,
      (parent, name) => {
        const made = new TreeNode(FileType.directory, impliedDirectory, layer);
        parent.children?.set(name, made);
        return made;
      },
      layer,
    );
    if (!directory) {
      throw new CryoboxError(
        'image_invalid',
        `the entry ${showName(entryName)} lies in something that is no directory`,
      );
    }
    return directory;
  }

  #walk(
    parts: readonly string[],
    entryName: string,
    onMissing: (parent: TreeNode, name: string) => TreeNode | undefined,
    layer?: number,
  ): TreeNode | undefined {
    // Directories from the root down to where we are, for `..` in symlinks.
    const trail: TreeNode[] = [];
    let here = this.#root;
    let symlinks = 0;
    const left = [...parts].reverse();
    for (let name = left.pop(); name !== undefined; name = left.pop()) {
      if (name === '' || name === '.') continue;
      if (name === '..') {
        const above = trail.pop();
        if (!above) throw this.#escape(entryName);
        here = above;
        continue;
      }
      const next = here.children?.get(name) ?? onMissing(here, name);
      if (next?.type === FileType.symlink) {
        symlinks += 1;
        if (symlinks > maxSymlinks) throw this.#loop(entryName);
        const target = next.target ?? '';
        if (target.startsWith('/')) {
          trail.length = 0;
          here = this.#root;
        }
        left.push(...target.split('/').reverse());
        continue;
      }
      if (!next?.children) return undefined;
      if (layer !== undefined) next.layer = layer;
      trail.push(here);
      here = next;
    }
    return here;
  }

  #escape(entryName: string): CryoboxError {
    return new CryoboxError(
      'image_refused',
      `the entry ${showName(entryName)} leads out of the image through a symlink`,
      {
        details: { entry: entryName.slice(0, maxPathBytes) },
      },
    );
  }

  #loop(entryName: string): CryoboxError {
    return new CryoboxError(
      'image_refused',
      `the entry ${showName(entryName)} lies behind more than ${maxSymlinks} symlinks`,
    );
  }
}
