import { ActivityCancellationDetails } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { describe, expect, it } from 'vitest';
import { poll } from '../../../src/activities/polling.ts';

/** Looks that are done after some milliseconds. */
function lasting(
  milliseconds: number,
): () => Promise<{ done: true; value: string } | { done: false; waiting: string }> {
  const end = Date.now() + milliseconds;
  return () =>
    Promise.resolve(Date.now() >= end ? { done: true, value: 'the end' } : { done: false, waiting: 'the apply' });
}

const late = (waiting: string): Error => new Error(`too late: ${waiting}`);

describe('waiting for something that goes on by itself', () => {
  it('goes on when the workflow asks to stop', async () => {
    const environment = new MockActivityEnvironment();
    const waiting = environment.run(() =>
      poll(lasting(300), { deadline: 5000, interval: 20, outlivesCancellation: true }, late),
    );
    setTimeout(() => environment.cancel('CANCELLED', new ActivityCancellationDetails({ cancelRequested: true })), 50);

    expect(await waiting).toBe('the end');
  });

  it('ends with a worker that shuts down, whose activity another one takes over', async () => {
    const environment = new MockActivityEnvironment();
    const waiting = environment.run(() =>
      poll(lasting(2000), { deadline: 5000, interval: 20, outlivesCancellation: true }, late),
    );
    setTimeout(
      () => environment.cancel('WORKER_SHUTDOWN', new ActivityCancellationDetails({ workerShutdown: true })),
      50,
    );

    await expect(waiting).rejects.toThrow();
  });

  it('ends at once when nothing goes on by itself', async () => {
    const environment = new MockActivityEnvironment();
    const waiting = environment.run(() => poll(lasting(2000), { deadline: 5000, interval: 20 }, late));
    setTimeout(() => environment.cancel('CANCELLED', new ActivityCancellationDetails({ cancelRequested: true })), 50);

    await expect(waiting).rejects.toThrow();
  });

  it('says what is missing when the time is over, cancelled or not', async () => {
    const environment = new MockActivityEnvironment();
    const waiting = environment.run(() =>
      poll(lasting(2000), { deadline: 200, interval: 20, outlivesCancellation: true }, late),
    );
    setTimeout(() => environment.cancel('CANCELLED', new ActivityCancellationDetails({ cancelRequested: true })), 50);

    await expect(waiting).rejects.toThrow('too late: the apply');
  });
});
