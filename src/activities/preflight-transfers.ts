import { CommandTimedOut } from '../hosts/errors.ts';
import type { HostConnection } from '../hosts/contract.ts';
import { componentTable } from '../plan/components.ts';
import type { Transfer } from '../plan/plan.ts';
import { formatBytes } from '../plan/amounts.ts';
import { counted } from '../plan/counted.ts';
import type { DirectorySize } from './directories.ts';
import { inspectPath, measureDirectory, measureFreeSpace } from './directories.ts';
import type { Check, Finding, World } from './preflight-world.ts';
import { askMachines } from './preflight-world.ts';
import { isMarkerOf, readMarker } from './transfer-marker.ts';
import { namesOf } from './transfer-names.ts';

/** Checks of the directories that are to move. */
export const transferChecks: readonly Check[] = [
  { name: 'sources', run: checkSources },
  { name: 'destinations', run: checkDestinations },
  { name: 'space', run: checkSpace },
];

/** Longest time for one directory here; a larger tree is counted by what else is known of it. */
const measureTimeout = 120_000;

/** Side by side over machines, one directory after the other on each. */
async function eachTransfer(
  world: World,
  side: 'source' | 'destination',
  look: (connection: HostConnection, transfer: Transfer) => Promise<void>,
): Promise<string[]> {
  const byHost = Map.groupBy(world.plan.transfers, (transfer) => transfer[side].host);
  return askMachines(world, [...byHost.keys()], async (connection, name) => {
    for (const transfer of byHost.get(name) ?? []) await look(connection, transfer);
    return undefined;
  });
}

async function checkSources(world: World): Promise<Finding> {
  const failures: string[] = [];
  const warnings: string[] = [];
  const unreachable = await eachTransfer(world, 'source', async (connection, transfer) => {
    const { host, path } = transfer.source;
    const { state, resolved } = await inspectPath(connection, path);
    if (state === 'absent') failures.push(`${host}:${path} does not exist (${transfer.id})`);
    else if (state === 'other') failures.push(`${host}:${path} is no directory (${transfer.id})`);
    else if (state === 'link' || resolved !== path) {
      failures.push(
        `${host}:${path} leads over a symbolic link to ${resolved} (${transfer.id}): name the real directory`,
      );
    } else if (state === 'empty') warnings.push(`${host}:${path} is empty (${transfer.id})`);
    else {
      const absent = await absentSentinels(connection, transfer);
      if (absent === undefined) return;
      warnings.push(
        `${host}:${path} does not look like data of ${transfer.id.replace(/-\d+$/, '')}: no ${absent}; what is absent before the move cannot be missed after it`,
      );
    }
  });
  return {
    failures: [...unreachable, ...failures],
    warnings,
    next: 'ls -la on these directories; is data_path of the configuration the real one?',
    proof: `${counted(world.plan.transfers.length, 'directory').replace('directorys', 'directories')} with data`,
  };
}

/** What every server of the kind keeps and is not there, or undefined. */
async function absentSentinels(connection: HostConnection, transfer: Transfer): Promise<string | undefined> {
  if (transfer.subject.type !== 'component') return undefined;
  const { sentinels } = componentTable[transfer.subject.component];
  // The patterns come from the table and are meant to be expanded by the shell, below the directory only.
  const script =
    'cd -- "$1" || exit 1; shift; for g in "$@"; do f=; for p in $g; do if [ -e "$p" ]; then f=1; fi; done; [ -n "$f" ] || echo "$g"; done';
  const groups = sentinels.map((group) => group.join(' '));
  const result = await connection.run(['sh', '-c', script, 'sh', transfer.source.path, ...groups], { timeout: 30_000 });
  if (result.code !== 0) return 'entry that could be listed';
  const absent = result.stdout.split('\n').filter((line) => line !== '');
  return absent.length === 0 ? undefined : absent.map((group) => group.replaceAll(' ', ' or ')).join(', no ');
}

async function checkDestinations(world: World): Promise<Finding> {
  const failures: string[] = [];
  let ours = 0;
  const unreachable = await eachTransfer(world, 'destination', async (connection, transfer) => {
    const { host, path } = transfer.destination;
    const { state, resolved } = await inspectPath(connection, path);
    if (state === 'absent' || (state === 'empty' && resolved === path)) return;
    if (state === 'other') failures.push(`${host}:${path} is no directory (${transfer.id})`);
    else if (state === 'link' || resolved !== path) {
      failures.push(`${host}:${path} leads over a symbolic link to ${resolved} (${transfer.id})`);
    } else if (await isOurs(connection, world, transfer, resolved)) ours += 1;
    else failures.push(`${host}:${path} is not empty and does not carry the mark of this migration (${transfer.id})`);
  });
  return {
    failures: [...unreachable, ...failures],
    next: 'look at what is there; if nobody needs it, move it away (mv DIR DIR.old)',
    proof: `empty or absent${ours === 0 ? '' : `; ${ours} already filled by this migration`}`,
  };
}

/** By the same marks as the copy itself goes by: an earlier try of this migration may be taken up. */
async function isOurs(
  connection: HostConnection,
  world: World,
  transfer: Transfer,
  resolved: string,
): Promise<boolean> {
  const migration = world.plan.cluster;
  try {
    const marker = await readMarker(connection, namesOf({ migration, transfer }, resolved));
    return (
      isMarkerOf(marker, { migration, transfer }) &&
      marker.sourceHost === transfer.source.host &&
      marker.sourcePath === transfer.source.path
    );
  } catch {
    // one that cannot be read is a stranger's
    return false;
  }
}

