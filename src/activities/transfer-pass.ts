import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { CancelledFailure } from '@temporalio/common';
import type { HostConnection, Jobs } from '../hosts/contract.ts';
import { jobDirectory, unitOf } from '../hosts/jobs.ts';
import { formatBytes } from '../plan/amounts.ts';
import { counted } from '../plan/counted.ts';
import { needsHuman, permanent, transient } from './failures.ts';
import { parseFields, runScript, tryScript } from './host-script.ts';
import type { Reported, TransferScope } from './transfer-scope.ts';
import { rsyncOptions } from './rsync-options.ts';
import type { RsyncEnd, RsyncProgress, RsyncStats } from './rsync-output.ts';
import { judgeExit, parseProgress, parseStats, sayings } from './rsync-output.ts';
import { evictWriter, grantAccess, readyDestination, remoteTarget } from './transfer-access.ts';
import type { CopyProgress, PassInput, PassReport } from './transfer-contract.ts';
import type { Marker } from './transfer-marker.ts';
import { advanceMarker, flushTimeout, readMarker } from './transfer-marker.ts';
import type { TransferNames } from './transfer-names.ts';
import { passScript, resultScript, watchScript, watchWriterScript } from './transfer-pass-script.ts';
import { judgeTar, tarPassScript } from './transfer-tar.ts';
import { renewProgram } from './transfer-program.ts';
import type { Moment } from './transfer-probe.ts';
import { doubtfulSince, lookAtDestination, measureTree, momentOf } from './transfer-probe.ts';

/** Milliseconds between two looks; shorter ones at first, so that a pass that runs on is seen to. */
const firstInterval = 1000;
const watchInterval = 2000;
/** So long the machine itself waits for the end and answers at once; later nobody minds two seconds, and a session less is in use. */
const promptFor = 20_000;
/** The machine may be away for this long before the attempt is given up; the copy itself goes on. */
const patienceWithSource = 60_000;
/** Between two stages nobody holds the lock of the destination; a sweeper takes a transfer that was silent for an hour for dead. */
const keepEvery = 10 * 60_000;
/** Source silent for this long: ask the destination before calling it a stall. */
const askWriterAfter = 15_000;
/** With less to come, or less than a tenth of the tree, a look at all files before the copy does not pay; what changed is found anyway. */
const muchToCome = 256 * 1024 ** 2;
/** Less work than this is a keep-alive, not progress. */
const workThatCounts = 256 * 1024;

export interface PassEnds {
  source: HostConnection;
  destination: HostConnection;
  /** Resolved. */
  sourcePath: string;
  destinationPath: string;
  sameHost: boolean;
  /** File systems are mounted inside the source: all must be flushed. */
  nestedMounts: boolean;
}

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

/** Ends the pass on both machines and proves that nothing writes any more. */
async function endPass(jobs: Jobs, ends: PassEnds, names: TransferNames): Promise<void> {
  await Promise.all([jobs.stop(ends.source, names.job), evictWriter(ends.destination, names)]);
  await jobs.clear(ends.source, names.job);
  await evictWriter(ends.destination, names);
}

/** A worker that shuts down leaves the copy running: another one takes over. */
function isStopWanted(scope: TransferScope): boolean {
  const details = scope.cancellation();
  return details !== undefined && (details.cancelRequested || details.paused);
}

async function ownMarker(ends: PassEnds, input: PassInput, names: TransferNames): Promise<Marker> {
  const marker = await readMarker(ends.destination, names);
  if (marker?.transfer !== input.request.transfer.id || marker.migration !== input.request.migration) {
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
  const there = await readyDestination(destination, ends.destinationPath, names, streamToken, signal);
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
            isMuchToCome ? 'fill' : '-',
            ...rsyncOptions(choice, input.limitKiBps),
          ]),
    ],
  });
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

interface Seen {
  /** Of the source. */
  now: Moment;
  /** Key and configuration of the road are on the source. */
  key: boolean;
  /** What the job left, when it has ended. */
  result: string | undefined;
  active: boolean;
  exit: number | undefined;
  token: string | undefined;
  step: CopyProgress['step'];
  bytes: number;
  files: number;
  bytesPerSecond: number;
  doubtBytes: number;
  work: number;
  file: string | undefined;
}

