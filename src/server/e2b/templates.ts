import type { CreateOptions, Runtime } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import type { E2bOptions } from './context.js';

/** The tag that a name without one has. */
const defaultTag = ':default';

/**
 * What a new box is made of for the name of a template: what stands in for it, else the template of the home that has it,
 * else the image. Throws `not_found`.
 */
export async function sourceOf(
  { standIns }: E2bOptions,
  runtime: Runtime,
  asked: string,
): Promise<Pick<CreateOptions, 'image' | 'template'>> {
  const name = asked.endsWith(defaultTag) ? asked.slice(0, -defaultTag.length) : asked;
  const wanted = (await standIns?.())?.[name] ?? name;
  const [template, image] = await Promise.all([
    // A reference of an image is no name of a template.
    /[/:@]/.test(wanted) ? null : runtime.templates.get(wanted),
    runtime.images.get(wanted),
  ]);
  if (template) return { template: wanted };
  if (image) return { image: wanted };
  throw new CryoboxError('not_found', `template '${asked}' not found`, {
    hint: `Make an image or a template with this name (\`cryobox images build ${/[/:@]/.test(name) ? 'base' : name}\`), or name one that stands in for it in e2b.json of the home.`,
  });
}
