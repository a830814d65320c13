import { useEffect, useState } from 'preact/hooks';
import { type Action, useAction, useLoaded } from '../lib/action.ts';
import { ask, askJson, boxPath, post } from '../lib/api.ts';
import { listenToEvents } from '../lib/events.ts';
import { age, bytes } from '../lib/format.ts';
import { linkTo } from '../lib/route.ts';
import { type Branch, branchesOf, type TreeNodeJson } from '../lib/tree.ts';
import { Confirm } from '../parts/dialog.tsx';
import { type Compared, DiffDialog, hasDisk } from '../parts/diff.tsx';
import { ErrorBox } from '../parts/errors.tsx';
import { Status } from '../parts/status.tsx';

/** Changes within this time are read together. */
const gatherMs = 500;

/** Something that is done to a state. */
interface NodeOperation {
  readonly title: string;
  readonly fits: (node: TreeNodeJson) => boolean;
  /** What is lost by it; absent: nothing. */
  readonly loses?: string;
  readonly run: (node: TreeNodeJson) => Promise<unknown>;
}

const snapshotPath = ({ box_id: box, name }: TreeNodeJson, rest = '') =>
  boxPath(box ?? '', `/snapshots/${encodeURIComponent(name ?? '')}${rest}`);

/** Names that a form would ask for are made up by the server. */
const operations: readonly NodeOperation[] = [
  {
    title: 'Roll back',
    fits: ({ kind }) => kind === 'snapshot',
    loses: 'What its box holds now is dropped.',
    run: (node) => post(snapshotPath(node, '/restore'), { live: node.has_memory }),
  },
  {
    title: 'Fork',
    fits: ({ kind, has_memory: memory, status }) =>
      kind === 'snapshot' ? memory : kind === 'box' && (status === 'running' || status === 'paused'),
    run: async (node) => {
      const from = node.kind === 'snapshot' ? { from_snapshot: node.name } : {};
      const box = node.box_id ?? node.id;
      const { forks } = await post<{ forks: { error?: { message: string } }[] }>(boxPath(box, '/fork'), {
        count: 1,
        ...from,
      });
      const failed = forks.find(({ error }) => error !== undefined);
      if (failed) throw new Error(failed.error?.message);
    },
  },
  {
    title: 'Clone',
    fits: ({ kind }) => kind === 'snapshot' || kind === 'box',
    run: (node) =>
      node.kind === 'snapshot'
        ? post(boxPath(node.box_id ?? '', '/clone'), { from_snapshot: node.name })
        : post(boxPath(node.id, '/clone')),
  },
  {
    title: 'Make a template',
    fits: ({ kind, status }) => kind === 'box' && (status === 'running' || status === 'paused'),
    run: (node) => post('/snapshots', { sandbox_id: node.id }),
  },
  {
    title: 'Start a box',
    fits: ({ kind }) => kind === 'image' || kind === 'template',
    run: (node) => post('/boxes', node.kind === 'image' ? { image: node.id } : { template: node.id }),
  },
  {
    title: 'Remove',
    fits: () => true,
    loses: 'What descends from it stays.',
    run: (node) => ask(pathOf(node), { method: 'DELETE' }),
  },
];

function pathOf(node: TreeNodeJson): string {
  if (node.kind === 'snapshot') return snapshotPath(node);
  if (node.kind === 'box') return boxPath(node.id, '?force=true');
  if (node.kind === 'image') return `/images/${encodeURIComponent(node.id)}`;
  return `/snapshots/${encodeURIComponent(node.id)}`;
}

