import { useState } from 'preact/hooks';
import { useAction, useLoaded } from '../lib/action.ts';
import { askJson, type ProgressLine, postWithProgress } from '../lib/api.ts';
import { goTo, linkTo } from '../lib/route.ts';
import type { BoxJson, ImageJson, TemplateJson } from '../lib/types.ts';
import { ErrorBox } from '../parts/errors.tsx';
import { Progress } from '../parts/progress.tsx';

interface Sources {
  readonly images: readonly string[];
  readonly templates: readonly string[];
}

async function readSources(signal: AbortSignal): Promise<Sources> {
  const [images, templates] = await Promise.all([
    askJson<{ images: ImageJson[] }>('/images', { signal }).then(({ images }) =>
      images.map((it) => it.reference),
    ),
    askJson<TemplateJson[] | { templates: TemplateJson[] }>('/snapshots', { signal }).then((list) =>
      (Array.isArray(list) ? list : list.templates).map((it) => it.name),
    ),
  ]);
  return { images, templates };
}

/** Words of the form as the body of a create: what is left empty has the server's default. */
function requestOf(form: HTMLFormElement): Record<string, unknown> {
  const text = (name: string) => String(new FormData(form).get(name) ?? '').trim();
  const number = (name: string) => (text(name) === '' ? undefined : Number(text(name)));
  const labels = text('labels')
    .split(/[\s,]+/)
    .filter(Boolean);
  const template = text('template');
  return {
    ...(template === '' ? { image: text('image') } : { template }),
    name: text('name') || undefined,
    cpus: number('cpus'),
    memory_mib: number('memory'),
    disk_size_gb: number('disk'),
    auto_stop: number('auto_stop'),
    ...(text('network') === 'disabled' ? { network: { outbound: { mode: 'disabled' } } } : {}),
    ...(labels.length === 0
      ? {}
      : {
          labels: Object.fromEntries(
            labels.map((it) => [it.split('=')[0], it.split('=').slice(1).join('=')]),
          ),
        }),
  };
}

/** Makes a box, and shows how far it is: an image may have to be fetched first. */
export function CreatePage() {
  const sources = useLoaded(readSources, []);
  const [progress, setProgress] = useState<ProgressLine | undefined>(undefined);
  const action = useAction();
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const request = requestOf(event.currentTarget as HTMLFormElement);
    let made: BoxJson | undefined;
    await action.run(async (signal) => {
      made = await postWithProgress<BoxJson>('/boxes', request, setProgress, signal);
    });
    setProgress(undefined);
    if (made) goTo('box', made.box_id);
  };
  const { images = [], templates = [] } = sources.value ?? {};
  return (
    <>
      <h1>Create a box</h1>
      <ErrorBox error={sources.error} />
      <form class="form" onSubmit={submit}>
        <label>
          Image
          <input name="image" list="images" placeholder="debian-python" />
        </label>
        <datalist id="images">
          {images.map((name) => (
            <option key={name} value={name} />
          ))}
        </datalist>
        <label>
          or template
          <select name="template">
            <option value="">none</option>
            {templates.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <label>
          Name
          <input name="name" />
        </label>
        <label>
          Processors
          <input name="cpus" type="number" min="1" />
        </label>
        <label>
          Memory, MiB
          <input name="memory" type="number" min="1" />
        </label>
        <label>
          Disk, GB
          <input name="disk" type="number" min="1" />
        </label>
        <label>
          Stop when unused for, s
          <input name="auto_stop" type="number" min="0" />
        </label>
        <label>
          Network
          <select name="network">
            <option value="enabled">outbound</option>
            <option value="disabled">none</option>
          </select>
        </label>
        <label>
          Labels
          <input name="labels" placeholder="team=web stage=test" />
        </label>
        <div class="buttons">
          <button type="submit" class="primary" disabled={action.busy}>
            Create
          </button>
          {action.busy ? (
            <button type="button" onClick={action.cancel}>
              Cancel
            </button>
          ) : (
            <a class="button" href={linkTo('boxes')}>
              Back
            </a>
          )}
        </div>
      </form>
      {action.busy ? <Progress line={progress} first="creating" /> : null}
      <ErrorBox error={action.error} onClose={action.clear} />
    </>
  );
}
