import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostConnection } from '../hosts/contract.ts';
import type { ReplicateInput } from '../plan/replicate.ts';
import { formatBytes } from '../plan/amounts.ts';
import { needsHuman, transient } from './failures.ts';
import { parseFields, runScript, tryScript } from './host-script.ts';
import type { CopyChoice, Difference, Verification } from './transfer-contract.ts';
import type { TransferNames } from './transfer-names.ts';
import { opensslDigests, treeScanProgram } from './tree-scan.ts';

const shownDifferences = 20;
const bucketsLookedInto = 12;
/** A digest of a very large tree takes its time; the machine decides how long. */
const scanTimeout = 24 * 3_600_000;

interface Scan {
  digest: string;
  entries: number;
  bytes: number;
  allocated: number;
}

interface Side {
  connection: HostConnection;
  path: string;
  /** Directories of earlier tries have the same name up to the last dot. */
  work: string;
}

/** How far a verification is: the slower side counts. */
export interface ScanProgress {
  bytes: number;
  total: number;
  files: number;
  bytesPerSecond: number;
  etaSeconds?: number;
}

const watchInterval = 2000;

/** Describes both trees on their machines at the same time and compares; what differs is looked for in both directions. */
export async function verifyTrees(
  source: HostConnection,
  destination: HostConnection,
  paths: { source: string; destination: string },
  request: ReplicateInput,
  choice: CopyChoice,
  names: TransferNames,
  { signal, report }: { signal: AbortSignal | undefined; report: (progress: ScanProgress) => void },
): Promise<Verification> {
  const begin = Date.now();
  const seed = randomBytes(8).toString('hex');
  const work = (end: string): string => `${names.directory}/verify-${end}.${seed}`;
  const from: Side = { connection: source, path: paths.source, work: work('source') };
  const to: Side = { connection: destination, path: paths.destination, work: work('destination') };
  const over = new AbortController();
  const watching = watchScans([from, to], report, over.signal);
  try {
    const [left, right] = await Promise.all(
      [from, to].map(async (side) => scan(side, request.verify, choice, seed, signal)),
    ).finally(async () => {
      over.abort();
      await watching;
    });
    if (left === undefined || right === undefined) throw new TypeError('two scans expected');
    const equal = left.digest === right.digest;
    const found = equal ? { differences: [], differing: 0 } : await differencesOf(from, to);
    const seconds = (Date.now() - begin) / 1000;
    const what = `${request.verify}: ${left.entries} entries, ${formatBytes(left.bytes)}, both sides in ${seconds.toFixed(1)} s`;
    return {
      equal,
      kind: request.verify,
      ...(equal && { digest: `sha256:${left.digest}` }),
      entries: left.entries,
      bytes: left.bytes,
      seconds,
      ...found,
      proof: equal
        ? `${what}, root digest ${left.digest.slice(0, 12)} on both${holes(left, right)}`
        : `${what}, ${found.differing} entries differ`,
    };
  } finally {
    await Promise.all([from, to].map(async (side) => cleanUp(side).catch(() => undefined)));
  }
}

/** Holes are no content; where they were lost the disk says so. */
function holes(source: Scan, destination: Scan): string {
  return destination.allocated > source.allocated * 1.1 + 16 * 1024 ** 2
    ? `; the destination occupies ${formatBytes(destination.allocated)}, the source ${formatBytes(source.allocated)}`
    : '';
}

async function scan(
  side: Side,
  kind: Verification['kind'],
  choice: CopyChoice,
  seed: string,
  signal: AbortSignal | undefined,
): Promise<Scan> {
  await writeProgram(side);
  const script = String.raw`
algorithm=$3
if [ "$algorithm" = sha256 ] && ${opensslDigests}; then algorithm=openssl; fi
jobs=$(nproc)
exec nice -n 5 perl "$6/scan.pl" "$1" "$2" "$algorithm" "$jobs" "$4" "$5" "$6"`;
  const args = [side.path, kind, choice.digest, choice.nanoseconds ? '1' : '0', seed, side.work];
  const result = await tryScript(side.connection, script, args, { timeout: scanTimeout, ...(signal && { signal }) });
  if (result.code !== 0) {
    const cause = result.stderr.trim().slice(0, 600) || `it ended with ${result.code ?? result.signal ?? '?'}`;
    throw transient({
      what: `${side.connection.host.name}:${side.path} could not be described`,
      cause,
      untouched: 'both trees are as they were',
      next: 'it is tried again; then look at the file named',
    });
  }
  const fields = parseFields(result.stdout);
  const digest = fields.get('digest');
  if (digest === undefined) throw new TypeError('the description has no digest');
  const number = (name: string): number => Number(fields.get(name) ?? 0);
  return { digest, entries: number('entries'), bytes: number('bytes'), allocated: number('allocated') };
}

/** Ends what a try left running whose worker died: it would read the disks for nothing. */
const roomScript = String.raw`
umask 077
pkill -KILL -f "perl ${'$'}{1%.*}[.]" 2>/dev/null
rm -rf -- "${'$'}{1%.*}".*
mkdir -p -- "$1" && perl -MPOSIX -e 1`;

