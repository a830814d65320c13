import { describe, expect, it } from 'vitest';
import { RateLimiter } from '../../src/server/http/limits.js';

describe('RateLimiter', () => {
  it('lets a burst through, then the rate, for each principal by itself', () => {
    const limiter = new RateLimiter(10, 3);
    expect([1, 2, 3].map(() => limiter.take('a', 1000))).toEqual([0, 0, 0]);
    expect(limiter.take('a', 1000)).toBeCloseTo(100);
    expect(limiter.take('b', 1000)).toBe(0);
    expect(limiter.take('a', 1050)).toBeCloseTo(50);
    expect(limiter.take('a', 1101)).toBe(0);
    expect(limiter.take('a', 1102)).toBeGreaterThan(0);
    expect([1, 2, 3].map(() => limiter.take('a', 100_000))).toEqual([0, 0, 0]);
    expect(limiter.take('a', 100_000)).toBeGreaterThan(0);
  });
});
