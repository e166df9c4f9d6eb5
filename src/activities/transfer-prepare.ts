import { randomBytes } from 'node:crypto';
import type { HostConnection, Jobs } from '../hosts/contract.ts';
import type { ReplicateInput } from '../plan/replicate.ts';
import { formatBytes } from '../plan/amounts.ts';
import { needsHuman, permanent } from './failures.ts';
import { parseFields, runScript } from './host-script.ts';
import type { Lately } from './lately.ts';
import { placesBelow } from './mounts.ts';
import type { EndFacts } from './rsync-options.ts';
import { chooseCopy } from './rsync-options.ts';
import { evictWriter, grantAccess } from './transfer-access.ts';
import type { Prepared } from './transfer-contract.ts';
import { guardDestination } from './transfer-guard.ts';
import type { Marker } from './transfer-marker.ts';
import { changedSinceProof, flushedIn, isMarkerOf, readMarker, writeMarker } from './transfer-marker.ts';
import type { TransferNames } from './transfer-names.ts';
import { namesOf } from './transfer-names.ts';
import type { EndProbe } from './transfer-probe.ts';
import { keepsNanoseconds, lookAtDestination, measureTreeIfThere, probeEnd } from './transfer-probe.ts';
import { bringProgram, programOf, whyLent } from './transfer-program.ts';
import type { RoadMemory } from './transfer-road.ts';
import { tryRoad } from './transfer-road.ts';
import type { TreeUser } from './transfer-users.ts';
import { describeUsers, usersOf } from './transfer-users.ts';

/** File systems on which a write through a mapping moves the change time after a flush; seen with tests. */
const trustedForMappings = new Set(['ext2', 'ext3', 'ext4', 'xfs', 'btrfs', 'overlay']);

/** What transfers through one worker tell each other of machines and of the roads between them. */
export interface MoverMemory {
  roads: RoadMemory;
  digests: Lately<EndFacts['digests']>;
}

/** Looks, refuses or marks, and lets the source in. What it did before is found and kept. */
export async function prepare(
  jobs: Jobs,
  source: HostConnection,
  destination: HostConnection,
  request: ReplicateInput,
  mode: 'live' | 'final',
  memory: MoverMemory,
  signal: AbortSignal | undefined,
): Promise<Prepared> {
  const { transfer } = request;
  // Looks that do not need each other's answers go side by side: a small directory takes no longer to copy than they do.
  const [from, to, tree, there, room] = await Promise.all([
    probeEnd(source, transfer.source.path, memory.digests),
    probeEnd(destination, transfer.destination.path, memory.digests),
    measureTreeIfThere(source, transfer.source.path, signal),
    measureTreeIfThere(destination, transfer.destination.path, signal),
    lookAtDestination(destination, transfer.destination.path),
  ]);
  if (!from.exists || tree === undefined) {
    throw needsHuman({
      what: `${transfer.id} cannot be copied`,
      cause: `${transfer.source.host}:${transfer.source.path} is no directory`,
      untouched: 'nothing was written anywhere',
      next: 'correct the path in the plan and approve the new plan',
    });
  }
  const names = namesOf(request, to.path);
  const [sameHost, marker, found] = await Promise.all([
    isSameHost(source, destination, from, to),
    readMarker(destination, names).catch(() => strangersMarker),
    to.exists ? usersOf(destination, to.path, 'any') : [],
  ]);
  const changedSince =
    to.exists && marker?.state === 'verified' && !request.discardChanges
      ? await changedSinceProof(destination, to.path, names, signal)
      : undefined;
  const wishes = { mode, sameHost, limitKiBps: mode === 'final' ? 0 : request.limitKiBps, linkBytesPerSecond: 0 };
  const needsLoan = (end: EndProbe): boolean => whyLent(end.rsync, tree) !== undefined;
  const program = needsLoan(from) || needsLoan(to) ? await programOf(request) : undefined;
  // Whether it runs there is tried when nothing stands against the copy.
  const hoped = (end: EndProbe): EndProbe =>
    program !== undefined && needsLoan(end) ? { ...end, rsync: program.facts } : end;
  const inplace = chooseCopy(hoped(from), hoped(to), tree, wishes).inplace;
  guardDestination(
    request,
    {
      sameHost,
      sourcePath: from.path,
      destinationPath: to.path,
      destinationMounts: to.mounts,
      marker,
      changedSince,
      ...room,
      sourceBytes: tree.allocated,
      sourceFiles: tree.files,
      largestFile: tree.largestFile,
      allocatedThere: there?.allocated ?? 0,
      filesThere: there?.files ?? 0,
    },
    inplace,
  );
  const isOwn = isMarkerOf(marker, request);
  guardUsers(request, found.length > 0 && isOwn ? await withoutOwn(jobs, source, destination, to.path, names) : found);
  await Promise.all([
    jobs.stop(source, names.job).then(async () => jobs.clear(source, names.job)),
    claim(destination, request, from, to, marker, room.firstEntry === undefined),
  ]);
  await evictWriter(destination, names);
  const [nanoseconds] = await Promise.all([
    keepsNanoseconds(destination, to.path, randomBytes(4).toString('hex')),
    sameHost || guardShared(source, destination, request, from.path, to.path),
  ]);
  const lent = await bringProgram(
    program,
    names,
    { source: { connection: source, probe: from }, destination: { connection: destination, probe: to } },
    sameHost,
    tree,
  );
  const target = { ...lent.destination, nanoseconds };
  let choice = chooseCopy(lent.source, target, tree, wishes);
  if (!sameHost) {
    await grantAccess(source, destination, request, names, { destinationPath: to.path, cipher: choice.cipher });
    const linkBytesPerSecond = await tryRoad(source, request, names.directory, tree.bytes, memory.roads);
    choice = chooseCopy(lent.source, target, tree, { ...wishes, linkBytesPerSecond });
  }
  choice.reasons.push(...lent.reasons);
  if (lent.brought.length > 0) choice.brought = lent.brought;
  const odd = placesBelow(from.mounts, from.path)
    .map((place) => place.type)
    .filter((type) => !trustedForMappings.has(type));
  if (odd.length > 0) {
    choice.reasons.push(
      `every content compared: on ${odd.join(', ')} a mapped write leaves no trace in the file's times`,
    );
  }
  return {
    choice,
    ...(odd.length > 0 && { contentAll: true }),
    bytes: tree.bytes,
    files: tree.files,
    bytesThere: there?.bytes ?? 0,
    proof: `${formatBytes(tree.bytes)} in ${tree.files} entries; ${formatBytes(room.freeBytes)} free at ${transfer.destination.host}:${to.path}`,
  };
}

