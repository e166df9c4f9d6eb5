/**
 * measure.ts OUTPUT SETTINGS: runs inside the lab that bench/mover.ts brings up, and writes what it measured as JSON after every case.
 *
 * The source's trees are files on the lab's disk, in the page cache; the destination is in memory. So it is the movers and the wire that
 * are compared, not a disk that all of them wait for. Nothing here passes or fails by a time.
 */
import { writeFile } from 'node:fs/promises';
import pLimit from 'p-limit';
import { limitRate } from '../lab/machines/machines.ts';
import type { CopyChoice, Prepared } from '../src/activities/transfer-contract.ts';
import { createTransferActivities } from '../src/activities/transfer.ts';
import { createJobs } from '../src/hosts/jobs.ts';
import type { ReplicateInput } from '../src/plan/replicate.ts';
import { script } from '../test/hosts/machines.ts';
import type { Mover } from '../test/hosts/transfer-setup.ts';
import { once, openMover, pass } from '../test/hosts/transfer-setup.ts';
import { crowd } from './crowd.ts';
import type { CaseResult, CrowdResult, Row } from './table.ts';
import { databaseDirectories, dirtyPages, makeTree } from './trees.ts';

export interface Settings {
  cases: string[];
  rounds: number;
  /** Bytes of the mixed tree, of the single large file, and of the tree for the slow link. */
  databaseBytes: number;
  largeBytes: number;
  slowBytes: number;
  files: number;
  /** How many small transfers at once. */
  crowds: number[];
}

export interface Measured {
  cases: CaseResult[];
  crowds: CrowdResult[];
  versions: string[];
}

const base = '/srv/bench';
const from = 'old1';
const to = 'new1';
/** As many as a plan lets run between two hosts unless it says otherwise. */
const transfersAtOnce = 4;
const patience = { timeout: 3_600_000 };

/** Another way to do the same: a line that somebody types on the source. */
interface Peer {
  name: string;
  line(source: string, destination: string): string;
  /** Its lines for several directories run side by side, as ours do; absent: one after the other, as people type them. */
  atOnce?: true;
}

const runbook: Peer = {
  name: '`rsync -avz`, as the runbook types it',
  line: (source, destination) => `rsync -avz ${source}/ root@${to}:${destination}/`,
};
const oldRunbook: Peer = {
  name: 'the same where only zlib is there (EL7, EL8): `-av --zc=zlibx`',
  line: (source, destination) => `rsync -av -z --compress-choice=zlibx ${source}/ root@${to}:${destination}/`,
};
const plain: Peer = {
  name: '`rsync -a`',
  line: (source, destination) => `rsync -a ${source}/ root@${to}:${destination}/`,
};
const tarOverSsh: Peer = {
  name: '`tar \\| ssh tar`',
  line: (source, destination) => `tar -C ${source} -cf - . | ssh root@${to} tar -C ${destination} -xpf -`,
};
/** Lines that lose as little as ours: hard links, ACLs, attributes, holes, and of tar times to the nanosecond. */
const exactRsync: Peer = {
  name: 'carries as much: `rsync -aHAXS --numeric-ids --delete`',
  line: (source, destination) => `rsync -aHAXS --numeric-ids --delete ${source}/ root@${to}:${destination}/`,
};
const exactTar: Peer = {
  name: 'carries as much: `tar --format=posix --acls --xattrs --sparse \\| ssh tar`',
  line: (source, destination) =>
    `tar -C ${source} -c --format=posix --numeric-owner --acls --xattrs '--xattrs-include=*' --sparse -f - . | ssh root@${to} "tar -C ${destination} -x --numeric-owner --acls --xattrs '--xattrs-include=*' -pf -"`,
};
/** No copy, but the least that one over ssh without compression can take here: every byte by the fastest cipher, written nowhere. */
const wireAlone: Peer = {
  name: 'no copy, the wire alone: `cat \\| ssh cat >/dev/null`, aes128-gcm, side by side',
  line: (source) => `find ${source} -type f -exec cat {} + | ssh -c aes128-gcm@openssh.com root@${to} 'cat >/dev/null'`,
  atOnce: true,
};
const tuned: Peer = {
  name: 'tuned by hand: `rsync -aHAXS --inplace --block-size=16384`, aes128-gcm',
  line: (source, destination) =>
    `rsync -aHAXS --inplace --block-size=16384 -e 'ssh -c aes128-gcm@openssh.com' ${source}/ root@${to}:${destination}/`,
};

