import { CancellationScope, sleep } from '@temporalio/workflow';
import { clip, summaryBytes } from './policies.ts';

/** Longer than anything that is shown; the timer has no other meaning. */
const longest = '365 days';

/**
 * Shows a span of time on the timeline of the Web UI, which draws timers, activities and children but knows nothing of phases, gates and
 * waiting: a timer with this label, taken away when the work has ended.
 */
export async function withBar<T>(label: string, work: () => Promise<T>): Promise<T> {
  const bar = new CancellationScope({ cancellable: true });
  bar.run(() => sleep(longest, { summary: clip(label, summaryBytes) })).catch(() => undefined);
  try {
    return await work();
  } finally {
    bar.cancel();
  }
}