async function watch(
  ends: PassEnds,
  names: TransferNames,
  patience: { milliseconds?: number; signal?: AbortSignal | undefined } = {},
): Promise<Seen> {
  const args = [unitOf(names.job), jobDirectory(names.job), names.directory, ends.sourcePath];
  const options = { timeout: 30_000, ...(patience.signal && { signal: patience.signal }) };
  const script = watchScript + resultScript;
  const looks = `${Math.round((patience.milliseconds ?? 0) / 50)}`;
  const answer = await runScript(ends.source, 'watching the pass', script, [...args, looks], options);
  const [text = '', result] = answer.split('=== result\n');
  const fields = parseFields(text);
  const streams = streamsIn([...fields.keys()].flatMap((key) => (key.startsWith('out.') ? [key.slice(4)] : [])));
  const parts = streams.map(({ name }) => parseProgress(fields.get(`out.${name}`) ?? ''));
  const exit = fields.get('exit');
  const state = fields.get('ActiveState');
  const step = (fields.get('step') ?? '').split(' ')[0];
  return {
    now: momentOf(fields),
    key: fields.get('key') === 'there',
    result,
    active: state !== 'inactive' && state !== 'failed',
    exit: exit === undefined ? undefined : Number(exit),
    token: fields.get('token'),
    step:
      step === 'flushing' || step === 'comparing' || step === 'copying'
        ? step
        : step === 'ended'
          ? 'ending'
          : 'starting',
    bytes: parts.reduce((sum, part) => sum + (part?.bytes ?? 0), 0),
    files: parts.reduce((sum, part) => sum + (part?.files ?? 0), 0),
    bytesPerSecond: rateOf(streams, parts, (fields.get('ended') ?? '').split(' ')),
    // While everything is still to come, the doubtful ones are the smaller part.
    doubtBytes: streams.some(({ stage }) => stage === 'fill') ? 0 : Number((fields.get('doubt') ?? '0').split(' ')[0]),
    work: Number(fields.get('work') ?? 0),
    file: fields.get('file')?.slice(ends.sourcePath.length + 1),
  };
}

/** The stages of a pass, in their order. */
const stageNames = ['doubtful', 'fill', 'rest'] as const;

interface Stream {
  /** Of its files: the stage's, with a number when it is one of several. */
  name: string;
  stage: (typeof stageNames)[number];
}

/** Those among the names that copy, by stage. */
function streamsIn(names: readonly string[]): Stream[] {
  return stageNames.flatMap((stage) =>
    names.filter((name) => name === stage || name.startsWith(`${stage}.`)).map((name) => ({ name, stage })),
  );
}

/** Of the stage at work: what has ended moves nothing any more, unless all has. */
function rateOf(streams: readonly Stream[], parts: readonly (RsyncProgress | undefined)[], ended: string[]): number {
  const moving = streams.flatMap(({ name, stage }, index) => {
    const part = parts[index];
    return part === undefined ? [] : [{ name, stage, rate: part.bytesPerSecond }];
  });
  const last = moving.filter(({ stage }) => stage === moving.at(-1)?.stage);
  const open = last.filter(({ name }) => !ended.includes(name));
  return (open.length > 0 ? open : last).reduce((sum, { rate }) => sum + rate, 0);
}

/** Reports until the job has ended; answers how it was seen then. Gives up when neither machine does anything, or the source stays away. */
async function observe(
  jobs: Jobs,
  ends: PassEnds,
  input: PassInput,
  names: TransferNames,
  scope: TransferScope,
  before: number,
): Promise<Seen> {
  const begin = Date.now();
  let answeredAt = begin;
  let movedAt = begin;
  let last: Seen | undefined;
  let progress = startOf(input.pass, input.expectedBytes, { bytes: scope.earlier.bytes, before });
  let writerWork = 0;
  let interval = firstInterval;
  let touchedAt = begin;
  for (;;) {
    scope.signal?.throwIfAborted();
    const isPrompt = Date.now() - begin < promptFor;
    let rest = isPrompt ? 0 : interval;
    try {
      const seen = await watch(ends, names, { milliseconds: isPrompt ? interval : 0, signal: scope.signal });
      answeredAt = Date.now();
      progress = progressOf(input, names, seen, progress);
      scope.heartbeat(progress);
      if (!seen.active) return seen;
      if (Date.now() - touchedAt > keepEvery) {
        touchedAt = Date.now();
        await runScript(ends.destination, 'keeping the gate', 'touch -c -- "$1"', [names.directory]).catch(() => '');
      }
      // It has ended, and systemd is about to notice.
      if (seen.exit !== undefined) rest = 50;
      if (last === undefined || hasMoved(last, seen)) {
        movedAt = Date.now();
        last = seen;
      } else if (Date.now() - movedAt > askWriterAfter) {
        const work = await writerProgress(ends, names);
        if (Math.abs(work - writerWork) >= workThatCounts) movedAt = Date.now();
        writerWork = work;
      }
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'HostUnreachable') throw error;
      rest = interval;
      scope.heartbeat({ ...progress, bytesPerSecond: 0, waiting: error.message });
      if (Date.now() - answeredAt > patienceWithSource) throw outOfReach(error, ends, input);
    }
    const patience = Math.max(input.request.stallSeconds * 1000, last?.step === 'flushing' ? flushTimeout : 0);
    if (Date.now() - movedAt > patience) {
      await endPass(jobs, ends, names);
      throw transient({
        what: `the copy of ${input.request.transfer.id} stood still`,
        cause: `neither machine moved or read anything for ${patience / 1000} s`,
        untouched: 'what was copied stays and is used by the next attempt',
        next: 'it is tried again by itself; if it repeats, look at disks and network of both machines',
      });
    }
    interval = Math.min(watchInterval, interval * 2);
    if (rest > 0) await sleep(rest, undefined, { ...(scope.signal && { signal: scope.signal }) });
  }
}