/** What one try took. `pass`: ours without the checks before it. */
interface Taken {
  seconds: number;
  pass?: number;
  /** What both machines had spent at its end, where something else came after it. */
  cpu?: number;
  explanation?: string;
}

interface Contestant {
  name: string;
  isOurs: boolean;
  run(round: number): Promise<Taken>;
}

const [outputFile = '', settingsText = '{}'] = process.argv.slice(2);
const settings = JSON.parse(settingsText) as Settings;
const mover: Mover = await openMover(from, to);
const { source, destination, activities } = mover;

function say(line: string): void {
  console.error(`bench  ${line}`);
}

/** The operator's own way from one machine to the other, for the lines that people type. */
async function openRoad(): Promise<void> {
  const key = await script(
    source,
    `umask 077; mkdir -p ~/.ssh; [ -s ~/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519; cat ~/.ssh/id_ed25519.pub`,
  );
  const { address, hostKeys } = destination.host;
  const known = hostKeys.map((hostKey) => `${to},${address} ${hostKey}\n`).join('');
  await source.writeFile('/root/.ssh/known_hosts', known, 0o600);
  await script(destination, `umask 077; cat >>~/.ssh/authorized_keys <<'end'\n${key.trim()}\nend\n`);
  await script(source, `ssh -n -o BatchMode=yes root@${to} true`);
  await script(destination, `mkdir -p ${base}; mountpoint -q ${base} || mount -t tmpfs -o size=80% tmpfs ${base}`);
}

async function versions(): Promise<string[]> {
  const lines = await script(
    source,
    `rsync --version | sed -n '1s/  */ /gp' | cut -d' ' -f1-3; ssh -V 2>&1 | cut -d, -f1; tar --version | head -n 1`,
  );
  return lines.split('\n').filter(Boolean);
}

/** Seconds that a line takes on the source, as the source's clock has it. */
async function timed(line: string): Promise<number> {
  const text = `t=$(date +%s%N); { ${line}; } >/tmp/bench.out 2>/tmp/bench.err </dev/null || { tail -n 5 /tmp/bench.err >&2; exit 1; }
echo $(($(date +%s%N) - t))`;
  return Number(await script(source, text, patience)) / 1e9;
}

/** What is still to be written to the lab's disk would be flushed by whoever comes next. */
async function settle(): Promise<void> {
  await script(source, 'sync', patience);
}

async function sent(): Promise<number> {
  return Number(await script(source, `sed -n 's/^ *eth0: *//p' /proc/net/dev | awk '{ print $9 }'`));
}

/** Processor seconds of both machines since they came up. */
async function spent(): Promise<number> {
  const line = `awk '$1 == "usage_usec" { print $2 }' /sys/fs/cgroup/cpu.stat`;
  const both = await Promise.all([source, destination].map(async (machine) => Number(await script(machine, line))));
  return both.reduce((sum, microseconds) => sum + microseconds, 0) / 1e6;
}

async function sizeOf(tree: string): Promise<{ bytes: number; files: number }> {
  const line = await script(
    source,
    `find '${tree}' -type f -printf '%s\\n' | awk '{ s += $1 } END { printf "%.0f %d", s, NR }'`,
  );
  const [bytes = 0, files = 0] = line.split(' ').map(Number);
  return { bytes, files };
}

async function emptyDestination(path: string, directories: readonly string[] = []): Promise<void> {
  const made = [path, ...directories.map((name) => `${path}/${name}`)].map((name) => `'${name}'`).join(' ');
  await script(destination, `rm -rf '${path}'; mkdir -p ${made}`, patience);
}

async function removeDestination(path: string): Promise<void> {
  await script(destination, `rm -rf '${path}'`, patience);
}

let transfers = 0;

/** Request for one directory; every one is a transfer of its own. */
async function requestFor(tree: string, there: string, mode: 'live' | 'final' = 'live'): Promise<ReplicateInput> {
  transfers += 1;
  const id = `bench-${transfers}`;
  return mover.request(id, {
    mode,
    transfer: {
      id,
      subject: { type: 'host-service', service: id },
      source: { host: from, path: tree },
      destination: { host: to, path: there },
    },
  });
}

async function prepareOne(request: ReplicateInput, worker = activities): Promise<Prepared> {
  return once(() => worker.prepareTransfer({ request, mode: request.mode }));
}

async function finishOne(request: ReplicateInput): Promise<void> {
  await once(() => activities.finishTransfer({ request }));
}

