import { expect, it } from 'vitest';
import type { TreeNode } from '../../src/api/index.js';
import { conformance } from './support.js';

conformance('the tree of states', (subject) => {
  it('says of every state what it descends from, and what removing it would free', async () => {
    const { runtime, box } = subject;
    await box.snapshot.create('one');
    const two = await box.snapshot.create('two', { memory: true });
    const template = await runtime.templates.create({ box: box.id, name: 'of-tree' });
    const clone = await box.clone('of-snapshot', { fromSnapshot: 'one' });
    const child = await runtime.create({ template: template.name, detach: true });
    const nodes = await runtime.tree();
    const byId = new Map(nodes.map((node) => [node.id, node]));
    const named = (id: string, name: string): TreeNode | undefined =>
      nodes.find((node) => node.boxId === id && node.name === name);
    const one = named(box.id, 'one');

    expect(byId.get(box.id)).toMatchObject({
      kind: 'box',
      status: 'running',
      parent: { kind: 'snapshot', id: two.id },
    });
    expect(named(box.id, 'two')).toMatchObject({
      hasMemory: true,
      parent: { kind: 'snapshot', id: one?.id },
    });
    expect(one).toMatchObject({ kind: 'snapshot', hasMemory: false, parent: { kind: 'image' } });
    expect(byId.get(one?.parent?.id ?? '')).toMatchObject({ kind: 'image', parent: null });
    expect(byId.get(clone.id)?.parent).toEqual({ kind: 'snapshot', id: one?.id });
    expect(byId.get(child.id)?.parent).toEqual({ kind: 'template', id: 'of-tree' });
    expect(byId.get('of-tree')).toMatchObject({ kind: 'template', hasMemory: true, parent: one?.parent });
    for (const node of nodes) {
      expect(node.sizeBytes).toBeGreaterThanOrEqual(node.exclusiveBytes ?? 0);
      if (node.parent) expect(byId.get(node.parent.id)?.kind).toBe(node.parent.kind);
    }

    // What came after a state that is gone stands below an older one.
    await box.snapshot.remove('two');
    const after = (await runtime.tree()).find((node) => node.id === box.id);
    expect([one?.id, one?.parent?.id]).toContain(after?.parent?.id);
    for (const each of [clone, child]) await each.remove({ force: true });
    await runtime.templates.remove(template.name);
    await box.snapshot.remove('one');
  });
});
