import { useEffect, useState } from 'preact/hooks';
import { useLoaded } from '../lib/action.ts';
import { ask, askJson, boxPath } from '../lib/api.ts';
import type { BoxJson } from '../lib/types.ts';
import { ErrorBox } from '../parts/errors.tsx';

const everyMs = 2000;

const sources = ['stdout', 'stderr', 'console'] as const;
type Source = (typeof sources)[number];

async function read(box: BoxJson, source: Source, signal: AbortSignal): Promise<string> {
  if (source === 'console') {
    const { console: lines } = await askJson<{ console: string }>(boxPath(box.box_id, '/console'), {
      signal,
    });
    return lines;
  }
  return await (await ask(boxPath(box.box_id, `/logs?output=${source}`), { signal })).text();
}

/** What the main command and the machine's console have written, renewed while the page is seen. */
export function LogsTab({ box }: { box: BoxJson }) {
  const [source, setSource] = useState<Source>(box.main ? 'stdout' : 'console');
  const log = useLoaded((signal) => read(box, source, signal), [box.box_id, source]);
  useEffect(() => {
    const timer = setInterval(() => {
      if (document.visibilityState === 'visible') log.again();
    }, everyMs);
    return () => clearInterval(timer);
  }, [log.again]);
  return (
    <>
      <div class="toolbar">
        {sources.map((each) => (
          <button key={each} type="button" aria-pressed={source === each} onClick={() => setSource(each)}>
            {each}
          </button>
        ))}
      </div>
      <ErrorBox error={log.error} />
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls has to be reached by the keyboard */}
      <section class="log" tabIndex={0} aria-label={`Output: ${source}`}>
        <pre>{log.value ?? ''}</pre>
      </section>
    </>
  );
}
