import { randomBytes } from 'node:crypto';
import { CancelledFailure } from '@temporalio/common';
import type { HostConnection, Jobs } from '../hosts/contract.ts';
import { jobDirectory, unitOf } from '../hosts/jobs.ts';
import { needsHuman, transient } from './failures.ts';
import { runScript, tryScript } from './host-script.ts';
import type { TransferScope } from './transfer-scope.ts';
import { rsyncOptions } from './rsync-options.ts';
import { grantAccess, readyDestination, remoteTarget } from './transfer-access.ts';
import type { PassInput, PassReport } from './transfer-contract.ts';
import type { Marker } from './transfer-marker.ts';
import { isMarkerOf, readMarker } from './transfer-marker.ts';
import type { TransferNames } from './transfer-names.ts';
import { passScript } from './transfer-pass-script.ts';
import { tarPassScript } from './transfer-tar.ts';
import { renewProgram } from './transfer-program.ts';
import { doubtfulSince } from './transfer-probe.ts';
import { conclude } from './transfer-conclusion.ts';
import type { PassEnds, Seen } from './transfer-watch.ts';
import { endPass, observe, watch } from './transfer-watch.ts';

/** With less to come, or less than a tenth of the tree, a look at all files before the copy does not pay; what changed is found anyway. */
const muchToCome = 256 * 1024 ** 2;

/** Starts or re-attaches to the pass and watches it to its end. */
export async function runRsyncPass(
  jobs: Jobs,
  ends: PassEnds,
  input: PassInput,
  names: TransferNames,
  scope: TransferScope,
): Promise<PassReport> {
  const [marker, seen] = await Promise.all([ownMarker(ends, input, names), watch(ends, names)]);
  if (seen.active && seen.token !== scope.token) await endPass(jobs, ends, names);
  if (!seen.active && seen.token !== undefined && seen.token !== scope.token) await jobs.clear(ends.source, names.job);
  const isNew = seen.token !== scope.token;
  try {
    if (isNew) await startPass(jobs, ends, input, names, { marker, seen, scope });
    // What an earlier job of this pass had done is there; the new one finds it and counts from the beginning.
    const before = isNew ? scope.earlier.bytes : scope.earlier.before;
    const ended = await observe(jobs, ends, input, names, scope, before);
    return await conclude(jobs, ends, input, names, marker, ended, scope.signal);
  } catch (error) {
    if (isStopWanted(scope)) {
      await endPass(jobs, ends, names);
      throw error instanceof CancelledFailure ? error : new CancelledFailure('the copy was cancelled and is stopped');
    }
    throw error;
  }
}

/** A worker that shuts down leaves the copy running: another one takes over. */
function isStopWanted(scope: TransferScope): boolean {
  const details = scope.cancellation();
  return details !== undefined && (details.cancelRequested || details.paused);
}

async function ownMarker(ends: PassEnds, input: PassInput, names: TransferNames): Promise<Marker> {
  const marker = await readMarker(ends.destination, names);
  if (!isMarkerOf(marker, input.request)) {
    throw needsHuman({
      what: `${input.request.transfer.id} was not copied`,
      cause: `the marker of ${ends.destination.host.name}:${ends.destinationPath} is gone`,
      untouched: 'source and destination are as they were',
      next: 'start the copy again; it looks at everything anew',
    });
  }
  return marker;
}

