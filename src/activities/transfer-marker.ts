import { z } from 'zod';
import type { HostConnection } from '../hosts/contract.ts';
import { parseFields, runScript } from './host-script.ts';
import type { TransferNames } from './transfer-names.ts';

/** The epoch names a file. */
const momentSchema = z.object({ epoch: z.string().regex(/^\d+(?:\.\d+)?$/), uptime: z.number(), bootId: z.string() });

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

/** Whether a marker is that of this transfer in this migration. */
export function isMarkerOf<M extends Pick<Marker, 'migration' | 'transfer'>>(
  marker: M | undefined,
  { migration, transfer }: { migration: string; transfer: { id: string } },
): marker is M {
  return marker?.migration === migration && marker.transfer === transfer.id;
}

/** The marker of a destination, or undefined. One that cannot be read counts as a stranger's. */
export async function readMarker(destination: HostConnection, names: TransferNames): Promise<Marker | undefined> {
  const text = await destination.readFile(`${names.claim}/marker.json`);
  if (text === undefined) return undefined;
  return markerSchema.parse(JSON.parse(text.toString()));
}

export async function writeMarker(destination: HostConnection, names: TransferNames, marker: Marker): Promise<void> {
  await destination.writeFile(`${names.claim}/marker.json`, textOf(marker), 0o600);
}

function textOf(marker: Marker): string {
  return `${JSON.stringify(marker, null, 2)}\n`;
}

/** Arguments: tree, claim. The marker was written when all was proved. */
const changedScript = String.raw`find "$1" -newercm "$2/marker.json" -printf 'changed=%P\n' -quit`;

/** Name of an entry of a proved destination that changed since, or undefined. Reads the times of the whole tree at worst. */
export async function changedSinceProof(
  destination: HostConnection,
  path: string,
  names: TransferNames,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const options = { timeout: 6 * 3_600_000, ...(signal && { signal }) };
  const found = await runScript(destination, 'looking for changes', changedScript, [path, names.claim], options);
  const name = parseFields(found).get('changed');
  return name === '' ? '.' : name;
}

/**
 * Name of the file beside the marker that holds the boot id of the destination as of the last flush. What was written after it may be gone
 * with the power although its size and its time, which the journal brought back, are those of the source. A marker without it is of an
 * older worker.
 */
export const flushedIn = 'flushed';

/** Gigabytes of dirty pages on a slow disk. */
export const flushTimeout = 1_800_000;

/** Arguments: tree, claim, seconds since the pass began, marker in base64. An error of the disk is told once only: it must not be forgotten. */
const advanceScript = String.raw`
umask 077
cd -- "$2" || return 1
read -r up rest </proc/uptime
if [ "${'$'}{up%%.*}" -lt "$3" ]; then echo lost >${flushedIn}; echo restarted=yes; return 0; fi
nested=$(cut -d" " -f5 /proc/self/mountinfo | grep -cF -- "$1/")
case "$nested $(sync --help 2>&1)" in
  '0 '*--file-system*) sync -f -- "$1" || { echo lost >${flushedIn}; return 1; } ;;
  *) sync ;;
esac
cat /proc/sys/kernel/random/boot_id >${flushedIn}.$$ && sync -- ${flushedIn}.$$ && mv -f ${flushedIn}.$$ ${flushedIn} || return 1
printf '%s' "$4" | base64 -d >marker.$$ && sync -- marker.$$ && mv -f marker.$$ marker.json
`;

/**
 * Brings all that was written to the destination's disk, then writes the marker. Answers false, and leaves the marker, where the machine
 * restarted less than `seconds` ago: then nobody knows what of the pass is there.
 */
export async function advanceMarker(
  destination: HostConnection,
  path: string,
  names: TransferNames,
  marker: Marker,
  { seconds, signal }: { seconds: number; signal: AbortSignal | undefined },
): Promise<boolean> {
  const text = Buffer.from(textOf(marker)).toString('base64');
  const args = [path, names.claim, `${Math.max(0, Math.floor(seconds))}`, text];
  const options = { timeout: flushTimeout, ...(signal && { signal }) };
  const answer = await runScript(destination, 'flushing the destination', advanceScript, args, options);
  return parseFields(answer).get('restarted') !== 'yes';
}
