import { expect, it } from 'vitest';
import { output, TestEngine } from './support.js';

const engine = new TestEngine();

/** Each line makes something with a module, or with a device of one, that is not loaded before. */
const uses: Readonly<Record<string, readonly [script: string, modules: readonly string[]]>> = {
  overlay: [
    'mkdir /tmp/l /tmp/u /tmp/w /tmp/m; mount -t tmpfs t /tmp/u; mkdir /tmp/u/u /tmp/u/w; echo low > /tmp/l/f;' +
      'mount -t overlay o -o lowerdir=/tmp/l,upperdir=/tmp/u/u,workdir=/tmp/u/w /tmp/m; grep low /tmp/m/f',
    ['overlay'],
  ],
  loop: [
    'truncate -s 1M /tmp/disk; printf 12345 | dd of=/tmp/disk conv=notrunc; busybox losetup -f /tmp/disk;' +
      'head -c 5 /dev/loop0 | grep 12345',
    ['loop'],
  ],
  bridge: [
    'busybox ip link add br0 type bridge; busybox ip link add side0 type veth; busybox ip link set side0 master br0;' +
      'busybox ip link set br0 up; busybox ip link show side0 | grep br0',
    ['bridge', 'veth'],
  ],
  wireguard: ['busybox ip link add wg0 type wireguard && busybox ip link show wg0', ['wireguard']],
  squashfs: [
    'mkdir /tmp/s; ! mount -t squashfs /tmp/l/f /tmp/s; grep squashfs /proc/filesystems',
    ['squashfs'],
  ],
};

/** What a shell cannot do. */
const program = `
import ctypes, fcntl, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)

def check(done):
    if done < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done

fuse = os.open('/dev/fuse', os.O_RDWR)
os.makedirs('/tmp/fuse')
options = f'fd={fuse},rootmode=40000,user_id=0,group_id=0'.encode()
check(libc.mount(b'none', b'/tmp/fuse', b'fuse', 0, options))
print('fuse')

tun = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22s', b'tun7', 0x1001, b''))
assert os.path.exists('/sys/class/net/tun7')
print('tun')

check(libc.mq_open(b'/queue', os.O_CREAT | os.O_RDWR, 0o600, None))
assert os.listdir('/dev/mqueue') == ['queue']
print('mqueue')

# A batch that makes the table "t" (Linux, uapi/linux/netfilter/nf_tables.h).
def message(kind, flags, subsystem, attributes=b''):
    return struct.pack('=IHHII', 20 + len(attributes), kind, flags, 1, 0) + struct.pack('>BBH', 2, 0, subsystem) + attributes
name = struct.pack('=HH', 6, 1) + b't\\0\\0\\0'
tables = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
tables.send(message(16, 1, 10) + message(10 << 8, 0x405, 10, name) + message(17, 1, 10))
assert struct.unpack_from('=i', tables.recv(4096), 16)[0] == 0
print('nf_tables')
`;

it('loads a module when it is first used, and none before', { timeout: 120_000 }, async () => {
  await using box = await engine.runtime.create({ image: 'debian-python' });
  const loaded = async (): Promise<string[]> =>
    (await output(box, 'cut -d" " -f1 /proc/modules')).split('\n');
  await box.files.copyIn('/bin/busybox', '/usr/bin/busybox');
  const before = await loaded();
  const expected = [...Object.values(uses).flatMap(([, modules]) => modules), 'fuse', 'tun', 'nf_tables'];
  expect(before.filter((name) => expected.includes(name))).toEqual([]);
  expect(await output(box, 'stat -c "%A %n" /dev/fuse /dev/net/tun; stat -f -c %T /dev/mqueue')).toBe(
    'crw-rw-rw- /dev/fuse\ncrw-rw-rw- /dev/net/tun\nmqueue',
  );
  for (const [what, [script, modules]] of Object.entries(uses)) {
    await output(box, `set -e; ${script}`).catch((error: unknown) =>
      expect.fail(`${what}: ${String(error)}`),
    );
    expect(await loaded(), what).toEqual(expect.arrayContaining([...modules]));
  }
  await box.files.write('/root/uses.py', program);
  expect(await output(box, 'python3 /root/uses.py')).toBe('fuse\ntun\nmqueue\nnf_tables');
  expect(await loaded()).toEqual(expect.arrayContaining(expected));

  // What is not there stays an error of the program that asked for it, and nothing of the loader is seen in the box.
  expect((await box.exec(['mount', '-t', 'nosuchfs', 'x', '/tmp/s'])).exitCode).not.toBe(0);
  expect(await output(box, 'ls /run/modules 2>&1 || true')).toContain('No such file');

  await box.pause();
  await box.resume();
  expect(await output(box, 'busybox ip link add dummy9 type dummy && cat /tmp/m/f')).toBe('low');
});
