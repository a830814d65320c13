import { showName } from '../../base/tar/names.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import { FileType, impliedDirectory, TreeNode } from '../tree/tree.js';

/** Linux's limits for a path and for one name in it. */
const maxPathBytes = 4096;
const maxNameBytes = 255;
/** Linux's limit for symlinks met while one path is resolved. */
const maxSymlinks = 40;

/**
 * The parts of an entry's or hard link's name, cleaned as other tools do: from the root, whether it begins with a slash or
 * not, without `.` and with each `..` taking the part before it along. Throws `image_refused` for one that is above the root
 * then, for a NUL and for a name or path longer than Linux takes. `entryName` is what a message calls the entry, the name
 * itself by default.
 */
export function splitEntryName(name: string, entryName = name): string[] {
  const refuse = (what: string): CryoboxError =>
    new CryoboxError('image_refused', `the entry ${showName(entryName)} ${what}`, {
      details: { entry: entryName.slice(0, maxPathBytes) },
    });
  if (name.length > maxPathBytes) throw refuse(`has a name of more than ${maxPathBytes} bytes`);
  if (name.includes('\0')) throw refuse('has a NUL in its name');
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue;
    if (part.length > maxNameBytes) throw refuse(`has a part of more than ${maxNameBytes} bytes`);
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) throw refuse(`leads out of the image: ${showName(name)}`);
  }
  return parts;
}

/** Whether {@link splitEntryName} takes a name. */
export function isEntryName(name: string): boolean {
  try {
    splitEntryName(name);
    return true;
  } catch {
    return false;
  }
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

  /** The directory a path leads to, or undefined. Throws `image_refused` for a circle of symlinks. */
  find(parts: readonly string[], entryName: string): TreeNode | undefined {
    return this.#walk(parts, entryName, () => undefined)?.directory;
  }

  /**
   * The directory a path leads to, by names that are no symlinks; missing ones are made. Undefined where a file is in the
   * way, or the symlinks go in a circle.
   */
  makeReal(parts: readonly string[], layer: number): readonly string[] | undefined {
    try {
      return this.#walk(parts, parts.join('/'), (parent, name) => addDirectory(parent, name, layer))?.names;
    } catch (error) {
      if (isCryoboxError(error, 'image_refused')) return undefined;
      throw error;
    }
  }

  /**
   * The directory a path leads to; missing ones are made, and all are marked as touched by `layer` so that its own
   * whiteouts keep them. What lower layers have in the way is replaced, by `replace`. Throws `image_invalid` when a file of
   * this layer is in the way.
   */
  makeDirectories(
    parts: readonly string[],
    entryName: string,
    layer: number,
    replace: (parent: TreeNode, name: string, node: TreeNode) => boolean,
  ): TreeNode {
    const add = (parent: TreeNode, name: string, found?: TreeNode): TreeNode | undefined =>
      found && !replace(parent, name, found) ? undefined : addDirectory(parent, name, layer);
    const found = this.#walk(parts, entryName, add, layer);
    if (!found) {
      throw new CryoboxError(
        'image_invalid',
        `the entry ${showName(entryName)} lies in something that is no directory`,
      );
    }
    return found.directory;
  }

  /** `onMissing` may make a directory where there is none, or something else. */
  #walk(
    parts: readonly string[],
    entryName: string,
    onMissing: (parent: TreeNode, name: string, found?: TreeNode) => TreeNode | undefined,
    layer?: number,
  ): { readonly directory: TreeNode; readonly names: readonly string[] } | undefined {
    // Directories from the root down to where we are, and their names, for `..` in symlinks.
    const trail: { readonly node: TreeNode; readonly name: string }[] = [];
    const here = (): TreeNode => trail.at(-1)?.node ?? this.#root;
    let symlinks = 0;
    const left = [...parts].reverse();
    for (let name = left.pop(); name !== undefined; name = left.pop()) {
      if (name === '' || name === '.') continue;
      if (name === '..') {
        // Above the root is the root, as for a process in it.
        trail.pop();
        continue;
      }
      let next = here().children?.get(name) ?? onMissing(here(), name);
      if (next?.type === FileType.symlink) {
        symlinks += 1;
        if (symlinks > maxSymlinks) throw this.#loop(entryName);
        const target = next.target ?? '';
        if (target.startsWith('/')) trail.length = 0;
        left.push(...target.split('/').reverse());
        continue;
      }
      if (next && !next.children) next = onMissing(here(), name, next);
      if (!next?.children) return undefined;
      if (layer !== undefined) next.layer = layer;
      trail.push({ node: next, name });
    }
    return { directory: here(), names: trail.map(({ name }) => name) };
  }

  #loop(entryName: string): CryoboxError {
    return new CryoboxError(
      'image_refused',
      `the entry ${showName(entryName)} lies behind more than ${maxSymlinks} symlinks`,
    );
  }
}

function addDirectory(parent: TreeNode, name: string, layer: number): TreeNode | undefined {
  if (parent.children?.has(name)) return undefined;
  const made = new TreeNode(FileType.directory, impliedDirectory, layer);
  parent.children?.set(name, made);
  return made;
}
