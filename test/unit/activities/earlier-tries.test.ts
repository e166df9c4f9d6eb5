import { MockActivityEnvironment } from '@temporalio/testing';
import { describe, expect, it } from 'vitest';
import type { Try } from '../../../src/activities/contract.ts';
import { addTry, briefly, rememberTries } from '../../../src/activities/earlier-tries.ts';
import { transient } from '../../../src/activities/failures.ts';
import { activityScope } from '../../../src/activities/polling.ts';

const earlier = (causes: readonly string[]): Try[] =>
  causes.reduce<Try[]>((tries, cause, index) => addTry(tries, index + 1, cause), []);

/** One try in an activity of a worker that remembers; answers its heartbeats and what it threw. */
async function tryOnce(
  info: { attempt: number; heartbeatDetails?: unknown },
  work: () => Promise<unknown>,
): Promise<{ beats: unknown[]; thrown: unknown }> {
  const environment = new MockActivityEnvironment(info);
  const beats: unknown[] = [];
  environment.on('heartbeat', (details) => beats.push(details));
  const { execute } = rememberTries(environment.context).inbound ?? {};
  const thrown = await environment
    .run(() => execute!({ args: [], headers: {} }, work))
    .then(
      () => undefined,
      (error: unknown) => error,
    );
  return { beats, thrown };
}

const failing = (): Promise<never> =>
  Promise.reject(transient({ what: 'new1 did not answer', cause: 'ETIMEDOUT', untouched: 'all', next: 'wait' }));

describe('what tries hand on', () => {
  it('holds tries in a row that failed alike as one', () => {
    expect(earlier(['a', 'a', 'b', 'a'])).toEqual([
      { from: 1, to: 2, cause: 'a' },
      { from: 3, to: 3, cause: 'b' },
      { from: 4, to: 4, cause: 'a' },
    ]);
  });

  it('stays small, whatever happens and however often', () => {
    const tries = earlier(Array.from({ length: 40 }, (_, index) => briefly(`${index} ${'x'.repeat(1000)}`)));

    expect(tries.map(({ from }) => from)).toEqual([1, 36, 37, 38, 39, 40]);
    expect(JSON.stringify(tries).length).toBeLessThan(2000);
  });

  it('goes into the last heartbeat of a try that fails, beside what that said', async () => {
    const { beats, thrown } = await tryOnce({ attempt: 1 }, () => {
      activityScope().heartbeat({ bytes: 7 });
      return failing();
    });

    const said = { from: 1, to: 1, cause: 'new1 did not answer: ETIMEDOUT' };
    expect(beats).toEqual([{ bytes: 7 }, { bytes: 7, earlierTries: [said] }]);
    expect(thrown).toMatchObject({ type: 'Transient', details: [{ cause: 'ETIMEDOUT' }] });
  });

  it('comes back in heartbeats and in the failure of the next try', async () => {
    const before = [{ from: 1, to: 1, cause: 'old1 was away' }];
    const { beats, thrown } = await tryOnce(
      { attempt: 3, heartbeatDetails: { delivered: ['pager'], earlierTries: before } },
      () => {
        activityScope().heartbeat({ bytes: 8 });
        return failing();
      },
    );

    expect(beats[0]).toEqual({ bytes: 8, earlierTries: before });
    expect(beats.at(-1)).toEqual({
      bytes: 8,
      earlierTries: [...before, { from: 3, to: 3, cause: 'new1 did not answer: ETIMEDOUT' }],
    });
    expect(thrown).toMatchObject({ type: 'Transient', details: [{ cause: 'ETIMEDOUT' }, { earlierTries: before }] });
  });

  it('keeps what an earlier heartbeat said when a try fails before its own first one', async () => {
    const { beats } = await tryOnce({ attempt: 2, heartbeatDetails: { delivered: ['pager'] } }, failing);

    expect(beats).toEqual([{ delivered: ['pager'], earlierTries: [expect.objectContaining({ from: 2, to: 2 })] }]);
  });

  it('leaves a try that succeeds alone', async () => {
    expect(await tryOnce({ attempt: 1 }, () => Promise.resolve('done'))).toEqual({ beats: [], thrown: undefined });
  });
});
