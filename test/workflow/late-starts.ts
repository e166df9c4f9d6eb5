import { sleep } from '@temporalio/workflow';
import type { WorkflowInterceptorsFactory } from '@temporalio/workflow';

/** Every child has been at work for a while when its parent learns that it started, as with a worker that is busy. */
export const interceptors: WorkflowInterceptorsFactory = () => ({
  outbound: [
    {
      async startChildWorkflowExecution(input, next) {
        const [started, result] = await next(input);
        return [started.then(async (runId) => sleep('3 seconds').then(() => runId)), result];
      },
    },
  ],
});
