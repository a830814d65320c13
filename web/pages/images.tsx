import { useState } from 'preact/hooks';
import { useAction, useLoaded } from '../lib/action.ts';
import { ask, askJson, type ProgressLine, post, postWithProgress } from '../lib/api.ts';
import { age, bytes } from '../lib/format.ts';
import type { ImageJson, TemplateJson, VolumeJson } from '../lib/types.ts';
import { Confirm } from '../parts/dialog.tsx';
import { ErrorBox } from '../parts/errors.tsx';
import { Progress } from '../parts/progress.tsx';

interface Row {
  readonly name: string;
  readonly facts: readonly string[];
  /** Of what removes it. */
  readonly path: string;
}

interface Lists {
  readonly images: readonly Row[];
  readonly templates: readonly Row[];
  readonly volumes: readonly Row[];
}

async function readLists(signal: AbortSignal): Promise<Lists> {
  const [{ images }, templates, { volumes }] = await Promise.all([
    askJson<{ images: ImageJson[] }>('/images', { signal }),
    askJson<TemplateJson[]>('/snapshots', { signal }),
    askJson<{ volumes: VolumeJson[] }>('/volumes', { signal }),
  ]);
  return {
    images: images.map((image) => ({
      name: image.reference,
      facts: [bytes(image.size_bytes), `${image.layer_count} layers`],
      path: `/images/${encodeURIComponent(image.reference)}`,
    })),
    templates: templates.map((template) => ({
      name: template.name,
      facts: [bytes(template.size_bytes), `of ${template.image}, ${age(template.created_at)} old`],
      path: `/snapshots/${encodeURIComponent(template.name)}`,
    })),
    volumes: volumes.map((volume) => ({
      name: volume.name,
      facts: [
        `${bytes(volume.used_bytes)} of ${bytes(volume.size_bytes)}`,
        volume.box_ids.length === 0 ? 'of no box' : `of ${volume.box_ids.length} boxes`,
      ],
      path: `/volumes/${encodeURIComponent(volume.name)}`,
    })),
  };
}

/** What boxes are made from and keep their data on: images, templates, volumes. */
export function ImagesPage() {
  const [progress, setProgress] = useState<ProgressLine | undefined>(undefined);
  const [removing, setRemoving] = useState<Row | undefined>(undefined);
  const pulling = useAction();
  const action = useAction();
  const lists = useLoaded(readLists, []);
  const pull = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const reference = String(new FormData(form).get('reference')).trim();
    const done = await pulling.run((signal) =>
      postWithProgress('/images/pull', { reference }, setProgress, signal),
    );
    setProgress(undefined);
    lists.again();
    if (done) form.reset();
  };
  const makeVolume = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const data = new FormData(form);
    const made = await action.run(() =>
      post('/volumes', { name: String(data.get('name')), size_gb: Number(data.get('size')) }),
    );
    lists.again();
    if (made) form.reset();
  };
  const remove = async ({ path }: Row) => {
    setRemoving(undefined);
    await action.run(() => ask(path, { method: 'DELETE' }));
    lists.again();
  };
  return (
    <>
      <ErrorBox error={lists.error} />
      <ErrorBox error={action.error} onClose={action.clear} />
      <h1>Images</h1>
      <form class="toolbar" onSubmit={pull}>
        <label>
          Reference <input name="reference" required placeholder="docker.io/library/alpine" />
        </label>
        <button type="submit" class="primary" disabled={pulling.busy}>
          Pull
        </button>
        {pulling.busy ? (
          <button type="button" onClick={pulling.cancel}>
            Cancel
          </button>
        ) : null}
      </form>
      {pulling.busy ? <Progress line={progress} first="pulling" /> : null}
      <ErrorBox error={pulling.error} onClose={pulling.clear} />
      <List rows={lists.value?.images ?? []} onRemove={setRemoving} />
      <h1>Templates</h1>
      <List rows={lists.value?.templates ?? []} onRemove={setRemoving} />
      <h1>Volumes</h1>
      <form class="toolbar" onSubmit={makeVolume}>
        <label>
          Name of the volume <input name="name" required />
        </label>
        <label>
          Size, GB <input name="size" type="number" min="1" value="10" required />
        </label>
        <button type="submit" disabled={action.busy}>
          Make a volume
        </button>
      </form>
      <List rows={lists.value?.volumes ?? []} onRemove={setRemoving} />
      {removing ? (
        <Confirm
          title="Remove?"
          what={removing.name}
          verb="Remove"
          onYes={() => remove(removing)}
          onClose={() => setRemoving(undefined)}
        />
      ) : null}
    </>
  );
}

function List({ rows, onRemove }: { rows: readonly Row[]; onRemove: (row: Row) => void }) {
  if (rows.length === 0) return <p class="hint">none</p>;
  return (
    <table>
      <tbody>
        {rows.map((row) => (
          <tr key={row.path}>
            <th scope="row">{row.name}</th>
            {row.facts.map((fact) => (
              <td key={fact}>{fact}</td>
            ))}
            <td>
              <button type="button" aria-label={`Remove ${row.name}`} onClick={() => onRemove(row)}>
                Remove
              </button>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
