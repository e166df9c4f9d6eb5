/* Workflow code whose sequence is not that of the saved histories: one command more at the beginning of each. */
import { sleep } from '@temporalio/workflow';
import { migrateNodes as originalMigration } from '../../src/workflows/migrate-nodes.ts';
import { replicateDirectory as originalCopy } from '../../src/workflows/replicate-directory.ts';

export async function migrateNodes(
  ...args: Parameters<typeof originalMigration>
): ReturnType<typeof originalMigration> {
  await sleep(1000);
  return originalMigration(...args);
}

export async function replicateDirectory(...args: Parameters<typeof originalCopy>): ReturnType<typeof originalCopy> {
  await sleep(1000);
  return originalCopy(...args);
}
