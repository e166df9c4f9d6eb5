import type { Jobs } from '../hosts/contract.ts';
import { formatBytes } from '../plan/amounts.ts';
import { counted } from '../plan/counted.ts';
import { needsHuman, permanent, transient } from './failures.ts';
import { parseFields } from './host-script.ts';
import type { RsyncEnd, RsyncStats } from './rsync-output.ts';
import { judgeExit, parseStats, sayings } from './rsync-output.ts';
import type { PassInput, PassReport } from './transfer-contract.ts';
import type { Marker } from './transfer-marker.ts';
import { advanceMarker } from './transfer-marker.ts';
import type { TransferNames } from './transfer-names.ts';
import { judgeTar } from './transfer-tar.ts';
import type { Moment } from './transfer-probe.ts';
import { lookAtDestination, measureTree } from './transfer-probe.ts';
import type { PassEnds, Seen } from './transfer-watch.ts';
import { streamsIn } from './transfer-watch.ts';

/* What a pass that ended means: figures where it did its work, else why not and what helps. */

/** Reads what the ended job left, judges it, and moves the base of the destination forward. */
export async function conclude(
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
  return codes.has('rest') || codes.has('alone')
    ? { kind: 'done', why: '' }
    : { kind: 'again', why: 'the copy was interrupted' };
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
 * pass left it: `fill 4;`, or `fill 4;tar 4;` where they were of tar, `alone` where nothing came after it.
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
    ...(/(?:^|;)tar \d/.test(streams) ? ['first copy by tar, looked over by rsync'] : []),
    ...(/(?:^|;)alone \d/.test(streams) ? ['first copy by tar, which the next pass looks over'] : []),
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
