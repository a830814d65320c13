import { describe, expect, it } from 'vitest';
import { type Scope, scopes } from '../../src/server/http/auth.js';
import { routes } from '../../src/server/v1/index.js';
import { exchange, requestText, statusOf } from './raw.js';
import { serverWithoutRuntime } from './support.js';

/** What each scope lets its key do, and nothing else does; what everybody may is at the end. */
const allowed: Record<Scope | 'public', readonly string[]> = {
  'box:read': [
    ...[
      'listBoxes',
      'getBox',
      'hasBox',
      'getBoxMetrics',
      'getBoxSeries',
      'getConsole',
      'getLogs',
      'getNetwork',
      'listPorts',
      'listPreviews',
      'listSecrets',
      'getMetrics',
      'getTree',
      'getPrometheus',
    ],
    ...['readFile', 'packFiles', 'statFile', 'listFiles', 'watchFiles', 'listExecutions', 'getExecution'],
    'getExecutionLogs',
    ...['listSnapshots', 'getSnapshot', 'diffBox', 'streamEvents'],
  ],
  'box:write': [
    ...['createBox', 'importBox', 'exportBox', 'cloneBox', 'forkBox'],
    ...['startBox', 'stopBox', 'renameBox', 'limitDisk', 'setLifetime', 'updateNetwork', 'setOutbound'],
    ...['pauseBox', 'resumeBox'],
    ...['unpackFiles', 'writeFile', 'removeFile', 'makeDirectory', 'renameFile'],
    ...['createSnapshot', 'removeSnapshot', 'restoreSnapshot', 'setSecret', 'removeSecret'],
  ],
  'box:exec': [
    ...['startExec', 'writeStdin', 'killExecution', 'signalExecution', 'resizeExecution'],
    ...['attachExecution', 'attachMain', 'execStream', 'connectPort', 'openTunnel'],
    ...['createPreview', 'removePreview', 'revokeTunnel', 'setInbound'],
  ],
  'box:delete': ['removeBox'],
  'image:read': ['listImages', 'getImage', 'hasImage', 'getImageUsage', 'listRegistries'],
  'image:write': [
    'buildImageFromDockerfile',
    ...['pullImage', 'pruneImages', 'removeImage', 'createImageAlias', 'removeImageAlias'],
    ...['createRegistry', 'removeRegistry'],
  ],
  'template:read': ['listTemplates', 'getTemplate'],
  'template:write': ['createTemplate', 'removeTemplate'],
  'volume:read': ['listVolumes', 'getVolume'],
  'volume:write': ['createVolume', 'removeVolume'],
  'me:read': ['getMe'],
  admin: [
    'importImage',
    'releaseBox',
    'adoptBox',
    'buildImage',
    'collectGarbage',
    'verify',
    'getEngine',
    'handOverEngine',
    'publishPort',
    'unpublishPort',
  ],
  public: ['getConfig', 'getOpenApi', 'getHealth'],
};

describe('scopes', () => {
  it('have every operation among them, once', () => {
    const listed = Object.values(allowed).flat();
    expect(listed.toSorted()).toEqual(routes.map(({ operation }) => operation).toSorted());
  });

  it.each(scopes)('%s alone lets a key do what is listed for it, and nothing else', async (scope) => {
    const principal = { id: 'k', tenant: '', scopes: [scope], expiresAt: null };
    const { url } = await serverWithoutRuntime({ authenticator: { authenticate: async () => principal } });
    const open: string[] = [];
    for (const { method, path, root, operation } of routes) {
      const target =
        (root ? '' : '/v1') + path.replaceAll(/:(\w+)/g, (_, name: string) => (name === 'port' ? '80' : 'x'));
      const headers = [
        ['host', new URL(url).host],
        ['authorization', 'Bearer k'],
        ['connection', 'close'],
      ] as const;
      const status = statusOf(await exchange(url, requestText(target, headers, { method })));
      // 503 is the runtime that was reached, 400 and 415 are bodies that would have been read.
      if (status !== 403) open.push(operation);
      expect([operation, status]).not.toEqual([operation, 401]);
      expect([operation, status]).not.toEqual([operation, 500]);
    }
    expect(open.toSorted()).toEqual([...allowed[scope], ...allowed.public].toSorted());
  });
});
