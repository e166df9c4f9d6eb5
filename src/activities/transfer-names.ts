import { createHash } from 'node:crypto';
import type { ReplicateInput } from '../plan/replicate.ts';

/** Everything that a transfer leaves on a machine while it is under way. */
export interface TransferNames {
  /** Names unit, directory, key and marker; unique per migration and transfer. */
  key: string;
  /** Of the job on the source. */
  job: string;
  /** Directory (0700) on both machines, outside the data. */
  directory: string;
  /** Directory on the destination that belongs to the destination path, whoever writes there. */
  claim: string;
  /** Directory on the source with what the last pass met there; it stays until the copy is proved, as the marker does. */
  lists: string;
}

const root = '/var/lib/ferry';

/** Names of a transfer; `destinationPath` is the resolved path. */
export function namesOf(
  request: { migration: string; transfer: ReplicateInput['transfer'] },
  destinationPath = request.transfer.destination.path,
): TransferNames {
  const key = keyOf(request.migration, request.transfer.id);
  return {
    key,
    job: key,
    directory: `${root}/transfers/${key}`,
    claim: `${root}/destinations/${short(destinationPath)}`,
    lists: `${root}/sources/${key}`,
  };
}

/** A digest of both parts keeps `a-b` of `c` apart from `a` of `b-c`. */
export function keyOf(migration: string, transfer: string): string {
  return `${migration}-${transfer}-${short(`${migration}/${transfer}`).slice(0, 8)}`;
}

function short(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 24);
}