const strangersMarker: Marker = {
  migration: 'unknown',
  transfer: 'unknown',
  sourceHost: 'unknown',
  sourcePath: 'unknown',
  destinationPath: 'unknown',
  state: 'incomplete',
};

/** One machine under two names is found by its boot id and machine id, not by the names. */
async function isSameHost(
  source: HostConnection,
  destination: HostConnection,
  from: EndProbe,
  to: EndProbe,
): Promise<boolean> {
  if (source.host.name === destination.host.name) return true;
  if (from.moment.bootId !== to.moment.bootId) return false;
  const script = 'cat /etc/machine-id; readlink /proc/1/ns/net /proc/1/ns/mnt';
  const [left, right] = await Promise.all([
    runScript(source, 'reading the machine id', script),
    runScript(destination, 'reading the machine id', script),
  ]);
  return left === right;
}

async function claim(
  destination: HostConnection,
  request: ReplicateInput,
  from: EndProbe,
  to: EndProbe,
  marker: Marker | undefined,
  isEmpty: boolean,
): Promise<void> {
  const names = namesOf(request, to.path);
  // Nothing is there that could be gone with the power.
  const begin = isEmpty ? ` && cat /proc/sys/kernel/random/boot_id >"$2/${flushedIn}"` : '';
  // What lies above the data is for everybody to pass through; proton-cli leaves it as it finds it.
  const parent = '(umask 022; parent=${1%/*}; mkdir -p -- "${parent:-/}")';
  const script = `${parent} && umask 077 && mkdir -p -- "$1" "$2" "$3"${begin}`;
  await runScript(destination, 'making the destination', script, [to.path, names.claim, names.directory]);
  // What was verified once was given to its component: it may have written there before the migration was rolled back.
  const kept = marker?.state === 'verified' ? undefined : marker;
  const { base } = isEmpty ? { base: from.moment } : (kept ?? {});
  await writeMarker(destination, names, {
    migration: request.migration,
    transfer: request.transfer.id,
    sourceHost: request.transfer.source.host,
    sourcePath: from.path,
    destinationPath: to.path,
    state: 'incomplete',
    ...(base && { base }),
  });
}

/** Whoever uses the destination would see it change under him, or write into it. */
function guardUsers(request: ReplicateInput, all: readonly TreeUser[]): void {
  const users = all.filter((user) => user.kind !== 'cron');
  if (users.length === 0) return;
  throw needsHuman({
    what: `${request.transfer.destination.host}:${request.transfer.destination.path} is in use`,
    cause: describeUsers(users),
    untouched: 'source and destination are as they were',
    next: `stop it on ${request.transfer.destination.host}, then resume`,
  });
}

/** Who uses a destination of ours when what an earlier try left running there is gone: a worker that was cut off from both machines could not end it. */
async function withoutOwn(
  jobs: Jobs,
  source: HostConnection,
  destination: HostConnection,
  path: string,
  names: TransferNames,
): Promise<TreeUser[]> {
  await jobs.stop(source, names.job);
  await evictWriter(destination, names);
  return usersOf(destination, path, 'any');
}

/** Two machines may mount the same storage: a file made at the destination must not appear in the source. */
async function guardShared(
  source: HostConnection,
  destination: HostConnection,
  request: ReplicateInput,
  from: string,
  to: string,
): Promise<void> {
  const name = `.ferry-shared-${randomBytes(6).toString('hex')}`;
  await runScript(destination, 'trying for shared storage', ': >"$1/$2"', [to, name]);
  try {
    const script = 'if [ -e "$1/$2" ]; then echo shared=yes; fi; :';
    const answer = parseFields(await runScript(source, 'trying for shared storage', script, [from, name]));
    if (answer.get('shared') !== 'yes') return;
    throw permanent({
      what: `${request.transfer.id} would copy a directory onto itself`,
      cause: `${request.transfer.source.host}:${from} and ${request.transfer.destination.host}:${to} are the same storage`,
      untouched: 'source and destination are as they were',
      next: 'name another destination in the plan',
    });
  } finally {
    await runScript(destination, 'trying for shared storage', 'rm -f -- "$1/$2"', [to, name]);
  }
}
