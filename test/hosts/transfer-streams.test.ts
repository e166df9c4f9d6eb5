import { setTimeout as sleep } from 'node:timers/promises';
import { ActivityCancellationDetails, ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { limitRate } from '../../lab/machines/machines.ts';
import type { CopyProgress, PassInput, PassReport } from '../../src/activities/transfer-contract.ts';
import type { ReplicateInput } from '../../src/plan/replicate.ts';
import { alone, freshName, script } from './machines.ts';
import { seeded } from './random.ts';
import type { Mover } from './transfer-setup.ts';
import { attempt, bothTrees, keyOf, movingProcesses, once, openMover, pass, prepare, sweep } from './transfer-setup.ts';
import { oddTree } from './transfer-trees.ts';

const random = seeded();
/** No other file sends from this machine: streams are shared among all that one sends. */
const from = 'new3';
const to = 'old3';

describe(`a transfer in several streams, seed ${random.seed}`, { retry: 0 }, () => {
  let mover: Mover;
  const requests: ReplicateInput[] = [];
  const releases: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    // Others put another rsync there.
    for (const name of ['new3', 'old3']) releases.push(await alone(name));
    mover = await openMover(from, to);
  });
  afterEach(async () => {
    await limitRate(from, undefined).catch(() => undefined);
    for (const request of requests.splice(0)) await sweep(mover, request);
  });
  afterAll(async () => {
    await mover.close();
    for (const release of releases) await release();
  });

  /** Every oddity but files with several names, and enough to be worth more than one stream. */
  async function large(prefix: string): Promise<ReplicateInput> {
    const request = await mover.request(freshName(prefix));
    requests.push(request);
    const tree = request.transfer.source.path;
    await script(mover.source, oddTree(tree));
    await script(
      mover.source,
      String.raw`cd '${tree}'; find . -type f -links +1 -delete
mkdir -p table $'odd \n"name\xff'; for i in $(seq 18); do head -c $((i * 400000 + 1)) /dev/urandom >table/$i; done
head -c 9000000 /dev/urandom >$'odd \n"name\xff/one \n file'
for d in $(seq 30); do mkdir -p small/$d; for i in $(seq 40); do echo $d $i >small/$d/$i; done; done`,
    );
    return request;
  }

  async function first(request: ReplicateInput, options: Partial<PassInput> = {}): Promise<[PassReport, PassInput]> {
    const { choice, bytes } = await prepare(mover, request);
    const input = pass(request, choice, 1, { mode: 'final', expectedBytes: bytes, ...options });
    return [await once(() => mover.activities.runPass(input)), input];
  }

  async function proveEqual(request: ReplicateInput, input: PassInput): Promise<void> {
    const [left, right] = await bothTrees(mover, request);
    expect(right).toEqual(left);
    expect(await once(() => mover.activities.verifyTransfer({ request, choice: input.choice }))).toMatchObject({
      equal: true,
    });
  }

  it('deals a first copy out, sends nothing twice, and does the same with what changed since', async () => {
    const { source, activities } = mover;
    const request = await large('streams');
    const tree = request.transfer.source.path;
    const input = await streaming(request, 'tar');
    const { choice, expectedBytes: bytes } = input;
    const observer = attempt();
    const report = await observer.run(() => activities.runPass(input));
    await proveEqual(request, input);
    // The same size and the same time: only content can tell.
    await script(
      source,
      `cd '${tree}/table'; for i in $(seq 2 18); do touch -r $i ../time; head -c $((i * 400000 + 1)) /dev/urandom >$i; touch -r ../time $i; done; rm ../time
rm -r ../small/7; mkdir ../small/new; echo new >../small/new/file`,
    );
    const delta = await once(() => activities.runPass({ ...input, pass: 2, expectedBytes: report.totalBytes }));
    await proveEqual(request, input);

    expect(choice.streams).toBeGreaterThan(1);
    expect(report.explanation).toContain('first copy by tar, looked over by rsync; 2 streams side by side');
    expect(report.literalBytes).toBeLessThan(bytes + 1_000_000);
    expect(report.filesTransferred).toBeGreaterThan(1200);
    expect(delta.explanation).toContain('2 streams side by side');
    expect(delta.explanation).not.toContain('tar');
    expect(delta.doubtful).toBeGreaterThanOrEqual(17);
    expect(delta.deleted).toBeGreaterThan(40);
    const beats = observer.heartbeats as unknown as CopyProgress[];
    expect(beats.map((beat) => beat.bytes)).toEqual(beats.map((beat) => beat.bytes).toSorted((a, b) => a - b));
    expect(beats.at(-1)?.bytes).toBeLessThanOrEqual(beats.at(-1)?.total ?? 0);
  });

  it('leaves what tar cannot carry, and what changed meanwhile, to the next pass of a live copy', async () => {
    const { source, activities } = mover;
    const request = await large('head-start');
    const tree = request.transfer.source.path;
    const input: PassInput = { ...(await streaming(request, 'tar')), mode: 'live' };
    await limitRate(from, '150');
    const copy = once(() => activities.runPass(input));
    await untilStreaming(request, 'tar');
    await script(
      source,
      `cd '${tree}'; rm -r small/3; ln -s /etc late-link; for i in $(seq 18); do head -c $((i * 400000 + 1)) /dev/urandom >table/$i; done`,
    );
    const report = await copy;
    await limitRate(from, undefined);
    const rsyncs = await script(source, `find '${tree}' -type l -o -type s | wc -l`);
    const there = await script(
      mover.destination,
      `find '${request.transfer.destination.path}' -type l -o -type s | wc -l`,
    );
    const delta = await once(() => activities.runPass({ ...input, pass: 2 }));

    expect(report.explanation).toContain('first copy by tar');
    expect(report.files).toBeGreaterThan(1200);
    expect(report.deleted).toBe(0);
    expect(Number(rsyncs)).toBeGreaterThan(3);
    expect(Number(there)).toBe(0);
    expect(delta.deleted).toBeGreaterThanOrEqual(40);
    await proveEqual(request, input);
  });

  it('takes one stream where a limit is to be kept, and where there is little to do', async () => {
    const request = await large('alone');
    const [limited] = await first(request, { limitKiBps: 100_000 });
    const small = await mover.request(freshName('little'));
    requests.push(small);
    const tree = small.transfer.source.path;
    await script(
      mover.source,
      `mkdir -p '${tree}'; for i in $(seq 50); do head -c 100000 /dev/urandom >'${tree}'/$i; done`,
    );
    const [little] = await first(small);

    expect(limited.explanation).not.toContain('streams');
    expect(little.explanation).not.toContain('streams');
  });

  it('shares its streams with the other transfers that the machine sends', async () => {
    const request = await large('shared');
    await script(mover.source, `systemd-run --quiet --unit=ferry-another-${request.transfer.id} sleep 60`);
    const [report, input] = await first(request);
    await script(mover.source, `systemctl stop ferry-another-${request.transfer.id}`);

    expect(report.explanation).not.toContain('streams');
    await proveEqual(request, input);
  });

  it('lets streams in only with the token of their pass, and nobody beside a stream', async () => {
    const { source, destination } = mover;
    const request = await mover.request(freshName('token'));
    requests.push(request);
    await script(source, `mkdir -p '${request.transfer.source.path}'; echo a >'${request.transfer.source.path}/a'`);
    await first(request);
    const directory = `/var/lib/ferry/transfers/${await keyOf(source, request.transfer.id)}`;
    const claim = (await script(destination, `cat '${directory}/claim'`)).trim();
    const ofTar = await script(destination, `cat '${claim}/streams'`);
    const { choice: second } = await prepare(mover, request);
    await once(() => mover.activities.runPass(pass(request, second, 2)));
    const token = await script(destination, `cat '${claim}/streams'`);
    const push = async (...options: string[]): Promise<string> => {
      const rsync = ['rsync', '-a', '-e', `ssh -F ${directory}/ssh_config`, ...options, '/etc/hostname', 'ferry:data/'];
      const { code, stderr } = await source.run(rsync, { timeout: 30_000 });
      return `${code ?? '?'} ${stderr.trim().split('\n')[0] ?? ''}`;
    };
    const stream = (text: string): Promise<string> => push(`--rsync-path=ferry-stream ${text} rsync`);
    /** While somebody holds the lock of the destination, shared or alone. */
    const beside = async <T>(how: '-s' | '-x', act: () => Promise<T>): Promise<T> => {
      const unit = `${request.transfer.id}-holder`;
      await script(
        destination,
        `systemd-run --quiet --collect --unit=${unit} flock ${how} '${claim}/lock' sleep 30; until ! flock -n '${claim}/lock' true; do sleep 0.1; done`,
      );
      try {
        return await act();
      } finally {
        await script(destination, `systemctl stop ${unit}`);
      }
    };

    expect(ofTar).toMatch(/^[0-9a-f]{24} tar$/);
    expect(token).toMatch(/^[0-9a-f]{24}$/);
    expect(await stream(token)).toBe('0 ');
    expect(await push()).toBe('0 ');
    for (const wrong of ['0', token.slice(1), `${token}0`]) expect(await stream(wrong)).toContain('ferry: busy');
    expect(await stream(`$(cat)`)).toContain('ferry: refused');
    expect(await push('--rsync-path=ferry-stream  rsync')).toContain('ferry: refused');
    await beside('-s', async () => {
      expect(await stream(token)).toBe('0 ');
      expect(await push()).toContain('ferry: busy');
    });
    await beside('-x', async () => {
      expect(await stream(token)).toContain('ferry: busy');
      expect(await push()).toContain('ferry: busy');
    });
    const { choice } = await prepare(mover, request);
    await once(() => mover.activities.runPass(pass(request, choice, 3)));
    // The token of an earlier pass opens nothing.
    expect(await stream(token)).toContain('ferry: busy');
  });

  it('lets no stream of tar write out of the directory, and none of rsync beside it', async () => {
    const { source, destination } = mover;
    const request = await mover.request(freshName('confined'));
    requests.push(request);
    const { path } = request.transfer.source;
    const outside = `${request.transfer.destination.path}.outside`;
    const rogue = `/tmp/${request.transfer.id}`;
    await script(source, `mkdir -p '${path}'; echo a >'${path}/a'`);
    await script(destination, `mkdir '${outside}'`);
    await script(
      source,
      `mkdir -p '${rogue}/1' '${rogue}/2/out' '${rogue}/2/up' '${rogue}/3'; cd '${rogue}'; ln -s '${outside}' 1/out; ln -s '../${outside.split('/').at(-1) ?? ''}' 1/up; echo evil | tee 2/out/evil 2/up/evil >3/late`,
    );
    await first(request);
    const directory = `/var/lib/ferry/transfers/${await keyOf(source, request.transfer.id)}`;
    const claim = (await script(destination, `cat '${directory}/claim'`)).trim();
    const [token = ''] = (await script(destination, `cat '${claim}/streams'`)).split(' ');
    const send = async (what: string, word: string, asked: string): Promise<string> => {
      const line = `{ sleep "$1"; tar -C '${rogue}' -c ${what} --transform='s,^[123]/,,SH'; } | ssh -F ${directory}/ssh_config ferry "$2"`;
      const { code, stderr } = await source.run(['sh', '-c', line, 'sh', word, asked], { timeout: 30_000 });
      return `${code ?? '?'} ${stderr}`;
    };
    const fill = `ferry-stream ${token} ferry-fill`;
    // The one that comes late was let in while there was no symlink yet.
    const late = send('2/out/evil 2/up/evil', '3', fill);
    const links = await send('1/out 1/up', '1', fill);
    const after = [await late, await send('3/late', '0', fill)];
    const rsync = await source.run(
      [
        'rsync',
        '-a',
        '-e',
        `ssh -F ${directory}/ssh_config`,
        `--rsync-path=ferry-stream ${token} rsync`,
        `${rogue}/3/`,
        'ferry:data/',
      ],
      { timeout: 30_000 },
    );
    const written = await script(
      destination,
      `ls '${outside}'; readlink '${request.transfer.destination.path}/out' '${request.transfer.destination.path}/up'`,
    );
    const wrong = [await send('3/late', '0', 'ferry-fill'), await send('3/late', '0', `ferry-stream 0 ferry-fill`)];
    await script(source, `rm -r '${rogue}'`);
    await script(destination, `rm -r '${outside}'`);

    expect(links).toMatch(/^0 /);
    expect(written.trim().split('\n')).toEqual([
      `/ferry/leads/nowhere/${outside}`,
      `/ferry/leads/nowhere/../${outside.split('/').at(-1) ?? ''}`,
    ]);
    expect(after[0]).toContain('Cannot');
    expect(after[1]).toContain('ferry: refused: a first copy finds no symlinks');
    expect(rsync.stderr).toContain('ferry: busy');
    for (const answer of wrong) expect(answer).toContain('ferry: busy');
  });

  const killings: Record<string, string> = {
    'one stream is killed at the source': `pkill -KILL -o -f 'list[.]fill[.]1'`,
    'all streams are killed at the source': `pkill -KILL -f 'list[.]fill[.]'`,
    'the ways of all streams are cut at the source': `pkill -KILL -x ssh`,
  };

  const everyKilling = ['rsync', 'tar'].flatMap((tool) =>
    Object.entries(killings).map(([name, kill]): [string, string, string] => [tool, name, kill]),
  );

  it.each(everyKilling)('%s, %s: what is left is copied all the same, and is exact', async (tool, _, kill) => {
    const request = await large('killed');
    const input = await streaming(request, tool);
    // tar does not compress.
    await limitRate(from, tool === 'tar' ? '100' : '200');
    const copy = persistently(input);
    await untilStreaming(request, tool);
    await sleep(random.below(1500));
    await script(mover.source, kill);
    await limitRate(from, undefined);
    await copy;

    await proveEqual(request, input);
  });

  it.each(['rsync', 'tar'])(
    'of %s all end within ten seconds when the pass is cancelled, and it goes on in several',
    async (tool) => {
      const { source, destination, activities } = mover;
      const request = await large('cancelled');
      const input = await streaming(request, tool);
      await limitRate(from, '150');
      const running = attempt();
      const copy = running.run(() => activities.runPass(input)).catch((error: unknown) => error);
      await untilStreaming(request, tool);
      const begin = Date.now();
      running.environment.cancel('CANCELLED', new ActivityCancellationDetails({ cancelRequested: true }));
      const error = await copy;
      const seconds = (Date.now() - begin) / 1000;
      const left = [await movingProcesses(source, request), await movingProcesses(destination, request)];
      await limitRate(from, undefined);
      const report = await once(() => activities.runPass({ ...input, pass: 2 }));

      expect(error).toBeInstanceOf(CancelledFailure);
      expect(seconds).toBeLessThan(10);
      expect(left).toEqual(['', '']);
      expect(report.literalBytes).toBeLessThan(input.expectedBytes);
      await proveEqual(request, input);
    },
  );

  /** First pass by streams of a tool: what is chosen depends on how fast the wire was, maybe for another test. */
  async function streaming(request: ReplicateInput, tool: string): Promise<PassInput> {
    const { choice, bytes } = await prepare(mover, request);
    const { tarFirst: _, ...ofRsync } = choice;
    const chosen = tool === 'tar' ? { ...ofRsync, tarFirst: true } : ofRsync;
    return pass(request, chosen, 1, { mode: 'final', expectedBytes: bytes });
  }

  /** Tries as Temporal does: on a busy machine the other end of what was killed may be there for some seconds more. */
  async function persistently(input: PassInput): Promise<void> {
    const id = freshName('pass');
    for (let tries = 1; ; tries += 1) {
      try {
        await attempt(id).run(() => mover.activities.runPass(input));
        return;
      } catch (error) {
        if (!(error instanceof ApplicationFailure) || error.type !== 'Transient' || tries === 5) throw error;
        await sleep(1000);
      }
    }
  }

  /** Both streams have written something. */
  async function untilStreaming(request: ReplicateInput, tool = 'rsync'): Promise<void> {
    await expect
      .poll(async () => Number(await script(mover.destination, `pgrep -cf '(rsync --serve|tar --extrac)[tr]' || :`)), {
        timeout: 20_000,
      })
      // rsync has two processes at the end of each stream.
      .toBeGreaterThanOrEqual(tool === 'tar' ? 2 : 4);
    await expect
      .poll(
        async () => Number(await script(mover.destination, `du -sm '${request.transfer.destination.path}' | cut -f1`)),
        { timeout: 20_000 },
      )
      .toBeGreaterThan(8);
  }
});
