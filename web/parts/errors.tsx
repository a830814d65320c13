import { shownError } from '../lib/errors.ts';

/** What went wrong and what to do about it; nothing without an error. */
export function ErrorBox({ error, onClose }: { error: unknown; onClose?: () => void }) {
  if (error === undefined) return null;
  const { message, hint } = shownError(error);
  return (
    <div class="error" role="alert">
      <p>{message}</p>
      {hint === undefined ? null : <p class="hint">{hint}</p>}
      {onClose ? (
        <button type="button" class="quiet" onClick={onClose}>
          Close
        </button>
      ) : null}
    </div>
  );
}
