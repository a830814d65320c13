// The documentation as static pages with search. Pages are made by ../build.mjs before VitePress runs.
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitepress';

const pages = fileURLToPath(new URL('../.cache/pages/', import.meta.url));

/** A page, under its own heading. */
function page(path) {
  const title = /^# (.+)$/m.exec(readFileSync(`${pages}${path}.md`, 'utf8'))?.[1] ?? path;
  return { text: title, link: `/${path}` };
}

function group(text, paths, more = {}) {
  return { text, items: paths.map(page), ...more };
}

const decisions = readdirSync(`${pages}decisions`)
  .sort()
  .map((name) => `decisions/${name.replace(/\.md$/, '')}`);
const sdk = JSON.parse(readFileSync(`${pages}sdk/typedoc-sidebar.json`, 'utf8'));

export default defineConfig({
  title: 'Cryobox',
  description: 'Small virtual machines that can be frozen, forked and rewound',
  srcDir: '.cache/pages',
  outDir: 'dist',
  cacheDir: '.cache/vitepress',
  base: process.env.DOCS_BASE ?? '/',
  cleanUrls: false,
  // A dialect's own marks, such as <name>, are text and no elements.
  markdown: { html: false },
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    nav: [
      { text: 'Command line', link: '/cli' },
      { text: 'SDK', link: '/sdk/' },
      { text: 'REST', link: '/api' },
    ],
    sidebar: [
      group('Begin', ['index', 'examples', 'troubleshooting', 'uninstall', 'changelog']),
      group('Use', [
        'cli',
        'api',
        'building',
        'ssh',
        'networking',
        'hosts',
        'limits',
        'monitoring',
        'environment',
        'performance',
        'dashboard',
      ]),
      group('Other clients', ['e2b', 'mcp']),
      { text: 'SDK', link: '/sdk/', collapsed: true, items: sdk },
      group('How it is made', ['ARCHITECTURE', 'SPECIFICATION', 'PROTOCOL', 'FORMATS', 'contributing']),
      group('Findings', decisions, { collapsed: true }),
    ],
  },
});
