import { useEffect, useState } from 'preact/hooks';
import { useAction, useLoaded } from '../lib/action.ts';
import { askJson, boxPath } from '../lib/api.ts';
import { boxes, lookAgain } from '../lib/boxes.ts';
import { age, bytes } from '../lib/format.ts';
import { type BoxOperation, operations, titleOf } from '../lib/operations.ts';
import { goTo, linkTo } from '../lib/route.ts';
import type { BoxJson } from '../lib/types.ts';
import { useValue } from '../lib/value.ts';
import { Confirm } from '../parts/dialog.tsx';
import { ErrorBox } from '../parts/errors.tsx';
import { Status } from '../parts/status.tsx';
import { FilesTab } from './box-files.tsx';
import { LogsTab } from './box-logs.tsx';
import { SnapshotsTab } from './box-snapshots.tsx';
import { TerminalTab } from './box-terminal.tsx';

const tabs = [
  ['overview', 'Overview'],
  ['terminal', 'Terminal'],
  ['files', 'Files'],
  ['logs', 'Logs'],
  ['snapshots', 'Snapshots'],
] as const;

/** One box. */
export function BoxPage({ id, tab }: { id: string; tab: string }) {
  const all = useValue(boxes);
  const known = all?.get(id);
  const first = useLoaded((signal) => askJson<BoxJson>(boxPath(id), { signal }), [id]);
  // Once the list is there it knows more than what was read first.
  const box = all === undefined ? first.value : known;
  const removed = all !== undefined && !known && first.value !== undefined;
  useEffect(() => {
    document.title = box ? `${titleOf(box)} · Cryobox` : 'Cryobox';
    return () => {
      document.title = 'Cryobox';
    };
  }, [box]);
  if (removed) {
    return (
      <p class="empty">
        This box was removed. <a href={linkTo('boxes')}>All boxes</a>
      </p>
    );
  }
  if (!box)
    return first.error === undefined ? (
      <p role="status">Reading the box…</p>
    ) : (
      <ErrorBox error={first.error} />
    );
  return (
    <>
      <Head box={box} />
      <nav class="tabs" aria-label="Parts of the box">
        {tabs.map(([name, title]) => (
          <a key={name} href={linkTo('box', id, name)} aria-current={tab === name ? 'page' : undefined}>
            {title}
          </a>
        ))}
      </nav>
      {tab === 'terminal' ? <TerminalTab box={box} /> : null}
      {tab === 'files' ? <FilesTab box={box} /> : null}
      {tab === 'logs' ? <LogsTab box={box} /> : null}
      {tab === 'snapshots' ? <SnapshotsTab box={box} /> : null}
      {tab === 'overview' ? <Overview box={box} /> : null}
    </>
  );
}

function Head({ box }: { box: BoxJson }) {
  const action = useAction();
  const [asked, setAsked] = useState<BoxOperation | undefined>(undefined);
  const act = async (operation: BoxOperation) => {
    setAsked(undefined);
    const done = await action.run(() => operation.run(box));
    lookAgain(box.box_id);
    if (done && operation.name === 'remove') goTo('boxes');
  };
  return (
    <>
      <div class="toolbar">
        <h1>{titleOf(box)}</h1>
        <Status status={box.status} operation={box.operation} />
        {operations
          .filter((operation) => operation.fits(box))
          .map((operation) => (
            <button
              key={operation.name}
              type="button"
              class={operation.name === 'remove' ? 'danger' : ''}
              disabled={action.busy}
              onClick={() => (operation.confirm ? setAsked(operation) : act(operation))}
            >
              {operation.title}
            </button>
          ))}
      </div>
      {box.failure === null ? null : (
        <div class="error" role="alert">
          <p>{box.failure}</p>
          <p class="hint">
            Start goes on from the newest disks; a paused box may also be resumed from its memory.
          </p>
        </div>
      )}
      <ErrorBox error={action.error} onClose={action.clear} />
      {asked ? (
        <Confirm
          title={`${asked.title} this box?`}
          what={`${titleOf(box)}, with its snapshots`}
          verb={asked.title}
          onYes={() => act(asked)}
          onClose={() => setAsked(undefined)}
        />
      ) : null}
    </>
  );
}

function Overview({ box }: { box: BoxJson }) {
  const facts: [string, string][] = [
    ['Id', box.box_id],
    ['Image', box.image],
    ['Template', box.template ?? 'none'],
    ['Processors', String(box.cpus)],
    ['Memory', bytes(box.memory_mib * 1024 * 1024)],
    ['Disk', `${bytes(box.storage.disk_bytes)} of ${box.disk_size_gb} GB`],
    ['Memory kept on disk', bytes(box.storage.memory_bytes)],
    ['Made', `${age(box.created_at)} ago`],
    ['Used', `${age(box.last_activity_at)} ago`],
    ['Main command', box.main?.command.join(' ') ?? 'none'],
    [
      'Labels',
      Object.entries(box.labels)
        .map(([key, value]) => `${key}=${value}`)
        .join(', ') || 'none',
    ],
  ];
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
