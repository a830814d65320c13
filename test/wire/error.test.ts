import { describe, expect, it } from 'vitest';
import { CryoboxError, catalogue, type ErrorCode, isErrorCode } from '../../src/errors.js';
import { errorFromBody, errorFromJson, errorToJson } from '../../src/wire/error.js';

describe('errors on the wire', () => {
  it('come back as they were, every code of the catalogue', () => {
    for (const code of Object.keys(catalogue).filter(isErrorCode)) {
      const error = new CryoboxError(code, `about ${code}`, {
        hint: 'do this',
        details: { path: '/x', limitBytes: 3 },
      });
      const json = JSON.stringify({ error: errorToJson(error, 'r-1') });
      const back = errorFromBody(json, error.status);
      expect({ ...back, message: back.message }).toEqual({ ...error, message: error.message });
    }
  });

  it('carry the triplet every v1 client reads', () => {
    expect(errorToJson(new CryoboxError('command_not_found', 'sh: not there'), 'r')).toEqual({
      message: 'sh: not there',
      type: 'ExecutionError',
      code: 'execution_failed',
      reason: 'command_not_found',
      hint: catalogue.command_not_found.hint,
      request_id: 'r',
    });
  });

  it('say nothing of what the server did not expect', () => {
    const json = errorToJson(new TypeError('secret of the host'));
    expect(json).toMatchObject({ code: 'internal', type: 'InternalError' });
    expect(JSON.stringify(json)).not.toContain('secret');
  });

  it.each<[string, number, ErrorCode, string]>([
    ['{"error":{"message":"m","type":"X","code":"stopped"}}', 409, 'stopped', 'm'],
    ['{"error":{"message":"m","type":"X","code":"invalid_request"}}', 400, 'invalid_argument', 'm'],
    ['{"message":"flat","code":"not_found"}', 404, 'not_found', 'flat'],
    ['{"message":"flat"}', 429, 'resource_exhausted', 'flat'],
    [
      '<html>Bad Gateway</html>',
      502,
      'upstream_unavailable',
      'The server answered HTTP 502: <html>Bad Gateway</html>',
    ],
    ['', 503, 'upstream_unavailable', 'The server answered HTTP 503'],
    ['[]', 418, 'internal', 'The server answered HTTP 418'],
  ])('of other servers are understood: %s', (body, status, code, message) => {
    expect(errorFromBody(body, status)).toMatchObject({ code, message });
  });

  it('ignore what a hostile server puts where texts belong', () => {
    const json = { message: 3, code: {}, reason: [], hint: 7, details: 'x' } as never;
    expect(errorFromJson(json, 404)).toMatchObject({ code: 'not_found', message: '3', details: {} });
  });
});