/** A first copy by the real activities: all checks, one pass, side by side as a migration does it. Proved equal once, outside the time. */
async function firstCopy(pairs: readonly (readonly [string, string])[], isProved: boolean): Promise<Taken> {
  const requests = await Promise.all(pairs.map(async ([tree, there]) => requestFor(tree, there)));
  // A worker that knows nothing yet: it tries the wire every time.
  const worker = createTransferActivities({ hosts: mover.hosts, jobs: createJobs() });
  const slots = pLimit(transfersAtOnce);
  const begin = performance.now();
  const prepared = await Promise.all(requests.map(async (request) => slots(async () => prepareOne(request, worker))));
  const middle = performance.now();
  const reports = await Promise.all(
    requests.map(async (request, index) =>
      slots(async () => {
        const { choice, bytes } = prepared[index] ?? (await prepareOne(request, worker));
        return once(() => worker.runPass(pass(request, choice, 1, { mode: 'live', expectedBytes: bytes })));
      }),
    ),
  );
  const end = performance.now();
  const cpu = await spent();
  for (const [index, request] of requests.entries()) {
    const choice = prepared[index]?.choice;
    if (isProved && choice !== undefined) await prove(request, choice);
    await finishOne(request);
  }
  const explanation = reports.map((report) => report.explanation).find((text) => text !== '');
  return {
    seconds: (end - begin) / 1000,
    pass: (end - middle) / 1000,
    cpu,
    ...(explanation !== undefined && { explanation }),
  };
}

/** A fast copy of something else would be no result. */
async function prove(request: ReplicateInput, choice: CopyChoice): Promise<void> {
  const { equal, proof, differences } = await once(() => activities.verifyTransfer({ request, choice }));
  if (!equal) throw new Error(`the copy is not equal: ${proof}: ${JSON.stringify(differences)}`);
}

/** Rounds in which every contestant comes once, each time another one first. */
async function compare(
  about: Omit<CaseResult, 'rows' | 'explanations'>,
  contestants: readonly Contestant[],
): Promise<CaseResult> {
  const taken = new Map(
    contestants.map(({ name }) => [name, { tries: [] as Taken[], wire: [] as number[], cpu: [] as number[] }]),
  );
  for (let round = 0; round < settings.rounds; round += 1) {
    for (let turn = 0; turn < contestants.length; turn += 1) {
      const contestant = contestants[(round + turn) % contestants.length];
      const kept = contestant === undefined ? undefined : taken.get(contestant.name);
      if (contestant === undefined || kept === undefined) continue;
      await settle();
      const before = await sent();
      const spentBefore = await spent();
      const one = await contestant.run(round);
      kept.cpu.push((one.cpu ?? (await spent())) - spentBefore);
      kept.wire.push((await sent()) - before);
      kept.tries.push(one);
      say(`(${about.id}) round ${round + 1}: ${contestant.name}: ${one.seconds.toFixed(2)} s`);
    }
  }
  const rows = contestants.flatMap(({ name, isOurs }): Row[] => {
    const { tries, wire, cpu } = taken.get(name) ?? { tries: [], wire: [], cpu: [] };
    const alone = tries.flatMap((one) => (one.pass === undefined ? [] : [one.pass]));
    return [
      { name, isOurs, seconds: tries.map((one) => one.seconds), wire, cpu },
      ...(alone.length === 0 ? [] : [{ name: `${name}, without the checks before it`, isOurs: false, seconds: alone }]),
    ];
  });
  const explanations = [...taken.values()].flatMap(({ tries }) => tries.flatMap((one) => one.explanation ?? []));
  return { ...about, rows, explanations };
}

function sideBySide(lines: readonly string[]): string {
  const begun = lines.map((line) => `{ ${line}; } & all="$all $!"`).join('\n');
  return `all=\n${begun}\nfor one in $all; do wait $one || exit 1; done`;
}

/** Everybody copies a tree to an empty place; ours as one transfer, or as one for each of the directories. */
function copiers(tree: string, peers: readonly Peer[], directories: readonly string[] = []): Contestant[] {
  const pairs = (there: string): [string, string][] =>
    directories.length === 0
      ? [[tree, there]]
      : directories.map((name): [string, string] => [`${tree}/${name}`, `${there}/${name}`]);
  const there = `${base}/copy`;
  return [
    ...peers.map((peer): Contestant => ({
      name: peer.name,
      isOurs: false,
      run: async () => {
        await emptyDestination(there, directories);
        const lines = pairs(there).map(([left, right]) => peer.line(left, right));
        const seconds = await timed(peer.atOnce === true ? sideBySide(lines) : lines.join(' && '));
        const cpu = await spent();
        await removeDestination(there);
        return { seconds, cpu };
      },
    })),
    {
      name: 'ours',
      isOurs: true,
      run: async (round) => {
        await emptyDestination(there, directories);
        const taken = await firstCopy(pairs(there), round === 0);
        await removeDestination(there);
        return taken;
      },
    },
  ];
}

