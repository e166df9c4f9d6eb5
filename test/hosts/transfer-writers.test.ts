import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { CopyChoice } from '../../src/activities/transfer-contract.ts';
import { namesOf } from '../../src/activities/transfer-names.ts';
import { quote } from '../../src/hosts/quote.ts';
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

  /** A directory that a line typed in it made, copied once. */
  async function copied(line: string): Promise<{ request: ReplicateInput; choice: CopyChoice; tree: string }> {
    const request = await mover.request(freshName('writer'));
    requests.push(request);
    const tree = quote(request.transfer.source.path);
    await script(mover.source, `mkdir -p ${tree} && cd ${tree} && ${line}`);
    const { choice } = await prepare(mover, request);
    await once(() => mover.activities.runPass(pass(request, choice, 1)));
    return { request, choice, tree };
  }

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

  it('do not stand still when one of several names of a file goes away between being listed and being sent', async () => {
    const { activities, source } = mover;
    const { request, choice, tree } = await copied(
      'mkdir d && head -c 24M /dev/urandom >a && echo first >d/z && ln d/z z',
    );
    // The large file comes before the other, and takes three seconds.
    await script(source, `cd ${tree} && head -c 24M /dev/urandom >a && echo other >z`);
    const { directory } = namesOf(request);
    const away = script(
      source,
      `rm -f ${directory}/out.rest; until [ -e ${directory}/out.rest ]; do sleep 0.1; done; sleep 1; rm ${tree}/z; [ ! -e ${directory}/ended ]`,
    );

    const began = Date.now();
    const slow = { limitKiBps: 8000, content: 'all' } as const;
    const second = await once(() => activities.runPass(pass(request, choice, 2, slow)));
    await away;
    const took = Date.now() - began;
    await once(() => activities.runPass(pass(request, choice, 3, { mode: 'final' })));
    const [left, right] = await bothTrees(mover, request);

    expect(second.vanished).toBe(true);
    expect(took).toBeLessThan(60_000);
    expect(right).toEqual(left);
  });

  it('are tried again, and right, where a further name of a file takes the place of a directory', async () => {
    const { activities, source } = mover;
    const { request, choice, tree } = await copied('mkdir f && echo one >a');
    await script(source, `cd ${tree} && rmdir f && ln a f`);

    const final = pass(request, choice, 2, { mode: 'final' });
    const failure = await once(() => activities.runPass(final)).catch((error: unknown) => error);
    await once(() => activities.runPass(final));
    const [left, right] = await bothTrees(mover, request);

    // Of a later rsync there may be none.
    if (failure instanceof Error) expect(failure).toMatchObject({ type: 'Transient' });
    expect(right).toEqual(left);
  });
});
