import { EventEmitter, once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../../src/cli/program.js';
import { TestEngine } from '../engine/support.js';
import { cliEnv, mustRun } from '../support/cli.js';
import { newHome } from '../support/home.js';

const engine = new TestEngine();
let directory: string;

/** A command line that runs in this process, over the engine of the test. */
function start(...argv: string[]) {
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
  const signals = new EventEmitter();
  const exitCode = runCli(['--home', engine.home, ...argv], {
    streams,
    signals,
    exit: () => undefined,
    openRuntime: async () => engine.runtime,
  }).finally(() => {
    streams.stdout.end();
    streams.stderr.end();
  });
  return { ...streams, signals, exitCode };
}

async function cli(...argv: string[]) {
  const { stdout, stderr, exitCode } = start(...argv);
  const [out, err] = await Promise.all([text(stdout), text(stderr)]);
  return { exitCode: await exitCode, stdout: out, stderr: err };
}

/** A command line that must succeed, and what it printed. */
async function must(...argv: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await cli(...argv);
  if (exitCode !== 0) throw new Error(`cryobox ${argv.join(' ')} ended with ${exitCode}: ${stderr}`);
  return stdout;
}

const lines = (all: string) => all.split('\n').filter(Boolean);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cryobox-words-'));
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe('boxes by the words of container tools', () => {
  let id = '';

  it('are run with options by their short names, and the execution is told', async () => {
    const file = join(directory, 'env');
    await writeFile(
      file,
      '\ufeff# said to nobody\nA=from file\r\nB="quoted"\n  C=c=d\nCRYOBOX_NOT_SET_HERE\n',
    );
    const { exitCode, stdout, stderr } = await cli(
      ...['run', '-d', '--name', 'one', '-h', 'host.example', '-m', '256m', '--pull', 'never', '--init'],
      ...['--env-file', file, '-e', 'A=from option', '-l', 'team=x', '--network', 'bridge'],
      ...['tiny', 'sleep', '1000'],
    );
    expect([exitCode, stdout]).toEqual([0, expect.stringMatching(/^box_\w{26}\n$/)]);
    id = stdout.trim();
    expect(stderr).toMatch(/^execution main$/m);
    const script =
      'hostname; echo "$A|$B|$C|$CRYOBOX_NOT_SET_HERE"; getent hosts host.example >/dev/null || grep -q host.example /etc/hosts && echo known';
    expect(await must('exec', 'one', 'sh', '-c', script)).toBe(
      'host.example\nfrom option|"quoted"|c=d|\nknown\n',
    );
    const template =
      '{{.Name}} {{.State.Running}} {{.Hostname}} {{.HostConfig.Memory}} {{index .Config.Labels "team"}}';
    expect(await must('inspect', '-f', template, 'one')).toBe('one true host.example 268435456 x\n');
  });

  it('have disks whose speed is limited', async () => {
    await must('create', '--name', 'slow', '--disk-read-bps', '10m', '--disk-write-iops', '200', 'tiny');
    const shown = () => must('inspect', '-f', '{{json .DiskLimits}}', 'slow');
    expect(JSON.parse(await shown())).toEqual({
      readBytesPerSecond: 10_485_760,
      writeOperationsPerSecond: 200,
    });
    await must('update', '--disk-write-bps', '512k', 'slow');
    expect(await must('inspect', 'slow')).toMatch(
      /disk limits: +read 10\.0 MiB\/s, write 512\.0 KiB\/s, 200 writes\/s/,
    );
    await must('update', '--no-disk-limits', '--disk-read-iops', '50', 'slow');
    expect(JSON.parse(await shown())).toEqual({ readOperationsPerSecond: 50 });
    for (const [words, told] of [
      [['update', 'slow'], 'Nothing to change'],
      [['update', '--disk-read-bps', '1', 'slow'], 'from 65536 to'],
      [['update', '--disk-read-bps', 'fast', 'slow'], 'Expected bytes'],
      [['update', '--memory', '1g', 'slow'], 'cryobox clone'],
      [['create', '--device-read-bps', '/dev/sda:1m', 'tiny'], '--disk-read-bps'],
    ] as const) {
      const { exitCode, stderr } = await cli(...words);
      expect([exitCode, stderr]).toEqual([125, expect.stringContaining(told)]);
    }
    await must('rm', '-f', 'slow');
  });

  it('have logs that are followed, and an end that is waited for', async () => {
    const script =
      'i=0; while [ $i -lt 5 ]; do echo line $i; echo e$i >&2; i=$((i+1)); usleep 100000; done; read x; exit 7';
    await must('run', '-d', '--name', 'talks', 'tiny', 'sh', '-c', script);
    const following = start('logs', '-f', 'talks');
    let seen = '';
    following.stdout.on('data', (chunk) => {
      seen += chunk;
    });
    const waiting = cli('wait', 'talks');
    await expect.poll(() => seen, { timeout: 30_000 }).toBe('line 0\nline 1\nline 2\nline 3\nline 4\n');
    expect(await must('logs', '--tail', '2', 'talks')).toBe('line 3\nline 4\n');
    expect(await must('logs', '--tail', 'all', 'talks')).toBe(seen);
    const tail = await cli('logs', '-n', '1', 'talks');
    expect([tail.stdout, tail.stderr]).toEqual(['line 4\n', 'e4\n']);
    // Nobody has to let go of it: the command is attached to while its logs are followed.
    const attached = start('attach', '-i', 'talks');
    attached.stdin.end('\n');
    expect(await attached.exitCode).toBe(7);
    expect(await following.exitCode).toBe(0);
    expect((await waiting).stdout).toBe('7\n');
    expect(await must('inspect', '-f', '{{.State.ExitCode}}', 'talks')).toBe('7\n');
    await must('stop', 'talks');
    expect(await must('logs', '-f', '--tail', '1', 'talks')).toBe('line 4\n');
    expect(await must('wait', 'talks')).toBe('7\n');
    const since = await cli('logs', '--since', '10m', 'talks');
    expect([since.exitCode, since.stderr]).toEqual([125, expect.stringContaining('use --tail')]);
    await must('rm', '-f', 'talks');
    await must('create', '--name', 'idles', 'tiny');
    for (const words of [
      ['wait', 'idles'],
      ['logs', '-f', 'idles'],
    ]) {
      const none = await cli(...words);
      expect([none.exitCode, none.stderr]).toEqual([125, expect.stringContaining('has no main command')]);
    }
    await must('rm', '-f', 'idles');
  });

  it('are listed whole and short, filtered, and by templates', async () => {
    const stopped = (await must('create', '--name', 'two', 'tiny')).trim();
    await must('stop', '-t', '5', 'two');
    expect(await must('ps', '-q')).toBe(`${id}\n`);
    expect(lines(await must('ps', '-aq')).sort()).toEqual([id, stopped].sort());
    expect(lines(await must('ls', '-aq')).sort()).toEqual([id, stopped].sort());
    const table = await must('ps', '-a');
    const [short = ''] = /^box_\w+(?=.* one\b)/m.exec(table) ?? [];
    expect(short).toHaveLength(18);
    expect(table).not.toContain(id);
    expect(await must('ps', '-a', '--no-trunc')).toContain(id);
    expect(await must('inspect', '--format', '{{.Id}}', short)).toBe(`${id}\n`);
    expect(await must('ps', '--filter', 'status=exited', '-q')).toBe(`${stopped}\n`);
    expect(await must('ps', '-a', '-f', 'label=team=x', '-q')).toBe(`${id}\n`);
    expect(await must('ps', '-a', '-f', 'label=team=y', '-q')).toBe('');
    expect(await must('ps', '-a', '-f', 'name=tw', '--format', '{{.Names}}: {{.State}}')).toBe(
      'two: stopped\n',
    );
    expect(
      lines(await must('ps', '-a', '-f', 'name=one', '-f', 'name=two', '-f', 'ancestor=tiny', '-q')),
    ).toHaveLength(2);
    expect(await must('ps', '-a', '--format', 'table {{.Names}}\\t{{.State}}')).toMatch(
      /^NAMES +STATE\ntwo +stopped\none +running\n$/,
    );
    const wrong = await cli('ps', '--filter', 'colour=red');
    expect([wrong.exitCode, wrong.stderr]).toEqual([125, expect.stringContaining('one of id, name, status')]);
    const field = await cli('ps', '-a', '--format', '{{.Colour}}');
    expect([field.exitCode, field.stderr]).toEqual([
      125,
      expect.stringContaining('there is no field Colour'),
    ]);
  });

  it('are renamed, unless the name is taken or bad', async () => {
    await must('rename', 'two', 'zwei');
    expect(await must('ps', '-a', '-f', 'name=zwei', '--format', '{{.Names}}')).toBe('zwei\n');
    expect((await cli('inspect', 'two')).stderr).toContain('No box "two"');
    expect((await cli('rename', 'zwei', 'one')).stderr).toContain('exists already');
    expect((await cli('rename', 'zwei', 'a/b')).stderr).toContain('name must start with');
    await must('rename', 'zwei', 'zwei');
  });

  it('show their processes, and what they use', async () => {
    const top = await must('top', 'one', '-ef');
    expect(top).toMatch(/^UID +PID +PPID +STATE +MEMORY +COMMAND/m);
    expect(top).toMatch(/ sleep 1000$/m);
    const refused = await cli('top', 'zwei');
    expect([refused.exitCode, refused.stderr]).toEqual([125, expect.stringContaining('cryobox start zwei')]);
    expect(await must('stats', '--no-stream')).toMatch(
      /^ID +NAME +CPU %[^\n]+\nbox_\w{14} +one +\d+\.\d\d% .* 256\.0 MiB/,
    );
    expect(await must('stats', '--no-stream', '--format', '{{.Name}} {{.MemPerc}}', 'one')).toMatch(
      /^one \d+\.\d\d%\n$/,
    );
    const history = await must('stats', '--history', 'one');
    expect(history).toMatch(/^TIME +CPU % +MEM USAGE[^\n]+\n20\d\d-[^ ]+Z +\d+\.\d\d% +[\d.]+ MiB/);
    expect((await cli('stats', '--history')).stderr).toContain('takes one box');
    const stream = start('stats');
    let seen = '';
    stream.stdout.on('data', (chunk) => {
      seen += chunk;
      if (seen.split('NAME').length > 2) stream.signals.emit('SIGINT', 'SIGINT');
    });
    expect(await stream.exitCode).toBe(130);
  });

  it('get signals in their commands, and are killed', async () => {
    const execution = (
      await must('exec', '-d', 'one', 'sh', '-c', 'trap "exit 9" USR1; while :; do usleep 20000; done')
    ).trim();
    const list = await must('executions', 'ls', 'one');
    const short = execution.slice(0, 18);
    expect(list).toContain(short);
    expect(list).not.toContain(execution);
    expect(await must('executions', 'ls', '-q', 'one')).toContain(execution);
    // The trap is set once the loop runs.
    await must('executions', 'kill', '-s', 'USR1', 'one', short);
    const { exitCode } = await cli('executions', 'attach', 'one', short);
    expect([9, 128 + 10]).toContain(exitCode);
    await must('kill', '-s', 'SIGTERM', 'one');
    expect(await must('executions', 'ls', 'one', '--format', '{{.Status}}')).not.toContain('running');
    expect((await cli('kill', '-s', 'TERM', 'one')).stderr).toContain('no command runs in one');
    await must('restart', '-t', '5', 'one');
    expect(await must('ps', '--format', '{{.Names}}')).toBe('one\n');
    await must('kill', 'one');
    expect(await must('ps', '-a', '-f', 'name=one', '--format', '{{.State}}')).toBe('stopped\n');
    expect((await cli('kill', 'one')).stderr).toContain('is stopped, not running');
  });

  it('tell their events', async () => {
    const events = start('events', '-f', 'type=box', '--format', '{{.Change}} {{.Id}}');
    const told = once(events.stdout, 'data');
    // Nothing says that the stream is open: the name changes until something is told.
    let done = false;
    const renames = (async () => {
      for (let count = 0; !done; count += 1) await must('rename', 'one', `one-${count % 2}`);
      await must('rename', id, 'one');
    })();
    expect(String((await told)[0])).toBe(`renamed ${id}\n`);
    done = true;
    await renames;
    events.signals.emit('SIGINT', 'SIGINT');
    expect(await events.exitCode).toBe(130);
  });

  it('are copied with -a, and removed by what ps prints', async () => {
    await writeFile(join(directory, 'file'), 'x');
    const { stderr } = await cli('cp', '-a', '-q', join(directory, 'file'), 'one:/tmp/file');
    expect(stderr).toBe('');
    const ids = lines(await must('ps', '-aq'));
    expect(ids).toHaveLength(2);
    await must('rm', '-f', '-v', ...ids);
    expect(await must('ps', '-aq')).toBe('');
  });
});

describe('the rest of the words', () => {
  it('list and remove images and volumes', async () => {
    expect(lines(await must('images', '-q'))).toContain('tiny:latest');
    expect(await must('images', '--format', '{{.Repository}}:{{.Tag}}')).toContain('tiny:latest');
    expect((await cli('rmi', 'no-such-image')).exitCode).toBe(125);
    await must('volume', 'create', 'data');
    expect(await must('volume', 'inspect', '-f', '{{.Name}}', 'data')).toBe('data\n');
    await must('create', '--name', 'v', '--mount', 'type=volume,src=data,dst=/data,readonly', 'tiny');
    expect(
      await must('inspect', '-f', '{{range .Mounts}}{{.Name}} {{.Destination}} {{.RW}}{{end}}', 'v'),
    ).toBe('data /data false\n');
    expect(await must('volume', 'prune', '-f')).toBe('');
    await must('rm', '-f', 'v');
    const asked = await cli('volume', 'prune');
    expect([asked.exitCode, asked.stderr]).toEqual([125, expect.stringContaining('hint: Add --force')]);
    expect(await must('volume', 'prune', '-f')).toBe('data\n');
  });

  it('tell versions, also where no engine answers, and what is taken', async () => {
    const versions = await must('version', '--format', '{{.Client.Version}} {{json .Server}}');
    expect(versions).toMatch(/^\d+\.\d+\.\d+ null\n$/);
    const idle = (await must('create', '--name', 'idle', 'tiny')).trim();
    expect(await must('system', 'df')).toMatch(/^TYPE +TOTAL +ACTIVE +SIZE +RECLAIMABLE\nImages +\d+ +1 /);
    expect(await must('system', 'df', '--format', '{{.Type}} {{.TotalCount}}')).toContain('Boxes 1\n');
    expect((await cli('system', 'prune')).stderr).toContain('stdin is no terminal');
    // What runs stays, and so do images unless they are named.
    await must('system', 'prune', '-f');
    await must('stop', 'idle');
    expect(await must('system', 'prune', '--force')).toBe(`${idle}\n`);
    expect(lines(await must('images', '-q'))).toContain('tiny:latest');
    expect(await must('container', 'ls', '-aq')).toBe('');
  });

  it.each([
    [['run', '--privileged', 'tiny'], '--privileged', '--cap-add'],
    [['run', '-P', 'tiny'], '--publish-all', '-p 8080:8000'],
    [['run', '--mount', 'type=bind,source=/a,target=/b', 'tiny'], 'type "bind"', '-v NAME:/PATH'],
    [['run', '--mount', 'type=tmpfs,target=/b', 'tiny'], 'type "tmpfs"', 'mount -t tmpfs none /b'],
    [['create', '--restart', 'always', 'tiny'], '--restart', 'starts by itself'],
    [['run', '--gpus=all', 'tiny'], '--gpus', '--cpus'],
    [['exec', '--privileged', 'b', 'true'], '--privileged', '-u root'],
    [['network', 'create', '--driver', 'bridge', 'n'], 'network', '--network'],
    [['build', '-t', 'x', '.'], 'build', 'images import'],
    [['compose', 'up', '-d'], 'compose', 'cryobox run'],
    [['login', '-u', 'me'], 'login', '--password-stdin'],
    [['network', '--help'], 'network', '--network'],
    [['exec', 'b', '-it', 'bash'], '-it stands after the box', 'cryobox exec -it b bash'],
    [['run', 'tiny', '-it', 'sh', '-c', 'x'], '-it stands after the image', 'cryobox run -it tiny sh -c x'],
  ])('refuse %j with what to use instead', async (argv, message, hint) => {
    const { exitCode, stdout, stderr } = await cli(...argv);
    expect([exitCode, stdout]).toEqual([125, '']);
    expect(stderr).toMatch(/^error: .*\nhint: .*\n$/);
    const [error, instead] = lines(stderr);
    expect(error).toContain(message);
    expect(instead).toContain(hint);
  });

  it('take a command with a hyphen after --', async () => {
    const { exitCode, stderr } = await cli('run', '--rm', 'tiny', '--', '-x');
    expect([exitCode, stderr]).toEqual([127, expect.stringContaining('"-x"')]);
  });
});

describe('completion', () => {
  it.each(['bash', 'zsh', 'fish'])('prints a script for %s', async (shell) => {
    expect(await must('completion', shell)).toContain('cryobox complete');
  });

  it.each([
    [['sna'], ['snapshot']],
    [['images', 'bu'], ['build']],
    [
      ['run', '--env'],
      ['--env', '--env-file'],
    ],
    [
      ['completion', ''],
      ['bash', 'fish', 'zsh'],
    ],
    [['network', ''], []],
  ])('completes %j with %j in bash', async (words, expected) => {
    const script = join(directory, 'complete.bash');
    await writeFile(script, await must('completion', 'bash'));
    const line = [
      `cryobox() { ${JSON.stringify(process.execPath)} dist/cli/main.js "$@"; }`,
      `compopt() { :; }; . ${script}`,
      `COMP_WORDS=(cryobox ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}`,
      // biome-ignore lint/suspicious/noTemplateCurlyInString: a shell's variable
      '_cryobox; printf "%s\\n" "${COMPREPLY[@]}"',
    ].join('\n');
    expect(lines((await execa('bash', ['-c', line], { env: cliEnv(engine.home) })).stdout)).toEqual(expected);
  });

  it('completes names of boxes, where an engine answers', async () => {
    await using home = await newHome();
    await mustRun(home.path, 'create', '--name', 'completed-box', 'tiny');
    expect(await mustRun(home.path, 'complete', '--', 'exec', '-u', 'root', 'compl')).toBe('completed-box\n');
    expect(await mustRun(home.path, 'complete', '--', 'stop', 'x', 'compl')).toBe('completed-box\n');
    expect(await mustRun(home.path, 'version', '-f', '{{.Server.Version}}')).toMatch(/^\d+\.\d+\.\d+\n$/);
    await mustRun(home.path, 'rm', '-f', 'completed-box');
    await mustRun(home.path, 'engine', 'stop');
    expect(await mustRun(home.path, 'complete', '--', 'stop', 'compl')).toBe('');
  });
});
