// The pages that are in the repository, with links that lead to pages of the site.
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** Files outside of docs/ that are pages, and their names there. */
const others = { 'README.md': 'index', 'CHANGELOG.md': 'changelog', 'CONTRIBUTING.md': 'contributing' };

/** Writes every page of the repository below `target`. Throws when one names a page that is not there. */
export async function writePages(root, target) {
  const names = (await readdir(join(root, 'docs'), { recursive: true })).filter((name) =>
    name.endsWith('.md'),
  );
  const pages = new Map(Object.entries(others));
  for (const name of names) pages.set(`docs/${name}`, name.replace(/\.md$/, ''));
  const examples = (await readdir(join(root, 'examples'))).filter((name) => name.endsWith('.mjs')).sort();
  for (const [source, page] of pages) {
    const text = await readFile(join(root, source), 'utf8');
    await writePage(target, page, linked(text, { source, pages, examples }));
  }
  await writePage(target, 'examples', await examplesPage(root, examples));
  await mkdir(join(target, 'public'), { recursive: true });
  await copyFile(join(root, 'web/icon.svg'), join(target, 'public/icon.svg'));
}

/** Writes one page. */
export async function writePage(target, page, text) {
  const path = join(target, `${page}.md`);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}

/** Text whose links, and whose mentions of pages such as docs/api.md, lead to pages of the site. */
function linked(text, { source, pages, examples }) {
  const addressOf = (path) => {
    if (pages.has(path)) return `/${pages.get(path)}`;
    const example = examples.find((name) => path === `examples/${name}`);
    if (example) return `/examples#${example.replace(/\W+/g, '-')}`;
    throw new Error(`${source}: there is no page ${path}`);
  };
  let isCode = false;
  const line = (content) => {
    if (content.startsWith('```')) isCode = !isCode;
    if (isCode) return content;
    return content
      .replace(/\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)/g, (_, path, anchor = '') => {
        const whole = path.startsWith('/') ? path.slice(1) : join(dirname(source), path);
        return `](${addressOf(whole)}${anchor})`;
      })
      .replace(/(?<![\w[(/`.-])(docs\/[\w/-]+\.md)/g, (_, path) => `[${path}](${addressOf(path)})`);
  };
  return text.split('\n').map(line).join('\n');
}

/** Every example, with its source. */
async function examplesPage(root, examples) {
  const parts = ['# Examples', '', 'Short programs, each run by a test.', ''];
  for (const name of examples) {
    const source = await readFile(join(root, 'examples', name), 'utf8');
    parts.push(`## ${name}`, '', '```js', source.trimEnd(), '```', '');
  }
  return parts.join('\n');
}
