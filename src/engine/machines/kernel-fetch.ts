import { neededPackageFile } from '../../base/package-files.js';
import { runProcess } from '../../base/process/index.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import { type ArchitectureName, hostArchitecture } from '../../machine/index.js';
import { findKernel, setUpHintFor } from './assets.js';

/** About 30 MB over a slow line; who waits for an engine to start waits for this too. */
const fetchTimeoutMs = 100_000;

/**
 * Fetches the guest kernel of an architecture, by default this host's, unless it is there: the first who needs it gets it,
 * without root. `tell` hears that it takes a while. Throws `config_error` when it cannot be had.
 */
export async function ensureKernel(
  tell: (text: string) => void,
  architecture: ArchitectureName = hostArchitecture().name,
): Promise<void> {
  try {
    await findKernel(architecture);
    return;
  } catch (error) {
    if (!isCryoboxError(error, 'config_error')) throw error;
  }
  tell('fetching the guest kernel (about 30 MB, once)');
  const args = [neededPackageFile('scripts/prepare-host.mjs'), '--kernel-only', architecture];
  const failure = await runProcess(process.execPath, { args, timeoutMs: fetchTimeoutMs }).then(
    ({ code, stderr }) => (code === 0 ? undefined : { message: reasonIn(stderr), error: undefined }),
    (error: unknown) => {
      if (!isCryoboxError(error, 'timeout')) throw error;
      return { message: error.message, error };
    },
  );
  if (failure === undefined) return;
  throw new CryoboxError(
    'config_error',
    `there is no guest kernel, and it cannot be fetched: ${failure.message}`,
    {
      cause: failure.error,
      hint: setUpHintFor(architecture),
    },
  );
}

/** What the script says of a failure, without the hint below it; of one that it did not foresee, what Node prints. */
function reasonIn(stderr: string): string {
  return /^(?:FAIL |\w*Error: )(.*)/m.exec(stderr)?.[1] ?? stderr.trim();
}
