import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ReplicateInput } from '../../src/plan/replicate.ts';
import { freshName, script } from './machines.ts';
import { seeded } from './random.ts';
import type { Mover } from './transfer-setup.ts';
import { bothTrees, once, openMover, pass, prepare, sweep } from './transfer-setup.ts';
import { endWriter, randomWriter } from './transfer-trees.ts';

const random = seeded();

describe(`passes under a writer, seed ${random.seed}`, { retry: 0 }, () => {
  let mover: Mover;
  const requests: ReplicateInput[] = [];

  beforeAll(async () => {
    mover = await openMover();
  });
  afterEach(async () => {
    for (const request of requests.splice(0)) await sweep(mover, request);
  });
  afterAll(async () => {
    await mover.close();
  });

  it.each(Array.from({ length: 3 }, () => ({ seed: random.below(2 ** 30), live: 2 + random.below(3) })))(
    'miss nothing of schedule $seed in $live live passes and a final one',
    async ({ seed, live }) => {
      const { activities, source } = mover;
      const request = await mover.request(freshName('writer'));
      requests.push(request);
      const control = `/run/${request.transfer.id}`;
      await script(source, randomWriter(request.transfer.source.path, control, seed));

      const { choice } = await prepare(mover, request);
      for (let number = 1; number <= live; number += 1) {
        await once(() => activities.runPass(pass(request, choice, number)));
        await sleep(random.below(600));
      }
      const changes = Number(await script(source, endWriter(control)));
      const final = await once(() => activities.runPass(pass(request, choice, live + 1, { mode: 'final' })));
      const [left, right] = await bothTrees(mover, request);

      console.log(`${changes} changes; in the last pass ${final.doubtful} files in doubt`);
      expect(changes).toBeGreaterThan(100);
      expect(right).toEqual(left);
    },
  );
});