/** What a program did that has ended no longer counts in `work`: less than before means that another one is at it. */
function hasMoved(last: Seen, { bytes, step, work }: Seen): boolean {
  return bytes !== last.bytes || step !== last.step || work < last.work || work - last.work >= workThatCounts;
}

function outOfReach(error: Error, ends: PassEnds, input: PassInput): Error {
  const { name } = ends.source.host;
  return transient(
    {
      what: `${name} is out of the worker's reach while it copies ${input.request.transfer.id}`,
      cause: error.message,
      untouched: 'if the machine is up the copy goes on there, and the next try takes it over',
      next: `it is tried again by itself; if it stays so: ssh ${name} true`,
    },
    error,
  );
}

async function writerProgress(ends: PassEnds, names: TransferNames): Promise<number> {
  const text = await runScript(ends.destination, 'watching the writer', watchWriterScript, [names.claim]);
  return Number(parseFields(text).get('work') ?? 0);
}

/** What is told before the job was seen. */
export function startOf(pass: number, total: number, { bytes, before }: Reported): CopyProgress {
  return {
    pass,
    step: 'starting',
    bytes,
    total: Math.max(total, bytes),
    files: 0,
    bytesPerSecond: 0,
    ...(before > 0 && { before }),
    job: '',
  };
}

function progressOf(input: PassInput, names: TransferNames, seen: Seen, last: CopyProgress): CopyProgress {
  const { before = 0 } = last;
  const expected = Math.max(seen.bytes, seen.doubtBytes > 0 ? seen.doubtBytes : input.expectedBytes);
  const bytes = Math.max(last.bytes, Math.min(before + seen.bytes, expected));
  const total = Math.max(bytes, expected);
  return {
    pass: input.pass,
    step: seen.step,
    bytes,
    total,
    files: seen.files,
    bytesPerSecond: seen.bytesPerSecond,
    ...(seen.bytesPerSecond > 0 && { etaSeconds: Math.round((total - bytes) / seen.bytesPerSecond) }),
    ...(seen.file !== undefined && { currentFile: seen.file }),
    ...(before > 0 && { before }),
    job: names.job,
  };
}

/** Reads what the ended job left, judges it, and moves the base of the destination forward. */
async function conclude(
  jobs: Jobs,
  ends: PassEnds,
  input: PassInput,
  names: TransferNames,
  marker: Marker,
  { result: text = '', now }: Seen,
  signal: AbortSignal | undefined,
): Promise<PassReport> {
  const fields = parseFields(text.split('=== out')[0] ?? '');
  const codes = new Map(
    (fields.get('codes') ?? '').split(';').flatMap((line): [string, number][] => {
      const [name, code] = line.split(' ');
      return name === undefined || code === undefined ? [] : [[name, Number(code)]];
    }),
  );
  const end = input.choice.tool === 'tar' ? tarEnd(codes, text, input) : rsyncEnd(codes, text, input);
  if (end.kind !== 'done' && end.kind !== 'vanished') {
    await jobs.clear(ends.source, names.job);
    throw await failureOf(end, ends, input);
  }
  const [epoch = '0', uptime = '0', bootId = ''] = (fields.get('moment') ?? '').split(' ');
  const moment: Moment = { epoch, uptime: Number(uptime), bootId };
  const report = reportOf(input, text, fields, end.kind === 'vanished');
  // A base that is not moved forward only makes the next pass look at more.
  const moved: Marker = { ...marker, state: 'incomplete', base: moment };
  const seconds = moment.bootId === now.bootId ? now.uptime - moment.uptime : 0;
  const [isWhole] = await Promise.all([
    advanceMarker(ends.destination, ends.destinationPath, names, moved, { seconds, signal }),
    jobs.clear(ends.source, names.job),
  ]);
  if (isWhole) return report;
  const { name } = ends.destination.host;
  throw transient({
    what: `the copy of ${input.request.transfer.id} is not known to be whole`,
    cause: `${name} restarted while it was written to`,
    untouched: 'the source is untouched; the destination stays marked incomplete',
    next: 'it is tried again by itself, and compares the content of every file',
  });
}

