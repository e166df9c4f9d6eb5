import { z } from 'zod';
import type { HostConnection } from '../hosts/contract.ts';
import type { TransferNames } from './transfer-names.ts';

const momentSchema = z.object({ epoch: z.string(), uptime: z.number(), bootId: z.string() });

const markerSchema = z.object({
  migration: z.string(),
  transfer: z.string(),
  sourceHost: z.string(),
  sourcePath: z.string(),
  destinationPath: z.string(),
  state: z.enum(['incomplete', 'verified']),
  /** Every file that did not change since this moment of the source is right at the destination. */
  base: momentSchema.optional(),
  digest: z.string().optional(),
});

/** Says whose copy a directory is. Kept beside the data, on the destination's machine. */
export type Marker = z.infer<typeof markerSchema>;

/** The marker of a destination, or undefined. One that cannot be read counts as a stranger's. */
export async function readMarker(destination: HostConnection, names: TransferNames): Promise<Marker | undefined> {
  const text = await destination.readFile(`${names.claim}/marker.json`);
  if (text === undefined) return undefined;
  return markerSchema.parse(JSON.parse(text.toString()));
}

export async function writeMarker(destination: HostConnection, names: TransferNames, marker: Marker): Promise<void> {
  await destination.writeFile(`${names.claim}/marker.json`, `${JSON.stringify(marker, null, 2)}\n`, 0o600);
}