interface Need {
  bytes: number;
  files: number;
  ids: string[];
}

async function checkSpace(world: World): Promise<Finding> {
  const sizes = new Map<string, DirectorySize>();
  const warnings: string[] = [];
  const failures = await eachTransfer(world, 'source', async (connection, transfer) => {
    const size = await sizeOf(connection, transfer, warnings);
    if (size !== undefined) sizes.set(transfer.id, size);
  });
  for (const transfer of world.plan.transfers) {
    const now = sizes.get(transfer.id)?.bytes ?? 0;
    const planned = transfer.observed?.bytes;
    if (planned === undefined || now <= planned * 1.5 + 1e9) continue;
    warnings.push(`${transfer.id} grew from ${formatBytes(planned)} to ${formatBytes(now)} since the plan was made`);
  }
  const spaces: string[] = [];
  const lacking: string[] = [];
  failures.push(
    ...(await askMachines(
      world,
      [...new Set(world.plan.transfers.map(({ destination }) => destination.host))],
      async (connection, name) => {
        const transfers = world.plan.transfers.filter(({ destination }) => destination.host === name);
        const found = await lackingSpace(connection, world, transfers, sizes, warnings);
        spaces.push(...found.seen);
        lacking.push(...found.failures);
        return undefined;
      },
    )),
  );
  return {
    failures: [...failures, ...lacking],
    warnings,
    next: lacking.length > 0 ? 'make room or mount a larger disk on these machines' : 'ferry plan measures again',
    proof: spaces.toSorted().join(', '),
  };
}

/** Size of a directory; of one that is too large to be measured here, what `otherwise` knows, if it does. */
async function measure(
  connection: HostConnection,
  path: string,
  otherwise: () => DirectorySize | undefined | Promise<DirectorySize | undefined>,
): Promise<DirectorySize | undefined> {
  try {
    return await measureDirectory(connection, path, { timeout: measureTimeout });
  } catch (error) {
    const known = error instanceof CommandTimedOut ? await otherwise() : undefined;
    if (known === undefined) throw error;
    return known;
  }
}

async function sizeOf(
  connection: HostConnection,
  { id, source, observed }: Transfer,
  warnings: string[],
): Promise<DirectorySize | undefined> {
  return measure(connection, source.path, () => {
    if (observed === undefined) return undefined;
    warnings.push(`${id} is too large to be measured here; the plan's figure is used`);
    return { bytes: observed.bytes, files: observed.files };
  });
}

/** What of a directory is at its destination already. */
async function sizeThere(
  connection: HostConnection,
  world: World,
  transfer: Transfer,
  size: DirectorySize,
  warnings: string[],
): Promise<DirectorySize> {
  const { host, path } = transfer.destination;
  const nothing = { bytes: 0, files: 0 };
  const found = await measure(connection, path, async () => {
    // What a stranger has there is refused by the check of the destinations.
    const isCopy = await isOurs(connection, world, transfer, path);
    const counts = isCopy ? 'copied' : 'empty';
    warnings.push(`${host}:${path} is too large to be measured here (${transfer.id}); counted as ${counts}`);
    return isCopy ? size : nothing;
  });
  return found ?? nothing;
}

/** Transfers to one file system share its room; what was copied there already counts. */
async function lackingSpace(
  connection: HostConnection,
  world: World,
  transfers: readonly Transfer[],
  sizes: ReadonlyMap<string, DirectorySize>,
  warnings: string[],
): Promise<{ failures: string[]; seen: string[] }> {
  const needs = new Map<string, Need>();
  const free = new Map<string, { bytes: number; inodes: number }>();
  for (const transfer of transfers) {
    const size = sizes.get(transfer.id);
    if (size === undefined) continue;
    const space = await measureFreeSpace(connection, transfer.destination.path);
    const there = await sizeThere(connection, world, transfer, size, warnings);
    const need = needs.get(space.mount) ?? { bytes: 0, files: 0, ids: [] };
    need.bytes += Math.max(0, size.bytes * 1.1 - there.bytes);
    need.files += Math.max(0, size.files * 1.1 - there.files);
    need.ids.push(transfer.id);
    needs.set(space.mount, need);
    free.set(space.mount, { bytes: space.freeBytes, inodes: space.freeInodes });
  }
  const failures: string[] = [];
  const seen: string[] = [];
  for (const [mount, need] of needs) {
    const room = free.get(mount) ?? { bytes: 0, inodes: 0 };
    const where = `${connection.host.name}:${mount}`;
    if (room.bytes < need.bytes) {
      failures.push(
        `${where} has ${formatBytes(room.bytes)} free, ${need.ids.join(', ')} need ${formatBytes(need.bytes)}`,
      );
    }
    if (room.inodes < need.files) {
      failures.push(`${where} has ${room.inodes} inodes free, ${need.ids.join(', ')} need ${Math.ceil(need.files)}`);
    }
    seen.push(`${where} ${formatBytes(room.bytes)} free for ${formatBytes(need.bytes)}`);
  }
  return { failures, seen };
}
