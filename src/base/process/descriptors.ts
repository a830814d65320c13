import { openSync, readdirSync, readFileSync } from 'node:fs';

/** Flag of an open file that a new program does not get (open(2), O_CLOEXEC; octal in proc(5), `fdinfo`). */
const closeOnExec = 0o2000000;
/** Standard input, output and error are decided by each start. */
const firstOther = 3;
/** A shell's own are at 255 or below; each start has a table up to the highest, which must not grow without end. */
const lastLooked = 4096;

let found: readonly number[] | undefined;
let nullFd: number | undefined;

/**
 * Descriptors that a process started now would get although nobody passes them: those this process was given by its own
 * parent, up to number 4096. Node opens everything with O_CLOEXEC, so the list is taken once.
 */
export function strayDescriptors(): readonly number[] {
  found ??= findStray();
  return found;
}

/** A descriptor of /dev/null, to stand in the place of a stray one: Node can pass descriptors, but not withhold one. */
export function nullDescriptor(): number {
  nullFd ??= openSync('/dev/null', 'r+');
  return nullFd;
}

function findStray(): number[] {
  const stray: number[] = [];
  for (const name of readdirSync('/proc/self/fd')) {
    const fd = Number(name);
    if (fd >= firstOther && fd <= lastLooked && !closesOnExec(fd)) stray.push(fd);
  }
  return stray;
}

function closesOnExec(fd: number): boolean {
  try {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '0';
    return (Number.parseInt(flags, 8) & closeOnExec) !== 0;
  } catch {
    // It was the listing's own, and is closed by now.
    return true;
  }
}
