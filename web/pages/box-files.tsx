import { useRef, useState } from 'preact/hooks';
import { useAction, useLoaded } from '../lib/action.ts';
import { ask, askJson, boxPath, post } from '../lib/api.ts';
import { age, bytes, modeText } from '../lib/format.ts';
import type { BoxJson, FileJson } from '../lib/types.ts';
import { Confirm, Dialog } from '../parts/dialog.tsx';
import { ErrorBox } from '../parts/errors.tsx';

/** Larger files are downloaded, not edited. */
const mostEditedBytes = 256 * 1024;

const nameOf = (path: string) => path.slice(path.lastIndexOf('/') + 1);
const within = (directory: string, name: string) => `${directory === '/' ? '' : directory}/${name}`;
const contentPath = (box: BoxJson, path: string) =>
  boxPath(box.box_id, `/files/content?path=${encodeURIComponent(path)}`);

/** Gives bytes to the user as a file. */
async function download(box: BoxJson, path: string, signal: AbortSignal): Promise<void> {
  const blob = await (await ask(contentPath(box, path), { signal })).blob();
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = nameOf(path);
  link.click();
  // The browser has taken it by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Files of a box. Looking at them brings the box up, where that is allowed. */
export function FilesTab({ box }: { box: BoxJson }) {
  const [directory, setDirectory] = useState('/root');
  const [removing, setRemoving] = useState<FileJson | undefined>(undefined);
  const [editing, setEditing] = useState<{ path: string; text: string } | undefined>(undefined);
  const action = useAction();
  const picker = useRef<HTMLInputElement>(null);
  const list = useLoaded(
    (signal) =>
      askJson<FileJson[]>(boxPath(box.box_id, `/files/list?path=${encodeURIComponent(directory)}`), {
        signal,
      }),
    [box.box_id, directory],
  );
  const change = async (task: (signal: AbortSignal) => Promise<unknown>) => {
    await action.run(task);
    list.again();
  };
  const upload = (files: Iterable<File>) =>
    change(async (signal) => {
      for (const file of [...files]) {
        await ask(contentPath(box, within(directory, file.name)), { method: 'PUT', bytes: file, signal });
      }
    });
  const edit = (file: FileJson) =>
    action.run(async (signal) => {
      setEditing({
        path: file.path,
        text: await (await ask(contentPath(box, file.path), { signal })).text(),
      });
    });
  const entries = [...(list.value ?? [])].sort(byKindAndName);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: files may also be chosen by the button
    <div
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        return upload(event.dataTransfer?.files ?? []);
      }}
    >
      <div class="toolbar">
        <Crumbs directory={directory} onGo={setDirectory} />
        <button type="button" disabled={action.busy} onClick={() => picker.current?.click()}>
          Upload
        </button>
        <input
          ref={picker}
          type="file"
          multiple
          hidden
          aria-label="Files to upload"
          onChange={async (event) => {
            const field = event.currentTarget;
            await upload(field.files ?? []);
            field.value = '';
          }}
        />
        <button type="button" onClick={list.again}>
          Refresh
        </button>
        {action.busy ? (
          <button type="button" onClick={action.cancel}>
            Cancel
          </button>
        ) : null}
        <span class="hint">or drop files here</span>
      </div>
      <ErrorBox error={action.error} onClose={action.clear} />
      <ErrorBox error={list.error} />
      <table class="files">
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">Size</th>
            <th scope="col">Mode</th>
            <th scope="col">Changed</th>
            <th scope="col">Actions</th>
          </tr>
        </thead>
        <tbody>
          {entries.map((file) => (
            <tr key={file.path}>
              <th scope="row">
                {file.type === 'directory' ? (
                  <button type="button" class="link" onClick={() => setDirectory(file.path)}>
                    {nameOf(file.path)}/
                  </button>
                ) : (
                  nameOf(file.path)
                )}
                {file.link_target === undefined ? '' : ` → ${file.link_target}`}
              </th>
              <td>{file.type === 'file' ? bytes(file.size_bytes) : file.type}</td>
              <td>{modeText(file.mode)}</td>
              <td>{age(file.modified_at)} ago</td>
              <td class="buttons">
                {file.type === 'file' ? (
                  <button
                    type="button"
                    aria-label={`Download ${nameOf(file.path)}`}
                    onClick={() => action.run((signal) => download(box, file.path, signal))}
                  >
                    Download
                  </button>
                ) : null}
                {file.type === 'file' && file.size_bytes <= mostEditedBytes ? (
                  <button type="button" aria-label={`Edit ${nameOf(file.path)}`} onClick={() => edit(file)}>
                    Edit
                  </button>
                ) : null}
                <button
                  type="button"
                  aria-label={`Remove ${nameOf(file.path)}`}
                  onClick={() => setRemoving(file)}
                >
                  Remove
                </button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {removing ? (
        <Confirm
          title="Remove from the box?"
          what={removing.path}
          verb="Remove"
          onClose={() => setRemoving(undefined)}
          onYes={() => {
            const query = `?path=${encodeURIComponent(removing.path)}&recursive=true`;
            setRemoving(undefined);
            return change((signal) =>
              ask(boxPath(box.box_id, `/files${query}`), { method: 'DELETE', signal }),
            );
          }}
        />
      ) : null}
      {editing ? (
        <Editor
          path={editing.path}
          text={editing.text}
          onClose={() => setEditing(undefined)}
          onSave={(text) => {
            const { path } = editing;
            setEditing(undefined);
            return change((signal) =>
              ask(contentPath(box, path), { method: 'PUT', bytes: new Blob([text]), signal }),
            );
          }}
        />
      ) : null}
      <NewDirectory
        onMake={(name) =>
          change(() => post(boxPath(box.box_id, '/files/directory'), { path: within(directory, name) }))
        }
      />
    </div>
  );
}

function byKindAndName(a: FileJson, b: FileJson): number {
  const kind = Number(b.type === 'directory') - Number(a.type === 'directory');
  return kind || a.path.localeCompare(b.path);
}

/** The way to a directory, each part a button. */
function Crumbs({ directory, onGo }: { directory: string; onGo: (path: string) => void }) {
  const parts = directory.split('/').filter(Boolean);
  return (
    <nav aria-label="Directory" class="crumbs">
      <button type="button" class="link" aria-label="Root directory" onClick={() => onGo('/')}>
        /
      </button>
      {parts.map((part, at) => {
        const path = `/${parts.slice(0, at + 1).join('/')}`;
        return (
          <button key={path} type="button" class="link" onClick={() => onGo(path)}>
            {part}/
          </button>
        );
      })}
    </nav>
  );
}

function Editor({
  path,
  text,
  onSave,
  onClose,
}: {
  path: string;
  text: string;
  onSave: (text: string) => void;
  onClose: () => void;
}) {
  const field = useRef<HTMLTextAreaElement>(null);
  return (
    <Dialog title={path} onClose={onClose}>
      <textarea ref={field} aria-label={`Content of ${path}`} spellcheck={false} defaultValue={text} />
      <div class="buttons">
        <button type="button" class="primary" onClick={() => onSave(field.current?.value ?? text)}>
          Save
        </button>
        <button type="button" onClick={onClose}>
          Cancel
        </button>
      </div>
    </Dialog>
  );
}

function NewDirectory({ onMake }: { onMake: (name: string) => Promise<void> }) {
  const field = useRef<HTMLInputElement>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    const name = field.current?.value.trim() ?? '';
    if (name === '') return;
    await onMake(name);
    if (field.current) field.current.value = '';
  };
  return (
    <form class="toolbar" onSubmit={submit}>
      <label>
        New directory <input ref={field} required />
      </label>
      <button type="submit">Make</button>
    </form>
  );
}
