import { setTimeout as sleep } from 'node:timers/promises';
import type { HostConnection, Jobs } from '../hosts/contract.ts';
import { jobDirectory, unitOf } from '../hosts/jobs.ts';
import { transient } from './failures.ts';
import { parseFields, runScript } from './host-script.ts';
import type { Reported, TransferScope } from './transfer-scope.ts';
import type { RsyncProgress } from './rsync-output.ts';
import { parseProgress } from './rsync-output.ts';
import { evictWriter } from './transfer-access.ts';
import type { CopyProgress, PassInput } from './transfer-contract.ts';
import { flushTimeout } from './transfer-marker.ts';
import type { TransferNames } from './transfer-names.ts';
import { resultScript, watchScript, watchWriterScript } from './transfer-pass-script.ts';
import type { Moment } from './transfer-probe.ts';
import { momentOf } from './transfer-probe.ts';

/* A pass at work: how the machines show it, and its end on both. */

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

export interface Seen {
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

export async function watch(
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
export function streamsIn(names: readonly string[]): Stream[] {
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
export async function observe(
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

/** Ends the pass on both machines and proves that nothing writes any more. */
export async function endPass(jobs: Jobs, ends: PassEnds, names: TransferNames): Promise<void> {
  await Promise.all([jobs.stop(ends.source, names.job), evictWriter(ends.destination, names)]);
  await jobs.clear(ends.source, names.job);
  await evictWriter(ends.destination, names);
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
