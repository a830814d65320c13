import { useRef } from 'preact/hooks';
import { useAction } from '../lib/action.ts';
import { signIn } from '../lib/session.ts';
import { ErrorBox } from '../parts/errors.tsx';

/** Asks for an API key. */
export function SignIn({ onDone, error }: { onDone: () => void; error?: unknown }) {
  const field = useRef<HTMLInputElement>(null);
  const action = useAction();
  const submit = async (event: Event) => {
    event.preventDefault();
    const key = field.current?.value.trim() ?? '';
    if (await action.run(() => signIn({ key }))) onDone();
  };
  return (
    <main class="sign-in">
      <h1>Cryobox</h1>
      <form onSubmit={submit}>
        <label for="key">API key</label>
        <input id="key" ref={field} type="password" autocomplete="current-password" required autofocus />
        <button type="submit" class="primary" disabled={action.busy}>
          Sign in
        </button>
        <p class="hint">
          <code>cryobox keys create</code> on the server makes one.
        </p>
      </form>
      <ErrorBox error={action.error ?? error} />
    </main>
  );
}
