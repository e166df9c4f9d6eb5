import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allOrFirstFailure, createSlots, forEachBounded } from '../../../src/workflows/slots.ts';

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('slots', () => {
  it('never let more run than there are, keep the order, and lose nobody', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.integer({ min: 1, max: 4 }),
        fc.array(fc.boolean(), { maxLength: 12 }),
        async (scheduler, limit, fails) => {
          const begun: number[] = [];
          let now = 0;
          let most = 0;
          const running = forEachBounded([...fails.entries()], limit, async ([index, isFailing]) => {
            begun.push(index);
            most = Math.max(most, (now += 1));
            await scheduler.schedule(Promise.resolve(), `work ${index}`);
            now -= 1;
            if (isFailing) throw new Error(`failed ${index}`);
            return index;
          }).then(
            (results) => ({ results, error: undefined }),
            (error: unknown) => ({ results: undefined, error: (error as Error).message }),
          );
          await scheduler.waitFor(running);
          const { results, error } = await running;
          const firstFailure = fails.indexOf(true);

          expect(most).toBeLessThanOrEqual(limit);
          expect(most).toBe(Math.min(limit, fails.length));
          expect(begun).toEqual([...fails.keys()]);
          expect(now).toBe(0);
          if (firstFailure === -1) expect(results).toEqual([...fails.keys()]);
          else expect(error).toBe(`failed ${firstFailure}`);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('are free again after a failure', async () => {
    const slots = createSlots(1);
    await expect(slots.run(() => Promise.reject(new Error('no')))).rejects.toThrow('no');

    expect(await slots.run(() => Promise.resolve(7))).toBe(7);
  });

  it('hand a slot straight on to the one who waits longest', async () => {
    const slots = createSlots(1);
    const order: string[] = [];
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const first = slots.run(() => promise);
    const second = slots.run(() => Promise.resolve(order.push('second')));
    resolve(undefined);
    const late = first.then(() => slots.run(() => Promise.resolve(order.push('late'))));
    await Promise.all([second, late]);

    expect(order).toEqual(['second', 'late']);
  });
});

describe('allOrFirstFailure', () => {
  it('waits for siblings before it throws', async () => {
    const { promise, resolve } = Promise.withResolvers<number>();
    let isOver = false;
    const all = allOrFirstFailure([Promise.reject<number>(new Error('first')), promise]).finally(() => {
      isOver = true;
    });
    const settled = all.catch((error: unknown) => (error as Error).message);
    await tick();
    const before = isOver;
    resolve(1);

    expect(before).toBe(false);
    expect(await settled).toBe('first');
  });
});
