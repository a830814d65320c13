import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Box, Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { killProcess, machinesBelow } from '../../src/machine/index.js';
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

async function untilHot(): Promise<void> {
  await expect.poll(async () => (await runtime.metrics()).hotMachines, { timeout: 90_000 }).toBe(1);
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
    'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline; echo; done | grep . | grep -v "for p" | sort',
  threads:
    'for p in /proc/[0-9]*; do cat $p/comm; done | grep -v "^kworker\\|^sh$\\|^cat$\\|^grep$\\|^sort$" | sort',
  environment: 'env | sort',
  cgroups: 'ls /sys/fs/cgroup /sys/fs/cgroup/cryobox | sed "s/^[0-9]*$/N/" | sort',
  'files of the agent': 'ls -l /proc/1/fd | sed "s/.*:[0-9][0-9] //; s/[0-9]*]$/N]/; s:/[0-9]*$:/N:"',
  limits: 'cat /proc/1/limits /proc/1/oom_score_adj /proc/self/limits /proc/self/oom_score_adj',
  disks: 'cat /proc/partitions; ls /sys/fs/ext4; cat /sys/block/vdb/ro /sys/block/vdb/size',
  modules: 'cut -d" " -f1,2 /proc/modules | sort',
  network: 'ip addr | grep -v link/ether; ip route; cat /etc/resolv.conf',
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

async function found(name: string): Promise<Box> {
  const box = await runtime.get(name);
  if (!box) throw new Error(`there is no box ${name}`);
  return box;
}

async function machineOf(box: Box): Promise<string | undefined> {
  const rows = await withDatabase(home.path, allMachines);
  return rows.find((row) => row.box_id === box.id)?.id;
}
