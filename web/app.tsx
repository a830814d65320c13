import { useEffect, useState } from 'preact/hooks';
import { signedOut } from './lib/api.ts';
import { watchBoxes } from './lib/boxes.ts';
import { connection, followEvents } from './lib/events.ts';
import { linkTo, route } from './lib/route.ts';
import { readSession, type SessionState, signIn, signOut, takeLinkToken } from './lib/session.ts';
import { useValue } from './lib/value.ts';
import { BoxPage } from './pages/box.tsx';
import { BoxesPage } from './pages/boxes.tsx';
import { CreatePage } from './pages/create.tsx';
import { EventsPage } from './pages/events.tsx';
import { ImagesPage } from './pages/images.tsx';
import { SignIn } from './pages/sign-in.tsx';
import { TreePage } from './pages/tree.tsx';

const retryMs = 1000;

/** Lets the browser in where it may, and asks for a key where it has to. */
export function App() {
  const [session, setSession] = useState<SessionState | undefined>(undefined);
  const [error, setError] = useState<unknown>(undefined);
  useEffect(() => {
    const leave = () => setSession('signed-out');
    signedOut.addEventListener('signed-out', leave);
    begin(setError).then(setSession, setError);
    return () => signedOut.removeEventListener('signed-out', leave);
  }, []);
  if (session === undefined)
    return <main class="sign-in">{error === undefined ? 'Connecting…' : String(error)}</main>;
  if (session === 'signed-out') {
    return <SignIn error={error} onDone={() => begin(setError).then(setSession, setError)} />;
  }
  return <Pages session={session} onSignOut={() => signOut().then(() => setSession('signed-out'))} />;
}

/** Signs in by the link the page was opened with, and waits for a server that does not answer yet. */
async function begin(onError: (error: unknown) => void): Promise<SessionState> {
  const link = takeLinkToken();
  if (link !== undefined) await signIn({ link }).catch(onError);
  for (;;) {
    try {
      return await readSession();
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }
}

const pages = [
  ['boxes', 'Boxes'],
  ['tree', 'Tree'],
  ['images', 'Images'],
  ['events', 'Events'],
] as const;

function Pages({ session, onSignOut }: { session: SessionState; onSignOut: () => void }) {
  const [page = '', ...rest] = useValue(route);
  const state = useValue(connection);
  useEffect(() => {
    const controller = new AbortController();
    const forget = watchBoxes();
    followEvents(controller.signal).catch((error: unknown) => {
      if (!controller.signal.aborted) throw error;
    });
    return () => {
      controller.abort();
      forget();
    };
  }, []);
  return (
    <>
      <header>
        <a class="brand" href={linkTo('boxes')}>
          Cryobox
        </a>
        <nav aria-label="Pages">
          {pages.map(([name, title]) => (
            <a key={name} href={linkTo(name)} aria-current={(page || 'boxes') === name ? 'page' : undefined}>
              {title}
            </a>
          ))}
        </nav>
        <span class={`connection ${state}`} role="status">
          {state === 'lost' ? 'Connection lost, coming back…' : state}
        </span>
        {session === 'signed-in' ? (
          <button type="button" class="quiet" onClick={onSignOut}>
            Sign out
          </button>
        ) : null}
      </header>
      <main>
        <Page page={page} rest={rest} />
      </main>
    </>
  );
}

function Page({ page, rest }: { page: string; rest: readonly string[] }) {
  if (page === 'box' && rest[0]) return <BoxPage key={rest[0]} id={rest[0]} tab={rest[1] ?? 'overview'} />;
  if (page === 'create') return <CreatePage />;
  if (page === 'tree') return <TreePage />;
  if (page === 'images') return <ImagesPage />;
  if (page === 'events') return <EventsPage />;
  return <BoxesPage />;
}
