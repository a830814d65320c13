import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import { useEffect, useRef, useState } from 'preact/hooks';
import { ask, boxPath } from '../lib/api.ts';
import { shownError } from '../lib/errors.ts';
import { TerminalLink } from '../lib/terminal-link.ts';
import type { BoxJson } from '../lib/types.ts';

/** A terminal of this browser tab; `executionId` once its shell runs. */
interface Open {
  readonly key: number;
  readonly executionId: string | undefined;
}

const scrollbackLines = 5000;
const storageKey = (boxId: string) => `cryobox.terminals.${boxId}`;

/** Terminals that this tab had, so that a page that is loaded again has them again. */
function remembered(boxId: string): Open[] {
  try {
    const ids = JSON.parse(sessionStorage.getItem(storageKey(boxId)) ?? '[]') as string[];
    return ids.map((executionId, key) => ({ key, executionId }));
  } catch {
    return [];
  }
}

/** Terminals in a box, several beside each other. */
export function TerminalTab({ box }: { box: BoxJson }) {
  const id = box.box_id;
  const [open, setOpen] = useState<readonly Open[]>(() => {
    const before = remembered(id);
    return before.length > 0 ? before : [{ key: 0, executionId: undefined }];
  });
  const [shown, setShown] = useState(open.at(-1)?.key ?? 0);
  useEffect(() => {
    const ids = open.flatMap(({ executionId }) => executionId ?? []);
    sessionStorage.setItem(storageKey(id), JSON.stringify(ids));
  }, [open, id]);
  const add = () => {
    const key = Math.max(-1, ...open.map((it) => it.key)) + 1;
    setOpen([...open, { key, executionId: undefined }]);
    setShown(key);
  };
  const close = ({ key, executionId }: Open) => {
    const left = open.filter((it) => it.key !== key);
    setOpen(left);
    if (shown === key) setShown(left.at(-1)?.key ?? 0);
    // It may have ended by itself.
    if (executionId !== undefined) {
      ask(boxPath(id, `/executions/${executionId}`), { method: 'DELETE' }).catch(() => undefined);
    }
  };
  return (
    <>
      <div class="toolbar">
        {open.map((it, at) => (
          <span key={it.key} class="pair">
            <button type="button" aria-pressed={it.key === shown} onClick={() => setShown(it.key)}>
              Terminal {at + 1}
            </button>
            <button type="button" aria-label={`End terminal ${at + 1}`} onClick={() => close(it)}>
              ×
            </button>
          </span>
        ))}
        <button type="button" onClick={add}>
          New terminal
        </button>
      </div>
      {open.map((it) => (
        <div key={it.key} hidden={it.key !== shown}>
          <OneTerminal
            boxId={id}
            isShown={it.key === shown}
            executionId={it.executionId}
            onAttached={(executionId) =>
              setOpen((before) =>
                before.map((each) => (each.key === it.key ? { ...each, executionId } : each)),
              )
            }
          />
        </div>
      ))}
    </>
  );
}

interface OneProps {
  readonly boxId: string;
  readonly isShown: boolean;
  readonly executionId: string | undefined;
  readonly onAttached: (executionId: string) => void;
}

function OneTerminal({ boxId, isShown, executionId, onAttached }: OneProps) {
  const place = useRef<HTMLDivElement>(null);
  const fit = useRef<FitAddon | undefined>(undefined);
  const [state, setState] = useState('connecting');
  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const terminal = new Terminal({ scrollback: scrollbackLines, screenReaderMode: true, fontSize: 14 });
    const fitting = new FitAddon();
    fit.current = fitting;
    terminal.loadAddon(fitting);
    terminal.open(element);
    fitting.fit();
    terminal.focus();
    const link = new TerminalLink(
      boxId,
      { cols: terminal.cols, rows: terminal.rows },
      {
        attached: (id) => {
          setState('connected');
          onAttached(id);
        },
        output: (bytes, taken) => terminal.write(bytes, taken),
        lost: () => setState('connection lost, coming back'),
        ended: (exitCode) => setState(`ended with ${exitCode}`),
        failed: (error) => {
          const { message, hint = '' } = shownError(error);
          setState(`${message}. ${hint}`);
        },
      },
      executionId,
    );
    terminal.onData((text) => link.write(text));
    terminal.onResize(({ cols, rows }) => link.resize({ cols, rows }));
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0) fitting.fit();
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      link.close();
      terminal.dispose();
    };
  }, []);
  useEffect(() => {
    if (isShown) fit.current?.fit();
  }, [isShown]);
  return (
    <>
      <p class="terminal-state" role="status">
        {state}
      </p>
      <div class="terminal" ref={place} />
    </>
  );
}
