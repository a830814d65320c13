import type { Box, BoxInfo } from '../../api/index.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import type { Call } from '../http/route.js';
import { sandboxIdOf } from './names.js';
import { missingText } from './params.js';

/** The sandbox of a request of the control plane. Throws `not_found` in E2B's words. */
export async function sandboxOf({
  runtime,
  params,
  signal,
}: Pick<Call<{ id: string }>, 'runtime' | 'params' | 'signal'>): Promise<{ box: Box; info: BoxInfo }> {
  const missing = () => new CryoboxError('not_found', missingText(sandboxIdOf(params.id)));
  const box = await runtime.get(params.id, { signal });
  if (!box) throw missing();
  try {
    return { box, info: await box.info({ signal }) };
  } catch (error) {
    throw isCryoboxError(error, 'not_found') ? missing() : error;
  }
}
