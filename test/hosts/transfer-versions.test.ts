import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { partFolder } from '../../lab/build/parts.ts';
import { isAtLeast } from '../../src/activities/rsync-options.ts';
import type { HostConnection } from '../../src/hosts/contract.ts';
import type { ReplicateInput } from '../../src/plan/replicate.ts';
import { alone, freshName, script } from './machines.ts';
import type { Mover } from './transfer-setup.ts';
import { bothTrees, once, openMover, pass, prepare, sweep } from './transfer-setup.ts';
import { oddTree } from './transfer-trees.ts';

/** Folders `VERSION/rsync` besides those of the lab's part: for builds that no registry has any more. */
const further = process.env['FERRY_TEST_RSYNCS'];

const builds = new Map<string, string>();
for (const folder of [partFolder('rsyncs'), ...(further === undefined ? [] : [further])]) {
  for (const version of readdirSync(folder)) builds.set(version, join(folder, version));
}
const versions = [...builds.keys()].toSorted((a, b) => (isAtLeast(a, b) ? 1 : -1));
const [oldest = ''] = versions;
/** Each with the machine's own in both directions, and the oldest with the others. */
const pairs = [
  ...versions.flatMap((version) => [
    [version, 'own'],
    ['own', version],
  ]),
  ...versions.filter((version) => version !== oldest).map((version) => [oldest, version]),
] as [string, string][];

function wholeSeconds(tree: readonly string[]): string[] {
  return tree.map((line) => (line.startsWith('entry ') ? line.replace(/\|(-?\d+)\.\d+(?=\||$)/, '|$1') : line));
}

describe(`two versions of rsync, of ${versions.join(', ')} and the machines' own`, () => {
  let mover: Mover;
  let own = '';
  const requests: ReplicateInput[] = [];
  const releases: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    for (const name of ['new3', 'old3']) releases.push(await alone(name));
    mover = await openMover('old3', 'new3');
    own = await versionAt(mover.source);
  });
  afterEach(async () => {
    for (const request of requests.splice(0)) await sweep(mover, request);
  });
  afterAll(async () => {
    for (const machine of [mover.source, mover.destination]) await put(machine, 'own');
    await mover.close();
    for (const release of releases) await release();
  });

  async function versionAt(machine: HostConnection): Promise<string> {
    return (await script(machine, `rsync --version | sed -n 's/^rsync *version v*\\([0-9.]*\\).*/\\1/p'`)).trim();
  }

  /** Before the machine's own in everybody's PATH. */
  async function put(machine: HostConnection, version: string): Promise<void> {
    const libraries = (await script(machine, 'dirname /usr/lib/*/libz.so.1')).trim();
    await script(machine, 'rm -f /usr/local/bin/rsync');
    const folder = builds.get(version);
    if (folder === undefined) return;
    for (const name of readdirSync(folder)) {
      const to = name === 'rsync' ? '/usr/local/bin/rsync' : `${libraries}/${name}`;
      await machine.writeFile(to, readFileSync(join(folder, name)), 0o755);
    }
  }

  it('are really two', () => {
    expect(versions.filter((version) => version !== own)).not.toEqual([]);
  });

  it.each(pairs)('%s at the source and %s at the destination copy every oddity', async (from, to) => {
    const { activities, source, destination } = mover;
    await Promise.all([put(source, from), put(destination, to)]);
    const there = await Promise.all([versionAt(source), versionAt(destination)]);
    // A limit that a slow wire would have, so that compression is asked of both as well.
    const request = await mover.request(freshName('versions'), { limitKiBps: 9000 });
    requests.push(request);
    const { path } = request.transfer.source;
    await script(
      source,
      `${oddTree(path)}
head -c 12M /dev/zero | tr '\\0' x >huge; touch -d '2020-02-02 02:02:02.222222222' same-second; echo one >same-second; touch -d '2020-02-02 02:02:02.222222222' same-second`,
    );

    const { choice } = await prepare(mover, request);
    const live = await once(() => activities.runPass(pass(request, choice, 1, { limitKiBps: 9000 })));
    await script(
      source,
      String.raw`cd '${path}'; echo changed >>plain; rm -f many/7 links/two; mv random renamed; rmdir empty; echo file >empty
rm nothing; mkdir nothing; chmod 700 deep; setfattr -x user.colour attributes; setfacl -b acl; echo two >same-second
touch -d '2020-02-02 02:02:02.333333333' same-second; printf y | dd of=huge bs=1 seek=7777777 conv=notrunc status=none`,
    );
    const final = await once(() => activities.runPass(pass(request, choice, 2, { mode: 'final' })));
    const [left, right] = await bothTrees(mover, request);
    await once(() => activities.runPass(pass(request, choice, 3, { mode: 'final', content: 'all' })));
    const verification = await once(() => activities.verifyTransfer({ request, choice }));

    expect(there).toEqual([from === 'own' ? own : from, to === 'own' ? own : to]);
    const both = (version: string): boolean => there.every((each) => isAtLeast(each, version));
    expect(choice).toMatchObject({
      tool: 'rsync',
      nanoseconds: both('3.1.3'),
      info: both('3.1.0'),
      compress: both('3.2.0') ? 'zstd' : 'zlib',
    });
    // The tree has files with several names.
    expect(choice.inplace).toBe(false);
    expect(live.vanished).toBe(false);
    // What 3.0.x writes has whole seconds.
    expect(both('3.1.0') ? right : wholeSeconds(right)).toEqual(both('3.1.0') ? left : wholeSeconds(left));
    expect(verification.differences).toEqual([]);
    // The large file went as the difference of one block.
    expect(final.literalBytes).toBeLessThan(4_000_000);
  });

  it('of the oldest, several copy side by side', async () => {
    // Streams are shared among all that a machine sends; nobody else sends from this one.
    const back = await openMover('new3', 'old3');
    for (const machine of [back.source, back.destination]) await put(machine, oldest);
    const request = await back.request(freshName('versions-streams'));
    const { path } = request.transfer.source;
    await script(
      back.source,
      `mkdir -p '${path}/deep/er'; cd '${path}'; for i in $(seq 18); do head -c 4M /dev/urandom >deep/er/$i; echo $i >$i; done`,
    );

    const { choice, bytes } = await prepare(back, request);
    const input = pass(request, choice, 1, { mode: 'final', expectedBytes: bytes });
    const first = await once(() => back.activities.runPass(input));
    await script(
      back.source,
      `cd '${path}'; for i in $(seq 17); do printf y | dd of=deep/er/$i conv=notrunc status=none; done`,
    );
    const second = await once(() => back.activities.runPass({ ...input, pass: 2 }));
    const [left, right] = await bothTrees(back, request);
    await sweep(back, request);
    await back.close();

    expect(first.explanation).toContain('2 streams side by side');
    expect(second.explanation).toContain('2 streams side by side');
    expect(wholeSeconds(right)).toEqual(wholeSeconds(left));
  });
});