async function mixed(): Promise<CaseResult> {
  const tree = `${base}/databases`;
  const { bytes, files } = await sizeOf(tree);
  const what = `${describe(bytes, files)} in ${databaseDirectories.length} directories, to an empty place: table spaces, log segments with sparse indexes, segments of an index, a dump. Half of the bytes are random. The lines are typed one after the other; ours are ${databaseDirectories.length} transfers, up to ${transfersAtOnce} at once as in a migration.`;
  const contestants = copiers(tree, [runbook, oldRunbook, plain, tarOverSsh, wireAlone], databaseDirectories);
  return compare({ id: 'a', title: 'Mixed data of databases', what, bytes }, contestants);
}

async function manySmall(): Promise<CaseResult> {
  const tree = `${base}/small`;
  const { bytes, files } = await sizeOf(tree);
  const what = `${describe(bytes, files)}, to an empty place.`;
  return compare(
    { id: 'b', title: 'Many small files', what, bytes },
    copiers(tree, [runbook, plain, exactRsync, tarOverSsh, exactTar]),
  );
}

async function dirtyFile(): Promise<CaseResult> {
  const tree = `${base}/large`;
  const { bytes, files } = await sizeOf(tree);
  const ours = await requestFor(tree, `${base}/large-ours`, 'final');
  await emptyDestination(`${base}/large-ours`);
  const { choice } = await prepareOne(ours);
  let passes = 1;
  await once(() => activities.runPass(pass(ours, choice, passes, { mode: 'final' })));
  const peers = [runbook, plain, tuned, tarOverSsh];
  for (const [index, peer] of peers.entries()) {
    await emptyDestination(`${base}/large-${index}`);
    await timed(peer.line(tree, `${base}/large-${index}`));
  }
  const dirtied = new Set<number>();
  // Once per round, by whoever comes first: all meet the same pages.
  const dirty = async (round: number): Promise<void> => {
    if (dirtied.has(round)) return;
    dirtied.add(round);
    await script(source, dirtyPages(`${tree}/data`, round + 7), patience);
    await settle();
  };
  const contestants: Contestant[] = [
    ...peers.map((peer, index): Contestant => ({
      name: peer.name,
      isOurs: false,
      run: async (round) => {
        await dirty(round);
        return { seconds: await timed(peer.line(tree, `${base}/large-${index}`)) };
      },
    })),
    {
      name: 'ours, the final pass',
      isOurs: true,
      run: async (round) => {
        await dirty(round);
        passes += 1;
        const begin = performance.now();
        const report = await once(() => activities.runPass(pass(ours, choice, passes, { mode: 'final' })));
        return { seconds: (performance.now() - begin) / 1000, explanation: report.explanation };
      },
    },
  ];
  const what = `${describe(bytes, files)}, at the destination as it was before one page of 16 KiB in a hundred was written again, scattered.`;
  const result = await compare({ id: 'c', title: 'One large file, 1 % of its pages dirty', what, bytes }, contestants);
  await prove(ours, choice);
  await finishOne(ours);
  for (const name of ['ours', ...peers.keys()]) await removeDestination(`${base}/large-${name}`);
  return result;
}

async function nothingToDo(): Promise<CaseResult> {
  const tree = `${base}/small`;
  const there = `${base}/noop`;
  const { bytes, files } = await sizeOf(tree);
  const ours = await requestFor(tree, there, 'final');
  await emptyDestination(there);
  const { choice } = await prepareOne(ours);
  let passes = 0;
  const ourPass = async (): Promise<Taken> => {
    passes += 1;
    const begin = performance.now();
    const report = await once(() => activities.runPass(pass(ours, choice, passes, { mode: 'final' })));
    return { seconds: (performance.now() - begin) / 1000, explanation: report.explanation };
  };
  await ourPass();
  const contestants: Contestant[] = [
    ...[runbook, plain, exactRsync].map((peer): Contestant => ({
      name: peer.name,
      isOurs: false,
      run: async () => ({ seconds: await timed(peer.line(tree, there)) }),
    })),
    { name: 'ours, one more pass', isOurs: true, run: ourPass },
  ];
  const what = `${describe(bytes, files)}, both sides equal already; tar has no such pass. Ours looks for files that changed since the last pass, and compares names, times to the nanosecond, owners, attributes and ACLs.`;
  const result = await compare({ id: 'd', title: 'A pass with nothing to do', what, bytes }, contestants);
  await finishOne(ours);
  await removeDestination(there);
  return result;
}

