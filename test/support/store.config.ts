import { defineConfig } from 'vitest/config';

/** The tests of the store alone, which need no machine, for another Node than the one at hand. */
export default defineConfig({
  test: {
    include: ['test/store/*.test.ts', 'test/engine/lock-owner.test.ts'],
    exclude: ['test/store/other-nodes.test.ts'],
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 60_000,
  },
});
