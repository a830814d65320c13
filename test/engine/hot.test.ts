import { copyFile, rename, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Box, CreateOptions, Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { hotMachinesIn } from '../../src/engine/machines/hot-size.js';
import { installation } from '../../src/home/installation.js';
import { killProcess, machinesBelow } from '../../src/machine/index.js';
import { createServer } from '../../src/server/index.js';
import { allMachines } from '../../src/store/index.js';
import { newHome, type TestHome } from '../support/home.js';
import { diskChain, withDatabase } from './disk-files.js';

let home: TestHome;
let engine: Engine;
let runtime: Runtime;

beforeAll(async () => {
  home = await newHome();
  engine = await Engine.open({ home: home.path, poolSize: 1, hotSize: 1 });
  runtime = engine.runtime();
});

afterAll(async () => {
  for (const box of await runtime.list()) await runtime.remove(box.id, { force: true });
  await engine.close();
  const left = await machinesBelow(join(home.path, 'machines'));
  await home[Symbol.asyncDispose]();
  expect(left).toEqual([]);
});

async function untilHot(count = 1): Promise<void> {
  await expect.poll(async () => (await runtime.metrics()).hotMachines, { timeout: 90_000 }).toBe(count);
}

/** Machines of no box, such as those that wait. */
async function waiting(): Promise<string[]> {
  const rows = await withDatabase(home.path, allMachines);
  return rows.filter((row) => row.box_id === null).map((row) => row.id);
}

/** What a box shows of its machine; what differs between any two boxes is left out. */
const facts: Record<string, string> = {
  // Inodes are read ahead as usual from a second after the start on.
  mounts: 'sed s/,inode_readahead_blks=1// /proc/self/mountinfo',
  programs:
    'said=$(for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline; echo; done); echo "$said" | grep . | grep -v "for p" | sort',
  threads:
    'for p in /proc/[0-9]*; do cat $p/comm; done | grep -v "^kworker\\|^sh$\\|^cat$\\|^grep$\\|^sort$" | sort',
  environment: 'env | sort',
  cgroups: 'ls /sys/fs/cgroup /sys/fs/cgroup/cryobox | sed "s/^[0-9]*$/N/" | sort',
  'files of the agent': 'ls -l /proc/1/fd | sed "s/.*:[0-9][0-9] //; s/[0-9]*]$/N]/; s:/[0-9]*$:/N:"',
  limits: 'cat /proc/1/limits /proc/1/oom_score_adj /proc/self/limits /proc/self/oom_score_adj',
  disks: 'cat /proc/partitions; ls /sys/fs/ext4; cat /sys/block/vdb/ro /sys/block/vdb/size',
  modules: 'cut -d" " -f1,2 /proc/modules | sort',
  network: 'ip addr | grep -v link/ether; ip route; cat /etc/resolv.conf 2>&1; true',
  settings:
    'for f in kernel/modprobe kernel/printk kernel/core_pattern kernel/pid_max vm/overcommit_memory vm/drop_caches net/ipv4/ip_forward; do cat /proc/sys/$f; done',
  root: 'ls -ln / /etc | cut -c1-40',
  identity: 'test "$(hostname)" = "$(cat /etc/hostname)" && grep -q "$(hostname)" /etc/hosts; echo $?',
  space: 'df -k / | tail -1 | tr -s " " | cut -d" " -f2',
};
// A second after its boot the kernel measures its clock, which falls before or after the golden machine was frozen.
const kernelLog = 'dmesg | sed "s/^[^]]*] //" | grep -v "^tsc: Refined\\|^clocksource: "';
const mounted = 'EXT4-fs (vdb): mounted filesystem with ordered data mode. Quota mode: none.';

async function factsOf(box: Box): Promise<Record<string, string>> {
  const said: Record<string, string> = {};
  for (const [what, command] of Object.entries(facts)) said[what] = await say(box, command);
  return said;
}

async function say(box: Box, command: string): Promise<string> {
  const { stdout, exitCode } = await box.exec(['sh', '-c', command]);
  expect(exitCode).toBe(0);
  return stdout.toString();
}

describe('a box from a hot machine', () => {
  it('differs from one of a cold restore by ids and one line of the kernel only', {
    timeout: 240_000,
  }, async () => {
    const cold = await runtime.create({ image: 'tiny', name: 'cold' });
    await untilHot();
    const ready = await waiting();
    const hot = await runtime.create({ image: 'tiny', name: 'warm' });
    expect(ready).toContain(await machineOf(hot));
    expect((await hot.info()).stages).not.toHaveProperty('agent');
    expect(await factsOf(hot)).toEqual(await factsOf(cold));
    const lines = (await say(hot, kernelLog)).split('\n');
    // That of the rehearsal: the kernel has no way to leave it out.
    lines.splice(lines.indexOf(mounted), 1);
    expect(lines.join('\n')).toBe(await say(cold, kernelLog));

    const unlike =
      'cat /etc/machine-id /proc/sys/kernel/random/uuid; ip link | grep ether; head -c 16 /dev/urandom | base64';
    const [ours, theirs] = [await say(hot, unlike), await say(cold, unlike)].map((text) =>
      text.trim().split('\n'),
    );
    expect(ours).toHaveLength(4);
    for (const [at, line] of (ours ?? []).entries()) expect(line).not.toBe(theirs?.[at]);

    const before = Math.floor(Date.now() / 1000);
    const clock = Number(await say(hot, 'date +%s'));
    expect(clock).toBeGreaterThanOrEqual(before - 1);
    expect(clock).toBeLessThanOrEqual(Date.now() / 1000 + 1);
    // A module comes from the guest disk, which was exchanged as well.
    expect(
      await say(hot, 'ls /proc/modules && (ls -l /dev/fuse; : < /dev/fuse) && cut -d" " -f1 /proc/modules'),
    ).toContain('fuse');
  });

  it('keeps what it writes over a stop and the next hand-over', { timeout: 180_000 }, async () => {
    const box = await runtime.create({ image: 'tiny', name: 'writer' });
    await say(
      box,
      'dd if=/dev/urandom of=/root/data bs=1M count=3 2>/dev/null; sha256sum /root/data > /root/sum; sync',
    );
    await box.stop();
    await untilHot();
    const ready = await waiting();
    await box.start();
    expect(ready).toContain(await machineOf(box));
    expect(await say(box, 'sha256sum -c /root/sum')).toContain('OK');
    expect(await say(box, 'cat /root/program 2>&1 || ls /program 2>&1; true')).toContain('No such file');
    await box.remove({ force: true });
  });

  it('comes up by another machine when the one that waits has died, and that is replaced', {
    timeout: 60_000,
  }, async () => {
    await untilHot();
    const idle = await waiting();
    for (const { name, process } of await machinesBelow(join(home.path, 'machines'))) {
      if (idle.includes(name)) await killProcess(process);
    }
    const box = await runtime.create({ image: 'tiny', name: 'after' });
    expect(await say(box, 'echo up')).toBe('up\n');
    await box.remove({ force: true });
    await untilHot();
    expect((await waiting()).length).toBeLessThanOrEqual(2);
  });

  it('fails by a typed error where its disk is gone, and touches no other box', {
    timeout: 60_000,
  }, async () => {
    const box = await runtime.create({ image: 'tiny', name: 'lost' });
    await box.stop();
    await untilHot();
    const head = join(home.path, 'layers', (await diskChain(home.path, box.id)).at(-1) ?? '');
    await rename(head, `${head}.away`);
    await expect(box.start()).rejects.toMatchObject({ name: 'CryoboxError' });
    expect((await withDatabase(home.path, allMachines)).filter((row) => row.box_id === box.id)).toEqual([]);
    expect(await say(await found('cold'), 'echo alive')).toBe('alive\n');
    await rename(`${head}.away`, head);
    await box.start();
    expect(await say(box, 'echo back')).toBe('back\n');
    await box.remove({ force: true });
  });
});

/** What needs a machine of a kind of its own, or more than disks at the hand-over. */
const kinds: Record<string, Partial<CreateOptions>> = {
  'without a network': { network: { outbound: 'disabled' } },
  'with lists of its network': { network: { allowNet: ['allowed.test'] } },
  'with a volume': { volumes: [{ volume: 'data', guestPath: '/data', readOnly: true }] },
};

describe('a box from a hot machine', () => {
  it.each(Object.entries(kinds))(
    '%s differs from one of a cold restore by no more',
    {
      timeout: 240_000,
    },
    async (_, options) => {
      // None is left of another kind.
      await engine.keepHot(0);
      await untilHot(0);
      if (options.volumes && !(await runtime.volumes.get('data'))) {
        await runtime.volumes.create({ name: 'data', sizeGb: 1 });
        await using writer = await runtime.create({
          image: 'tiny',
          volumes: [{ volume: 'data', guestPath: '/data' }],
        });
        await say(writer, 'echo kept > /data/file');
      }
      const cold = await runtime.create({ image: 'tiny', ...options });
      await engine.keepHot(1);
      await runtime.create({ image: 'tiny', ...options });
      await untilHot();
      const ready = await waiting();
      const hot = await runtime.create({ image: 'tiny', ...options });
      expect(ready).toContain(await machineOf(hot));
      expect((await hot.info()).stages).not.toHaveProperty('agent');
      expect(await factsOf(hot)).toEqual(await factsOf(cold));
      if (options.volumes) {
        expect(await say(hot, 'cat /data/file; ! touch /data/new 2>/dev/null')).toBe('kept\n');
      }
      if (options.network?.allowNet) {
        // Their gateways judge what they send from the first packet on.
        const ask = 'wget -q -O - http://refused.test/ 2>&1; true';
        const said = await say(hot, ask);
        expect(said).toContain('refused.test');
        expect(said).toBe(await say(cold, ask));
        const refused = async (box: Box) => (await box.network.info()).traffic?.denials.map((it) => it.name);
        expect(await refused(hot)).toEqual(['refused.test']);
        expect(await refused(cold)).toEqual(['refused.test']);
      }
      for (const { id, name } of await runtime.list()) {
        if (name !== 'cold') await runtime.remove(id, { force: true });
      }
    },
  );

  it('keeps as many as it is told while it runs', { timeout: 120_000 }, async () => {
    await engine.keepHot(1);
    await (await runtime.create({ image: 'tiny' })).remove({ force: true });
    await untilHot();
    await engine.keepHot(2);
    await untilHot(2);
    expect((await installation(home.path)).hotMachines).toBeNull();
    const server = createServer({ runtimeFor: (tenant) => engine.runtime(tenant), authenticator: null });
    await server.listen({ socketPath: engine.paths.socket });
    expect((await installation(home.path)).hotMachines).toBe(2);
    await server.close();
    await engine.keepHot(0);
    expect((await runtime.metrics()).hotMachines).toBe(0);
    await using _box = await runtime.create({ image: 'tiny' });
    expect((await runtime.metrics()).hotMachines).toBe(0);
    await engine.keepHot(1);
  });

  it('fails by a typed error where its disk is damaged, and comes up once it is whole', {
    timeout: 120_000,
  }, async () => {
    const box = await runtime.create({ image: 'tiny', name: 'damaged' });
    await box.stop();
    await untilHot();
    const head = (await diskChain(home.path, box.id)).at(-1) ?? '';
    const copy = join(home.path, 'whole');
    const path = join(home.path, 'layers', head);
    await copyFile(path, copy);
    await truncate(path, 100);
    await expect(box.start()).rejects.toMatchObject({ name: 'CryoboxError' });
    expect((await withDatabase(home.path, allMachines)).filter((row) => row.box_id === box.id)).toEqual([]);
    expect(await say(await found('cold'), 'echo alive')).toBe('alive\n');
    await copyFile(copy, path);
    await box.start();
    expect(await say(box, 'echo back')).toBe('back\n');
    await box.remove({ force: true });
  });
});

it('has a share of the memory of its host at most: none below 2 GiB', () => {
  const gib = 1024 ** 3;
  expect([1, 2, 4, 64].map((size) => hotMachinesIn(size * gib))).toEqual([0, 1, 2, 32]);
});

async function found(name: string): Promise<Box> {
  const box = await runtime.get(name);
  if (!box) throw new Error(`there is no box ${name}`);
  return box;
}

async function machineOf(box: Box): Promise<string | undefined> {
  const rows = await withDatabase(home.path, allMachines);
  return rows.find((row) => row.box_id === box.id)?.id;
}