async function limitedLink(megabits: number, tree: string): Promise<CaseResult> {
  const { bytes, files } = await sizeOf(tree);
  const what = `${describe(bytes, files)}, the same kind of data as in (a), to an empty place as one transfer; the source's interface is limited by a token bucket.`;
  const title = `A link of ${megabits === 1000 ? '1 Gbit/s' : `${megabits} Mbit/s`}`;
  await limitRate(from, `${megabits}`);
  try {
    const contestants = copiers(tree, [runbook, plain, tarOverSsh]);
    return await compare({ id: 'e', title, what, bytes, megabits }, contestants);
  } finally {
    await limitRate(from, undefined);
  }
}

async function verification(): Promise<CaseResult> {
  const tree = `${base}/databases`;
  const there = `${base}/verified`;
  const { bytes, files } = await sizeOf(tree);
  const ours = await requestFor(tree, there, 'final');
  await emptyDestination(there);
  const { choice } = await prepareOne(ours);
  await once(() => activities.runPass(pass(ours, choice, 1, { mode: 'final' })));
  const contestants: Contestant[] = [
    {
      name: '`rsync -avc -n --delete`',
      isOurs: false,
      run: async () => ({ seconds: await timed(`rsync -avc -n --delete ${tree}/ root@${to}:${there}/`) }),
    },
    {
      name: 'the same where rsync has no xxhash (EL7, EL8): `--checksum-choice=md5`',
      isOurs: false,
      run: async () => ({
        seconds: await timed(`rsync -avc --checksum-choice=md5 -n --delete ${tree}/ root@${to}:${there}/`),
      }),
    },
    {
      name: 'ours, `verify: full`',
      isOurs: true,
      run: async () => {
        const begin = performance.now();
        const { proof } = await once(() => activities.verifyTransfer({ request: ours, choice }));
        return {
          seconds: (performance.now() - begin) / 1000,
          explanation: proof.replace(/ in [\d.]+ s, .*/, ` by ${choice.digest}`),
        };
      },
    },
  ];
  const what = `${describe(bytes, files)}, both sides equal: every byte of both is read and digested.`;
  const result = await compare({ id: 'f', title: 'Full verification', what, bytes }, contestants);
  await finishOne(ours);
  await removeDestination(there);
  return result;
}

function describe(bytes: number, files: number): string {
  const amount = bytes >= 1024 ** 3 ? `${(bytes / 1024 ** 3).toFixed(1)} GiB` : `${(bytes / 1024 ** 2).toFixed(0)} MiB`;
  return files === 1 ? `${amount} in one file` : `${amount} in ${files.toLocaleString('en')} files`;
}

async function main(): Promise<void> {
  const wanted = (...ids: string[]): boolean => ids.some((id) => settings.cases.includes(id));
  const measured: Measured = { cases: [], crowds: [], versions: await versions() };
  await openRoad();
  say('making the trees');
  const make = async (
    name: string,
    kind: Parameters<typeof makeTree>[1],
    size: Parameters<typeof makeTree>[2],
  ): Promise<void> => {
    await script(source, makeTree(`${base}/${name}`, kind, size), patience);
  };
  await script(source, `mkdir -p ${base}`);
  if (wanted('a', 'e', 'f')) await make('databases', 'databases', { bytes: settings.databaseBytes });
  if (wanted('e')) await make('slow', 'databases', { bytes: settings.slowBytes });
  if (wanted('b', 'd')) await make('small', 'small', { files: settings.files });
  if (wanted('c')) await make('large', 'single', { bytes: settings.largeBytes });
  const steps: [string, () => Promise<CaseResult>][] = [
    ['a', mixed],
    ['b', manySmall],
    ['c', dirtyFile],
    ['d', nothingToDo],
    ['e', async () => limitedLink(1000, `${base}/databases`)],
    ['e', async () => limitedLink(100, `${base}/slow`)],
    ['f', verification],
  ];
  for (const [id, step] of steps) {
    if (!wanted(id)) continue;
    measured.cases.push(await step());
    await writeFile(outputFile, JSON.stringify(measured));
  }
  if (!wanted('g')) return;
  for (const transfersAtOnce of settings.crowds) {
    measured.crowds.push(await crowd(mover, transfersAtOnce, base));
    await writeFile(outputFile, JSON.stringify(measured));
  }
}

try {
  await main();
} finally {
  await mover.close();
}