/** The directory of the transfer is touched: one that is silent for an hour is swept by the next transfer, and reading may take longer. */
const progressScript = String.raw`
cd -- "$1" 2>/dev/null && touch -- .. || return 0
echo "files=$(cat found 2>/dev/null)"; echo "total=$(cat total 2>/dev/null)"
cat done.* 2>/dev/null | awk '{ sum += $1 } END { printf "done=%.0f\n", sum }'
`;

async function watchScans(
  sides: readonly Side[],
  report: (progress: ScanProgress) => void,
  over: AbortSignal,
): Promise<void> {
  const begin = Date.now();
  let most = 0;
  for (;;) {
    await sleep(watchInterval, undefined, { signal: over }).catch(() => undefined);
    if (over.aborted) return;
    const seen = await Promise.all(sides.map(progressOf)).catch(() => undefined);
    if (seen === undefined) continue;
    most = Math.max(most, Math.min(...seen.map(({ bytes }) => bytes)));
    const total = Math.max(most, ...seen.map((side) => side.total));
    const bytesPerSecond = Math.round((most * 1000) / (Date.now() - begin));
    report({
      bytes: most,
      total,
      files: Math.min(...seen.map(({ files }) => files)),
      bytesPerSecond,
      ...(bytesPerSecond > 0 && { etaSeconds: Math.round((total - most) / bytesPerSecond) }),
    });
  }
}

async function progressOf(side: Side): Promise<Pick<ScanProgress, 'bytes' | 'total' | 'files'>> {
  const text = await runScript(side.connection, 'watching the verification', progressScript, [side.work]);
  const fields = parseFields(text);
  const number = (name: string): number => Number(fields.get(name) ?? 0);
  return { bytes: number('done'), total: number('total'), files: number('files') };
}

async function writeProgram(side: Side): Promise<void> {
  const check = await tryScript(side.connection, roomScript, [side.work]);
  if (check.code !== 0) {
    throw needsHuman({
      what: `${side.connection.host.name}:${side.path} cannot be verified`,
      cause: check.stderr.trim().slice(0, 300) || 'perl is missing there',
      untouched: 'both trees are as they were',
      next: `install perl on ${side.connection.host.name}, then resume`,
    });
  }
  await side.connection.writeFile(`${side.work}/scan.pl`, treeScanProgram, 0o700);
}

async function cleanUp(side: Side): Promise<void> {
  await runScript(side.connection, 'cleaning up', 'rm -rf -- "$1"', [side.work]);
}

async function differencesOf(from: Side, to: Side): Promise<{ differences: Difference[]; differing: number }> {
  const [left, right] = await Promise.all([from, to].map(async (side) => lines(side, 'buckets')));
  const there = new Set(right);
  const buckets = (left ?? []).filter((line) => !there.has(line)).map((line) => line.split(' ')[0] ?? '');
  const looked = buckets.slice(0, bucketsLookedInto);
  const [mine = [], theirs = []] = await Promise.all(
    [from, to].map(async (side) => lines(side, `bucket=${looked.join(',')}`)),
  );
  const found = compareRecords(mine, theirs);
  // What lies in the other buckets is at least one entry each.
  return { differences: found.slice(0, shownDifferences), differing: found.length + buckets.length - looked.length };
}

async function lines(side: Side, again: string): Promise<string[]> {
  const script = 'exec perl "$3/scan.pl" "$1" full sha256 1 1 0 "$3" "$2"';
  const text = await runScript(side.connection, 'looking for differences', script, [side.path, again, side.work], {
    timeout: scanTimeout,
    maxOutput: 64 * 1024 ** 2,
  });
  return text.split('\n').filter(Boolean);
}

const fieldNames = ['type', 'mode', 'owner', 'group', 'hard links', 'mtime', 'size or target', 'attributes', 'content'];

/** Entries that differ between two lists of records, by path, both ways. */
export function compareRecords(source: readonly string[], destination: readonly string[]): Difference[] {
  const there = new Map(destination.map((record) => split(record)));
  const found: Difference[] = [];
  for (const record of source) {
    const [path, fields] = split(record);
    const others = there.get(path);
    there.delete(path);
    if (others === undefined) {
      found.push({ path: shown(path), what: 'missing at the destination' });
      continue;
    }
    const what = fieldNames.flatMap((name, index) =>
      fields[index] === others[index] ? [] : [describe(name, fields[index] ?? '', others[index] ?? '')],
    );
    if (what.length > 0) found.push({ path: shown(path), what: what.join(', ') });
  }
  for (const path of there.keys()) found.push({ path: shown(path), what: 'extra at the destination' });
  return found.toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

function split(record: string): [string, string[]] {
  const [path = '', ...fields] = record.split('\t');
  return [path, fields];
}

function shown(path: string): string {
  return path === '' ? '.' : path;
}

function describe(name: string, source: string, destination: string): string {
  if (name === 'content' || source.length + destination.length > 160) return `${name} differs`;
  return `${name} ${source} became ${destination}`;
}
