import { defaultActivityInfo, MockActivityEnvironment } from '@temporalio/testing';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { TransferScope } from '../../../src/activities/transfer-scope.ts';
import { transferScope, withSteadyBeat } from '../../../src/activities/transfer-scope.ts';

afterEach(() => {
  vi.useRealTimers();
});

describe('the heartbeats of a transfer', () => {
  it('say the last thing again while a step has nothing to say, and end with it', async () => {
    vi.useFakeTimers();
    const beats: { at: number; details: unknown }[] = [];
    const begin = Date.now();
    const scope = {
      ...transferScope(),
      heartbeat: (details: unknown) => beats.push({ at: Date.now() - begin, details }),
    } as TransferScope;

    const step = withSteadyBeat(scope, async ({ heartbeat }) => {
      heartbeat('looking');
      await new Promise((resolve) => setTimeout(resolve, 60_000));
      heartbeat('moving');
      await new Promise((resolve) => setTimeout(resolve, 30_000));
    });
    await vi.advanceTimersByTimeAsync(120_000);
    await step;

    const silences = beats.map(({ at }, index) => at - (beats[index - 1]?.at ?? 0));
    expect(Math.max(...silences)).toBeLessThanOrEqual(5000);
    expect(beats.filter(({ at }) => at < 60_000).every(({ details }) => details === 'looking')).toBe(true);
    expect(beats.filter(({ at }) => at > 60_000).every(({ details }) => details === 'moving')).toBe(true);
    expect(beats.at(-1)?.at).toBeLessThanOrEqual(90_000);
  });

  it.each([
    [undefined, { bytes: 0, before: 0 }],
    [{ step: 'looking at both machines' }, { bytes: 0, before: 0 }],
    [{ bytes: 'many' }, { bytes: 0, before: 0 }],
    [
      { bytes: 70, before: 30, earlierTries: [] },
      { bytes: 70, before: 30 },
    ],
  ])('of the try before, %j, tell this one %j', async (heartbeatDetails, expected) => {
    const environment = new MockActivityEnvironment({ ...defaultActivityInfo, attempt: 2, heartbeatDetails });

    expect(await environment.run(() => Promise.resolve(transferScope().earlier))).toEqual(expected);
  });
});
