import { describe, expect, it } from 'vitest';
import { fingerprintOf, Idempotency, MemoryIdempotencyStore } from '../../src/server/idempotency.js';

const answer = (status: number, body: string) => ({ status, headers: {}, body });

describe('Idempotency', () => {
  it('gives the same answer to the same key, also while the first is under way', async () => {
    const idempotency = new Idempotency(new MemoryIdempotencyStore());
    let runs = 0;
    const run = async () => {
      runs += 1;
      await new Promise((resolve) => setImmediate(resolve));
      return answer(201, `box ${runs}`);
    };
    const answers = await Promise.all([1, 2, 3].map(() => idempotency.answer('k', 'f', run)));
    expect(answers.map(({ body }) => body)).toEqual(['box 1', 'box 1', 'box 1']);
    expect((await idempotency.answer('k', 'f', run)).replayed).toBe(true);
    expect((await idempotency.answer('other', 'f', run)).body).toBe('box 2');
  });

  it('refuses a key that was used for another request, and bad keys', async () => {
    const idempotency = new Idempotency(new MemoryIdempotencyStore());
    const run = async () => answer(201, '');
    await idempotency.answer('k', fingerprintOf([{ name: 'a' }]), run);
    const used = idempotency.answer('k', fingerprintOf([{ name: 'b' }]), run);
    await expect(used).rejects.toMatchObject({ code: 'invalid_argument' });
    await expect(idempotency.answer('', 'f', run)).rejects.toMatchObject({ code: 'invalid_argument' });
    await expect(idempotency.answer('x'.repeat(256), 'f', run)).rejects.toMatchObject({
      code: 'invalid_argument',
    });
  });

  it('forgets answers another try may change', async () => {
    const idempotency = new Idempotency(new MemoryIdempotencyStore());
    for (const status of [409, 429, 500, 503]) {
      expect((await idempotency.answer('k', 'f', async () => answer(status, ''))).status).toBe(status);
    }
    expect((await idempotency.answer('k', 'f', async () => answer(201, ''))).status).toBe(201);
  });

  it('lets a request that failed be made again', async () => {
    const idempotency = new Idempotency(new MemoryIdempotencyStore());
    const failing = idempotency.answer('k', 'f', () => Promise.reject(new Error('no')));
    await expect(failing).rejects.toThrow('no');
    expect((await idempotency.answer('k', 'f', async () => answer(201, ''))).status).toBe(201);
  });
});