/** All states, each below what it descends from. */
export function TreePage() {
  const [asked, setAsked] = useState<{ operation: NodeOperation; node: TreeNodeJson } | undefined>(undefined);
  const [from, setFrom] = useState<TreeNodeJson | undefined>(undefined);
  const [compared, setCompared] = useState<Compared | undefined>(undefined);
  const action = useAction();
  const tree = useLoaded((signal) => askJson<{ nodes: TreeNodeJson[] }>('/tree', { signal }), []);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const soon = () => {
      clearTimeout(timer);
      timer = setTimeout(tree.again, gatherMs);
    };
    const forget = listenToEvents({ event: soon, reset: soon });
    return () => {
      clearTimeout(timer);
      forget();
    };
  }, [tree.again]);
  const act = async (operation: NodeOperation, node: TreeNodeJson) => {
    setAsked(undefined);
    await action.run(() => operation.run(node));
    tree.again();
  };
  const choose = (operation: NodeOperation, node: TreeNodeJson) =>
    operation.loses === undefined ? act(operation, node) : setAsked({ operation, node });
  const compare = (node: TreeNodeJson) => {
    if (from) setCompared({ from, to: node });
    setFrom(from ? undefined : node);
  };
  const branches = branchesOf(tree.value?.nodes ?? []);
  return (
    <>
      <div class="toolbar">
        <h1>Tree of states</h1>
        {action.busy ? <span role="status">working…</span> : null}
      </div>
      <ErrorBox error={action.error} onClose={action.clear} />
      <ErrorBox error={tree.error} />
      {from ? (
        <div class="toolbar" role="status">
          <span>Compare {titleOf(from)} with which state?</span>
          <button
            type="button"
            onClick={() => {
              setCompared({ from: undefined, to: from });
              setFrom(undefined);
            }}
          >
            Its image
          </button>
          <button type="button" onClick={() => setFrom(undefined)}>
            None
          </button>
        </div>
      ) : null}
      <Branches branches={branches} action={action} onChoose={choose} from={from} onCompare={compare} />
      {compared ? (
        <DiffDialog
          compared={compared}
          title={`From ${compared.from ? titleOf(compared.from) : 'the image'} to ${titleOf(compared.to)}`}
          onClose={() => setCompared(undefined)}
        />
      ) : null}
      {asked ? (
        <Confirm
          title={`${asked.operation.title}: ${titleOf(asked.node)}?`}
          what={asked.operation.loses ?? ''}
          verb={asked.operation.title}
          onYes={() => act(asked.operation, asked.node)}
          onClose={() => setAsked(undefined)}
        />
      ) : null}
    </>
  );
}

interface BranchesProps {
  readonly branches: readonly Branch[];
  readonly action: Action;
  readonly onChoose: (operation: NodeOperation, node: TreeNodeJson) => unknown;
  /** What was chosen to be compared with another one. */
  readonly from: TreeNodeJson | undefined;
  readonly onCompare: (node: TreeNodeJson) => unknown;
}

function Branches({ branches, ...rest }: BranchesProps) {
  const { action, onChoose, from, onCompare } = rest;
  if (branches.length === 0) return null;
  return (
    <ul class="tree">
      {branches.map(({ node, children }) => (
        <li key={`${node.kind}:${node.id}`}>
          <div class="node">
            <span class="label">{node.kind}</span>
            {node.kind === 'box' ? (
              <a href={linkTo('box', node.id)}>{titleOf(node)}</a>
            ) : (
              <span>{titleOf(node)}</span>
            )}
            {node.status === null ? null : <Status status={node.status} operation={null} />}
            <span class="hint">
              {node.kind === 'snapshot' && node.has_memory ? 'with memory, ' : ''}
              {node.exclusive_bytes === null ? '' : `${bytes(node.exclusive_bytes)} its own, `}
              {bytes(node.size_bytes)} in all, {age(node.created_at)}
            </span>
            {operations
              .filter((operation) => operation.fits(node))
              .map((operation) => (
                <button
                  key={operation.title}
                  type="button"
                  disabled={action.busy}
                  aria-label={`${operation.title}: ${node.kind} ${titleOf(node)}`}
                  onClick={() => onChoose(operation, node)}
                >
                  {operation.title}
                </button>
              ))}
            {hasDisk(node) && node !== from ? (
              <button
                type="button"
                disabled={action.busy}
                aria-label={`Compare: ${node.kind} ${titleOf(node)}`}
                onClick={() => onCompare(node)}
              >
                {from ? 'Compare with this' : 'Compare'}
              </button>
            ) : null}
          </div>
          <Branches branches={children} {...rest} />
        </li>
      ))}
    </ul>
  );
}

function titleOf({ name, id }: TreeNodeJson): string {
  return name ?? id.slice(0, 12);
}
