// Looks at every link of the built pages, anchors included.
import { LinkChecker } from 'linkinator';

/** Links checked at a time: all are files of this host. */
const concurrency = 20;

/** Follows all links from the first page of a directory; those to other hosts are not asked for. */
export async function checkLinks(directory) {
  const checker = new LinkChecker();
  const { links } = await checker.check({
    path: 'index.html',
    serverRoot: directory,
    recurse: true,
    checkFragments: true,
    concurrency,
    linksToSkip: async (url) => !['localhost', '127.0.0.1'].includes(new URL(url).hostname),
  });
  const checked = links.filter(({ state }) => state !== 'SKIPPED');
  return { count: checked.length, broken: checked.filter(({ state }) => state === 'BROKEN') };
}
