import { useState } from 'preact/hooks';
import { useAction, useLoaded } from '../lib/action.ts';
import { ask, askJson, boxPath, post } from '../lib/api.ts';
import { lookAgain } from '../lib/boxes.ts';
import { age, bytes } from '../lib/format.ts';
import { goTo } from '../lib/route.ts';
import type { BoxJson, SnapshotJson } from '../lib/types.ts';
import { Confirm } from '../parts/dialog.tsx';
import { ErrorBox } from '../parts/errors.tsx';

interface Asked {
  readonly verb: string;
  readonly what: string;
  readonly task: () => Promise<unknown>;
}

/** Snapshots of a box: made, gone back to, and gone on from. */
export function SnapshotsTab({ box }: { box: BoxJson }) {
  const id = box.box_id;
  const [asked, setAsked] = useState<Asked | undefined>(undefined);
  const action = useAction();
  const list = useLoaded(
    async (signal) =>
      (await askJson<{ snapshots: SnapshotJson[] }>(boxPath(id, '/snapshots'), { signal })).snapshots,
    [id, box.updated_at],
  );
  const change = async (task: () => Promise<unknown>) => {
    setAsked(undefined);
    const done = await action.run(task);
    list.again();
    lookAgain(id);
    return done;
  };
  const at = (name: string, rest = '') => boxPath(id, `/snapshots/${encodeURIComponent(name)}${rest}`);
  const make = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const data = new FormData(form);
    const name = String(data.get('name'));
    const memory = data.get('memory') === 'on';
    if (await change(() => post(boxPath(id, '/snapshots'), { name, memory }))) form.reset();
  };
  const rollBack = ({ name }: SnapshotJson, live: boolean) =>
    setAsked({
      verb: 'Roll back',
      what: `What ${box.name ?? id} holds now is dropped; it goes on as it was at ${name}.`,
      task: () => post(at(name, '/restore'), { live }),
    });
  const fork = ({ name }: SnapshotJson) =>
    change(async () => {
      const { forks } = await post<{ forks: { box?: BoxJson; error?: { message: string } }[] }>(
        boxPath(id, '/fork'),
        { count: 1, from_snapshot: name },
      );
      const [first] = forks;
      if (!first?.box) throw new Error(first?.error?.message ?? 'The fork failed');
      goTo('box', first.box.box_id);
    });
  const clone = ({ name }: SnapshotJson) =>
    change(async () =>
      goTo('box', (await post<BoxJson>(boxPath(id, '/clone'), { from_snapshot: name })).box_id),
    );
  return (
    <>
      <form class="toolbar" onSubmit={make}>
        <label>
          Name <input name="name" required />
        </label>
        <label>
          <input
            type="checkbox"
            name="memory"
            disabled={box.status !== 'running' && box.status !== 'paused'}
          />{' '}
          with memory
        </label>
        <button type="submit" class="primary" disabled={action.busy}>
          Take a snapshot
        </button>
        {action.busy ? <span role="status">working…</span> : null}
      </form>
      <ErrorBox error={action.error} onClose={action.clear} />
      <ErrorBox error={list.error} />
      <table>
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">Age</th>
            <th scope="col">Its own</th>
            <th scope="col">All</th>
            <th scope="col">Memory</th>
            <th scope="col">Parent</th>
            <th scope="col">Actions</th>
          </tr>
        </thead>
        <tbody>
          {(list.value ?? []).map((snapshot) => (
            <tr key={snapshot.id}>
              <th scope="row">{snapshot.name}</th>
              <td>{age(snapshot.created_at_ms)}</td>
              <td>{bytes(snapshot.exclusive_bytes)}</td>
              <td>{bytes(snapshot.size_bytes)}</td>
              <td>{snapshot.has_memory ? 'yes' : 'no'}</td>
              <td>{snapshot.parent ?? ''}</td>
              <td class="buttons">
                <button
                  type="button"
                  disabled={action.busy}
                  onClick={() => rollBack(snapshot, snapshot.has_memory)}
                >
                  Roll back
                </button>
                {snapshot.has_memory ? (
                  <button type="button" disabled={action.busy} onClick={() => fork(snapshot)}>
                    Fork
                  </button>
                ) : null}
                <button type="button" disabled={action.busy} onClick={() => clone(snapshot)}>
                  Clone
                </button>
                <button
                  type="button"
                  disabled={action.busy}
                  onClick={() =>
                    setAsked({
                      verb: 'Remove',
                      what: `The snapshot ${snapshot.name} of ${box.name ?? id}`,
                      task: () => ask(at(snapshot.name), { method: 'DELETE' }),
                    })
                  }
                >
                  Remove
                </button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {asked ? (
        <Confirm
          title={`${asked.verb}?`}
          what={asked.what}
          verb={asked.verb}
          onYes={() => change(asked.task)}
          onClose={() => setAsked(undefined)}
        />
      ) : null}
    </>
  );
}