function rsyncEnd(codes: ReadonlyMap<string, number>, text: string, input: PassInput): RsyncEnd {
  const isLive = input.mode === 'live';
  const worst = [...codes]
    .filter(([, code]) => code !== 0)
    .map(([name, code]) => {
      const stderr = section(text, 'err', name);
      return name === 'list' ? judgeLook(code, stderr, isLive) : judgeExit(code, stderr, isLive);
    })
    .toSorted((left, right) => severity(right) - severity(left))[0];
  if (worst !== undefined) return worst;
  return codes.has('rest') ? { kind: 'done', why: '' } : { kind: 'again', why: 'the copy was interrupted' };
}

/** The look for what changed; 24 when all that it missed is what went away under it. */
function judgeLook(code: number, stderr: string, isLive: boolean): RsyncEnd {
  const why = `what changed since the last pass could not be told, find ended with ${code}: ${sayings(stderr)}`;
  if (code > 128) return { kind: 'again', why };
  return code === 24 && isLive ? { kind: 'vanished', why } : { kind: 'partial', why, at: 'source' };
}

function tarEnd(codes: ReadonlyMap<string, number>, text: string, input: PassInput): RsyncEnd {
  const stderr = { pack: section(text, 'err', 'pack'), rest: section(text, 'err', 'rest') };
  return judgeTar(codes, stderr, input.mode === 'live');
}

function section(text: string, kind: 'out' | 'err', name: string): string {
  const begin = text.indexOf(`=== ${kind} ${name}\n`);
  if (begin === -1) return '';
  const from = begin + `=== ${kind} ${name}\n`.length;
  const to = text.indexOf('\n=== ', from);
  return text.slice(from, to === -1 ? undefined : to);
}

function severity(end: RsyncEnd): number {
  return ['done', 'vanished', 'again', 'link', 'partial', 'busy', 'broken', 'refused', 'disk', 'no-space'].indexOf(
    end.kind,
  );
}

async function failureOf(end: RsyncEnd, ends: PassEnds, input: PassInput): Promise<Error> {
  const { id } = input.request.transfer;
  const there = `${ends.destination.host.name}:${ends.destinationPath}`;
  const what = `the copy of ${id} failed`;
  const machine = (end.at === 'destination' ? ends.destination : ends.source).host.name;
  const untouched =
    'the source is untouched; the destination stays marked incomplete, what was copied is used by the next attempt';
  switch (end.kind) {
    case 'no-space': {
      const isQuota = end.why.includes('Disk quota exceeded');
      const cause = `${isQuota ? 'the quota is used up' : 'no space'} at ${there}: ${await roomAndNeed(ends)}; ${end.why}`;
      const next = `${isQuota ? 'raise the quota or make room' : 'make room'} on ${ends.destination.host.name}, then resume`;
      return needsHuman({ what, cause, untouched, next });
    }
    case 'busy':
      return transient({
        what,
        cause: `another process writes to ${there}`,
        untouched,
        next: 'it is ended and tried again',
      });
    case 'refused':
      return permanent({
        what,
        cause: end.why,
        untouched,
        next: `look at sshd's log on ${ends.destination.host.name}`,
      });
    case 'again':
      return transient({ what, cause: end.why, untouched, next: 'it is tried again by itself' });
    case 'link': {
      const { source, destination } = input.request;
      return transient({
        what,
        cause: `ssh from ${source.name} to ${destination.name} failed; ${end.why}`,
        untouched,
        next: `it is tried again by itself; if it stays so: ssh ${source.name} ssh -v ${destination.user}@${destination.address} -p ${destination.port}`,
      });
    }
    case 'disk':
      return needsHuman({
        what,
        cause: `on ${machine} ${end.disk?.is ?? 'the disk gives errors'}; ${end.why}`,
        untouched,
        next: `${end.disk?.helps ?? 'look at the disk'} (ssh ${machine}), then resume`,
      });
    case 'partial':
      return needsHuman({
        what,
        cause: end.why,
        untouched,
        next: `see to the files named (ssh ${machine}), then resume`,
      });
    default:
      return permanent({ what, cause: end.why, untouched, next: 'report it with these lines' });
  }
}

