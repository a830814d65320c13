import { describe, expect, it } from 'vitest';
import {
  fingerprintOf,
  HashedUpload,
  Idempotency,
  MemoryIdempotencyStore,
  type Once,
  type PlainAnswer,
} from '../../src/server/http/idempotency.js';

const answer = (status: number, body = ''): PlainAnswer => ({ status, headers: {}, body });

function asked(more: Partial<Once> & Pick<Once, 'run'>): Once {
  return { key: { tenant: '', key: 'k' }, fingerprint: 'f', ...more };
}

async function* bytesOf(...chunks: string[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield Buffer.from(chunk);
}

describe('Idempotency', () => {
  it('gives the same answer to the same key, also while the first is under way', async () => {
    const idempotency = new Idempotency(new MemoryIdempotencyStore());
    let runs = 0;
    const run = async () => {
      runs += 1;
      await new Promise((resolve) => setImmediate(resolve));
      return answer(201, `box ${runs}`);
    };
    const answers = await Promise.all([1, 2, 3].map(() => idempotency.answer(asked({ run }))));
    expect(answers.map(({ body }) => body)).toEqual(['box 1', 'box 1', 'box 1']);
    expect((await idempotency.answer(asked({ run }))).replayed).toBe(true);
    const others = [
      { tenant: 'acme', key: 'k' },
      { tenant: '', key: 'other' },
    ];
    for (const [index, key] of others.entries()) {
      expect((await idempotency.answer(asked({ key, run }))).body).toBe(`box ${index + 2}`);
    }
  });

  it('refuses a key that was used for another request, and bad keys', async () => {
    const idempotency = new Idempotency(new MemoryIdempotencyStore());
    const run = async () => answer(201);
    await idempotency.answer(asked({ fingerprint: fingerprintOf([{ name: 'a' }]), run }));
    const refused = [
      asked({ fingerprint: fingerprintOf([{ name: 'b' }]), run }),
      asked({ key: { tenant: '', key: '' }, run }),
      asked({ key: { tenant: '', key: 'x'.repeat(256) }, run }),
    ];
    for (const once of refused) {
      await expect(idempotency.answer(once)).rejects.toMatchObject({ code: 'invalid_argument' });
    }
  });

  it('runs again what another try may change, as the same operation', async () => {
    const idempotency = new Idempotency(new MemoryIdempotencyStore());
    const operations = new Set<string>();
    const answering = (status: number) => async (operationId: string) => {
      operations.add(operationId);
      return answer(status);
    };
    for (const status of [409, 429, 499, 500, 503, 201]) {
      expect((await idempotency.answer(asked({ run: answering(status) }))).status).toBe(status);
    }
    expect((await idempotency.answer(asked({ run: answering(500) }))).status).toBe(201);
    expect(operations.size).toBe(1);
    const other = idempotency.answer(asked({ fingerprint: 'g', run: answering(201) }));
    await expect(other).rejects.toMatchObject({ code: 'invalid_argument' });
  });

  it('runs for who waits when the client it ran for went away', async () => {
    const idempotency = new Idempotency(new MemoryIdempotencyStore());
    const gone = idempotency.answer(asked({ run: async () => answer(499) }));
    const waiting = [1, 2].map((n) => idempotency.answer(asked({ run: async () => answer(201, `${n}`) })));
    expect((await gone).status).toBe(499);
    expect((await Promise.all(waiting)).map(({ body }) => body)).toEqual(['1', '1']);
  });

  it('lets a request be made again whose store failed', async () => {
    const store = new MemoryIdempotencyStore();
    const idempotency = new Idempotency(store);
    const failing = idempotency.answer(asked({ run: () => Promise.reject(new Error('no')) }));
    await expect(failing).rejects.toThrow('no');
    expect((await idempotency.answer(asked({ run: async () => answer(201) }))).status).toBe(201);
  });

  it('knows uploads by what is in them, also what their reader left', async () => {
    const idempotency = new Idempotency(new MemoryIdempotencyStore());
    const importing = (...chunks: string[]) => {
      const upload = new HashedUpload(bytesOf(...chunks));
      const run = async (): Promise<PlainAnswer> => {
        for await (const _first of upload) break;
        return { ...answer(201, chunks.join('')), uploadHash: await upload.digest() };
      };
      return idempotency.answer(asked({ uploadHash: () => upload.digest(), run }));
    };
    expect(await importing('ab', 'c')).toMatchObject({ body: 'abc', replayed: false });
    expect(await importing('a', 'bc')).toMatchObject({ body: 'abc', replayed: true });
    await expect(importing('ab')).rejects.toMatchObject({ code: 'invalid_argument' });
  });

  it('forgets what came of an upload that broke', async () => {
    const idempotency = new Idempotency(new MemoryIdempotencyStore());
    const uploadHash = async () => 'h';
    await idempotency.answer(asked({ uploadHash, run: async () => answer(422) }));
    const second = await idempotency.answer(
      asked({ uploadHash, run: async () => ({ ...answer(201), uploadHash: 'h' }) }),
    );
    expect([second.status, second.replayed]).toEqual([201, false]);
  });
});
