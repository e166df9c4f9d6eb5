import { condition, proxyActivities, setHandler } from '@temporalio/workflow';
import type { ReplicateRequest } from '../../src/plan/replicate.ts';
import type { CopyOutcome } from '../../src/workflows/copy-outcome.ts';
import { pauseSignal, resumeSignal, tuneSignal } from '../../src/workflows/messages.ts';
import type { ModelCopyActivities } from './world.ts';

const { copyOnce, noteTune } = proxyActivities<ModelCopyActivities>({
  startToCloseTimeout: '10m',
  heartbeatTimeout: '10s',
  retry: { nonRetryableErrorTypes: ['NeedsHuman', 'Permanent'], maximumAttempts: 3 },
});

/** Takes the place of the mover: the same name, input and result, but the copy happens in the model world of the test. */
export async function replicateDirectory(request: ReplicateRequest): Promise<CopyOutcome> {
  let isPaused = false;
  const tunes: number[] = [];
  setHandler(pauseSignal, () => {
    isPaused = true;
  });
  setHandler(resumeSignal, () => {
    isPaused = false;
  });
  setHandler(tuneSignal, ({ preCopyKiBps }) => {
    tunes.push(preCopyKiBps);
  });
  await condition(() => !isPaused);
  const outcome = await copyOnce(request);
  await condition(() => !isPaused);
  for (const limit of tunes) {
    await noteTune(request.transfer.id, limit);
  }
  return outcome;
}
