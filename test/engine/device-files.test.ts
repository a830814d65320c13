import { expect, it } from 'vitest';
import { failureOf, output, TestEngine } from './support.js';

const engine = new TestEngine();
/** More than one piece of a stream. */
const large = Buffer.alloc(4_000_000, 'large');

it('writes to devices and files of the kernel, and reads them', async () => {
  await using box = await engine.runtime.create({ image: 'debian-python' });
  const { files } = box;
  await output(
    box,
    'cp -a /dev/null /dev/full /srv; mkfifo /srv/fifo; echo old > /srv/target; touch /srv/mounted',
  );
  await output(box, 'mount --bind /srv/target /srv/mounted');
  const kinds = () => output(box, 'stat -c "%n %F %t:%T %a" /dev/null /dev/full /srv/null /srv/full');
  const before = await kinds();
  for (const path of ['/dev/null', '/srv/null']) await files.write(path, large);
  for (const path of ['/dev/full', '/srv/full']) {
    const failure = await failureOf(files.write(path, 'x'));
    expect(failure).toMatchObject({ code: 'disk_full', message: expect.stringContaining(path) });
    expect(failure.hint).toContain('in the box');
  }
  await files.write('/proc/sys/vm/swappiness', '10');
  expect((await files.read('/proc/sys/vm/swappiness')).toString()).toBe('10\n');
  expect((await failureOf(files.write('/proc/sys/vm/swappiness', 'none'))).code).toBe('invalid_argument');
  await files.write('/srv/mounted', 'new');
  expect(await output(box, 'cat /srv/target; umount /srv/mounted; cat /srv/mounted')).toBe('new');
  expect(await kinds()).toBe(before);

  expect((await files.read('/dev/null')).length).toBe(0);
  expect((await files.read('/dev/kmsg')).toString()).toContain('Linux version');
  expect((await files.read('/dev/ttyS0')).length).toBe(0);
  expect((await failureOf(files.read('/dev/zero'))).code).toBe('payload_too_large');
  const waiting = Array.from({ length: 40 }, () => failureOf(files.read('/srv/fifo')));
  expect((await files.read('/etc/hostname')).length).toBeGreaterThan(0);
  for (const failure of await Promise.all(waiting)) expect(failure.code).toBe('unsupported');
  expect(await files.stat('/srv/fifo')).toMatchObject({ type: 'other' });

  const set = 'import os; os.setxattr("/root/f", "user.note", b"kept"); os.chown("/root/f", 7, 8)';
  await files.write('/root/f', 'old', { mode: 0o640 });
  await output(box, `python3 -c '${set}'`);
  await files.write('/root/f', 'new');
  const get =
    'import os; s = os.stat("/root/f"); print(os.getxattr("/root/f", "user.note"), s.st_uid, s.st_gid, oct(s.st_mode))';
  expect(await output(box, `python3 -c '${get}'`)).toBe("b'kept' 7 8 0o100640");
});
