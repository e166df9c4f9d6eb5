import { afterEach, describe, expect, it, vi } from 'vitest';
import { Lately } from '../../../src/activities/lately.ts';
import { RoadMemory } from '../../../src/activities/transfer-road.ts';

afterEach(() => {
  vi.useRealTimers();
});

describe('what was found out lately', () => {
  it('is found out once for those who ask side by side, by name', async () => {
    const memory = new Lately<number>(() => 1000);
    let answers = 0;
    const find = vi.fn(async () => Promise.resolve((answers += 1)));

    expect(await Promise.all(['a', 'a', 'b', 'a'].map(async (name) => memory.ask(name, find)))).toEqual([1, 1, 2, 1]);
    expect(find).toHaveBeenCalledTimes(2);
  });

  it('is told to one alone when it failed, and found out by the next, one after the other', async () => {
    const memory = new Lately<number>(() => 1000);
    let atWork = 0;
    let most = 0;
    let tries = 0;
    const find = async (): Promise<number> => {
      atWork += 1;
      tries += 1;
      most = Math.max(most, atWork);
      const mine = tries;
      await Promise.resolve();
      atWork -= 1;
      if (mine < 3) throw new Error(`refused ${mine}`);
      return mine;
    };

    const asked = await Promise.allSettled(Array.from({ length: 5 }, async () => memory.ask('a', find)));

    const failed = asked.flatMap((each) => (each.status === 'rejected' ? [(each.reason as Error).message] : []));
    const found = asked.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    expect(failed).toEqual(['refused 1', 'refused 2']);
    expect(found).toEqual([3, 3, 3]);
    expect(most).toBe(1);
  });

  it('is forgotten after as long as the answer is good for', async () => {
    vi.useFakeTimers();
    const memory = new Lately<number>((answer) => answer);
    const ask = async (answer: number): Promise<number> => memory.ask('a', async () => Promise.resolve(answer));

    expect(await ask(1000)).toBe(1000);
    vi.advanceTimersByTime(999);
    expect(await ask(2000)).toBe(1000);
    vi.advanceTimersByTime(1);
    expect(await ask(3000)).toBe(3000);
  });
});

describe('what is known of a road', () => {
  it('is its rate for ten minutes, and that it told none for one', async () => {
    vi.useFakeTimers();
    const { rates } = new RoadMemory();
    const ask = async (rate: number): Promise<number> => rates.ask('a b', async () => Promise.resolve(rate));

    expect(await ask(0)).toBe(0);
    vi.advanceTimersByTime(59_000);
    expect(await ask(1)).toBe(0);
    vi.advanceTimersByTime(1_000);
    expect(await ask(2)).toBe(2);
    vi.advanceTimersByTime(9 * 60_000);
    expect(await ask(3)).toBe(2);
    vi.advanceTimersByTime(60_000);
    expect(await ask(4)).toBe(4);
  });
});