/** As it is now: the source may have grown since it was looked at. */
async function roomAndNeed({ source, destination, sourcePath, destinationPath }: PassEnds): Promise<string> {
  const [room, all, there] = await Promise.all([
    lookAtDestination(destination, destinationPath),
    measureTree(source, sourcePath),
    measureTree(destination, destinationPath),
  ]);
  const inodes = room.freeInodes === undefined ? '' : ` and ${room.freeInodes} inodes`;
  const bytes = formatBytes(Math.max(0, all.allocated - there.allocated));
  const files = counted(Math.max(0, all.files - there.files), 'entry', 'entries');
  return `${formatBytes(room.freeBytes)}${inodes} are free, ${bytes} and ${files} of ${formatBytes(all.allocated)} are still to come`;
}

function reportOf(input: PassInput, text: string, fields: Map<string, string>, vanished: boolean): PassReport {
  const named = [...text.matchAll(/^=== out (\S+)$/gm)].map(([, name = '']) => name);
  const stages = streamsIn(named).flatMap(({ name }) => parseStats(section(text, 'out', name)) ?? []);
  const whole = stages.at(-1);
  const sum = (field: keyof RsyncStats): number => stages.reduce((total, stage) => total + stage[field], 0);
  const steps = (fields.get('steps') ?? '').split(';').flatMap((line): { name: string; at: number }[] => {
    const [name, at] = line.split(' ');
    return name === undefined || at === undefined ? [] : [{ name, at: Number(at) }];
  });
  const begin = steps[0]?.at ?? 0;
  const seconds = Math.max(0, (steps.at(-1)?.at ?? begin) - begin);
  const literalBytes = sum('literalBytes');
  const wireBytes = sum('sent') + sum('received');
  const doubtful = Number(fields.get('doubtful') ?? 0);
  return {
    startedAt: new Date(begin * 1000).toISOString(),
    seconds: round(seconds),
    scanSeconds: round(scanSeconds(steps, stages, seconds)),
    files: whole?.files ?? 0,
    filesTransferred: sum('filesTransferred'),
    deleted: sum('deleted'),
    totalBytes: whole?.totalBytes ?? 0,
    transferredSize: sum('transferredSize'),
    literalBytes,
    matchedBytes: sum('matchedBytes'),
    wireBytes,
    doubtful,
    vanished,
    explanation: explain(input, { doubtful, options: fields.get('options'), streams: fields.get('streams') }),
  };
}

/** Seconds before the first byte can move, plus the last stage when it found next to nothing to do. */
function scanSeconds(steps: { name: string; at: number }[], stages: RsyncStats[], seconds: number): number {
  const begin = steps[0]?.at ?? 0;
  const copying = steps.filter((step) => step.name === 'copying');
  const before = (copying[0]?.at ?? begin) - begin;
  const last = stages.at(-1);
  const end = steps.at(-1)?.at ?? begin;
  const lastSeconds = end - (copying.at(-1)?.at ?? end);
  const isQuiet = last !== undefined && last.transferredSize < 8 * 1024 ** 2;
  return Math.min(seconds, before + (isQuiet ? lastSeconds : 0));
}

/**
 * `options` are those that the pass really ran with; a pass of an older worker left none. `streams`: how many there were, by stage, as the
 * pass left it: `fill 4;`.
 */
export function explain(
  input: Pick<PassInput, 'limitKiBps' | 'content' | 'choice'>,
  { doubtful, options, streams = '' }: { doubtful: number; options: string | undefined; streams?: string | undefined },
): string {
  const most = Math.max(0, ...[...streams.matchAll(/ (\d+);/g)].map(([, count]) => Number(count)));
  const { inplace } = input.choice;
  const isInplace = inplace && (options === undefined || options.split(' ').includes('--inplace'));
  const parts = [
    input.limitKiBps > 0 ? `limited to ${formatBytes(input.limitKiBps * 1024)}/s` : 'no limit',
    ...(input.content === 'all' ? ['content of every file compared'] : []),
    ...(doubtful > 0 ? [`content of ${doubtful} files compared that changed since the last pass`] : []),
    ...(most > 1 ? [`${most} streams side by side`] : []),
    ...(isInplace ? ['written in place'] : []),
    ...(inplace && !isInplace ? ['not written in place: files at the destination have several names'] : []),
    ...input.choice.reasons,
  ];
  return parts.join('; ');
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