async function startPass(
  jobs: Jobs,
  ends: PassEnds,
  input: PassInput,
  names: TransferNames,
  { marker, seen, scope: { token, signal } }: { marker: Marker; seen: Seen; scope: TransferScope },
): Promise<void> {
  const { source, destination } = ends;
  const isTar = input.choice.tool === 'tar';
  const streamToken = randomBytes(12).toString('hex');
  await placeScript(source, names, isTar ? tarPassScript : passScript);
  // Where times prove nothing, neither does what a file system says of holes.
  const isTrusted = input.content !== 'all';
  const mayBeTar = input.choice.tarFirst === true && input.limitKiBps === 0 && !ends.sameHost && isTrusted;
  const streams = { token: streamToken, mayBeTar };
  const there = await readyDestination(destination, ends.destinationPath, names, streams, signal);
  if (!ends.sameHost && !(seen.key && there.gate)) {
    const access = { destinationPath: ends.destinationPath, cipher: input.choice.cipher };
    await grantAccess(source, destination, input.request, names, access);
  }
  if (input.partLinks === true && there.links && !isTar)
    await partLinks(destination, ends.destinationPath, names, signal);
  for (const end of input.choice.brought ?? []) await renewProgram(ends[end], input.request, names);
  const base = there.restarted ? undefined : marker.base;
  const since = isTar || there.empty ? 'none' : input.content === 'all' ? 'all' : doubtfulSince(base, seen.now);
  const target = ends.sameHost ? `${ends.destinationPath}/` : remoteTarget;
  // A file with several names that is written in place passes its content on to all of them, also to one that was replaced meanwhile.
  const choice = { ...input.choice, inplace: input.choice.inplace && !there.links };
  // A limit is kept by one alone, and streams would part files that have several names.
  const hasStreams = !ends.sameHost && input.limitKiBps === 0 && !there.links;
  const toCome = input.expectedBytes - there.bytes;
  const isMuchToCome = there.empty || (toCome >= muchToCome && toCome >= input.expectedBytes / 10);
  const gentle = input.mode === 'live' ? ['nice', '-n', '10', 'ionice', '-c', '2', '-n', '7'] : [];
  await jobs.start(source, {
    name: names.job,
    token,
    argv: [
      ...gentle,
      'sh',
      `${names.directory}/pass`,
      names.directory,
      ends.sourcePath === '/' ? '' : ends.sourcePath,
      target,
      since,
      ends.sameHost ? `${names.claim}/lock` : '-',
      ends.nestedMounts ? 'everything' : 'tree',
      ...(isTar
        ? [`${input.limitKiBps}`]
        : [
            `${hasStreams ? choice.streams : 1}`,
            streamToken,
            there.empty && mayBeTar ? firstCopyOf(input) : isMuchToCome ? 'fill' : '-',
            `${names.lists}/${marker.base?.epoch ?? '-'}`,
            input.mode,
            ...rsyncOptions(choice, input.limitKiBps),
          ]),
    ],
  });
}

/** Where another pass is sure to come it looks over what tar left; else rsync does at once. */
function firstCopyOf({ mode, pass, request }: PassInput): 'tar' | 'alone' {
  return mode === 'live' && pass === 1 && request.maxPasses > 1 ? 'alone' : 'tar';
}

const partScript = String.raw`
cd -- "$1" && exec 9>>"$2/lock" && flock -n 9 || return 1
find . -xdev -type f -links +1 -print0 | xargs -0 -r -n 100 sh -c '
  for file; do
    new=${'$'}{file%/*}/.ferry-part.$$
    cp --preserve=all -- "$file" "$new" && mv -f -- "$new" "$file" || { rm -f -- "$new"; exit 255; }
  done' sh
`;

/** Gives every name a file of its own; the pass after it links those again that belong together. Where there is no room for it, the comparison says so. */
async function partLinks(
  destination: HostConnection,
  path: string,
  names: TransferNames,
  signal: AbortSignal | undefined,
): Promise<void> {
  await tryScript(destination, partScript, [path, names.claim], {
    timeout: 6 * 3_600_000,
    ...(signal && { signal }),
  });
}

/**
 * What an earlier pass left must not be read as the result of one that did not even start. The script need not outlive the machine: a
 * job does not either. Under the lock of whoever starts jobs: a try that was given up and comes late must not disturb its successor.
 */
async function placeScript(source: HostConnection, names: TransferNames, program: string): Promise<void> {
  const place = String.raw`
umask 077
mkdir -p -- "${'$'}{2%/*}" && exec 9>>"$2.lock" && flock -w 30 9 || return 1
case "$(systemctl show -p ActiveState "$3")" in *=inactive | *=failed) ;; *) echo busy; return 0 ;; esac
mkdir -p -- "$1" && cd -- "$1" && rm -f codes ended streams steps moment options list.* sizes.* out.* err.* || return 1
cat >pass.new <<'ferry-end-of-pass'
${program}
# end
ferry-end-of-pass
tail -n 2 pass.new | grep -q '^# end$' && mv -f pass.new pass`;
  const args = [names.directory, jobDirectory(names.job), unitOf(names.job)];
  const answer = await runScript(source, 'making room for the pass', place, args);
  if (!answer.includes('busy')) return;
  throw transient({
    what: 'the pass was not started',
    cause: `${unitOf(names.job)} runs already on ${source.host.name}: another try has taken over`,
    untouched: 'the other try goes on',
    next: 'it is tried again by itself, and takes the other one over',
  });
}
