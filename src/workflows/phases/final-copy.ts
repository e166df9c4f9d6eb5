import { condition } from '@temporalio/workflow';
import { counted } from '../../plan/counted.ts';
import type { Transfer } from '../../plan/plan.ts';
import { packageService } from '../../plan/quorum.ts';
import { copyDirectory, slotsPerPair } from '../copies.ts';
import type { Migration, Phase } from '../migration.ts';
import { allOrFirstFailure } from '../slots.ts';

/** The last delta of every directory, begun as soon as nothing writes there any more, verified on both sides. */
export const finalCopy: Phase = {
  name: 'final-copy',
  section: 13,
  run: copyAtRest,
  skip: (plan) => (plan.transfers.length > 0 ? undefined : 'the plan moves no data'),
};

async function copyAtRest(migration: Migration): Promise<string> {
  const slots = slotsPerPair(migration);
  await allOrFirstFailure(
    migration.plan.transfers
      .filter((transfer) => !isVerified(migration, transfer))
      .map(async (transfer) => {
        await condition(() => isAtRest(migration, transfer));
        await slots(transfer).run(() =>
          copyDirectory(migration, 'final-copy', transfer, { mode: 'final', maxPasses: 1 }),
        );
      }),
  );
  return `${counted(migration.plan.transfers.length, 'directory', 'directories')} verified (${migration.plan.verify})`;
}

function isVerified(migration: Migration, transfer: Transfer): boolean {
  return migration.state.transfers.some((status) => status.id === transfer.id && status.state === 'verified');
}

/** A component's directory rests when its pods are proved gone, a host service's when its machines' services are stopped; nothing writes into the package. */
function isAtRest(migration: Migration, transfer: Transfer): boolean {
  const { plan, state } = migration;
  if (transfer.subject.type === 'component') {
    return state.uninstalled.includes(transfer.subject.component);
  }
  if (transfer.subject.service === packageService) {
    return true;
  }
  return plan.hostServices.hosts
    .filter((name) => name === transfer.source.host || name === transfer.destination.host)
    .every((name) => state.hostsStopped.includes(name));
}
