import { proxyActivities } from '@temporalio/workflow';
import type { NotifyActivities } from '../activities/contract.ts';
import { policies } from './policies.ts';

type Notify = NotifyActivities['notify'];

/** A message that outlives the migration it tells of: tried for as long as any other, by nobody waited for. */
export async function tellPeople(message: Parameters<Notify>[0]): Promise<Awaited<ReturnType<Notify>>> {
  const { startToClose, heartbeat, attempts, firstPause, longestPause } = policies.notify;
  const { notify } = proxyActivities<NotifyActivities>({
    summary: `tell ${message.targets.join(', ')}: ${message.event}`,
    startToCloseTimeout: startToClose,
    ...(heartbeat === undefined ? {} : { heartbeatTimeout: heartbeat }),
    retry: { maximumAttempts: attempts, initialInterval: firstPause, maximumInterval: longestPause },
  });
  return notify(message);
}
