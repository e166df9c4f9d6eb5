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
    const { choice, bytes } = await prepare(mover, request);
    const input = pass(request, choice, 1, { mode: 'final', expectedBytes: bytes });
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
    expect(report.explanation).toContain('2 streams side by side');
    expect(report.literalBytes).toBeLessThan(bytes + 1_000_000);
    expect(report.filesTransferred).toBeGreaterThan(1200);
    expect(delta.explanation).toContain('2 streams side by side');
    expect(delta.doubtful).toBeGreaterThanOrEqual(17);
    expect(delta.deleted).toBeGreaterThan(40);
    const beats = observer.heartbeats as unknown as CopyProgress[];
    expect(beats.map((beat) => beat.bytes)).toEqual(beats.map((beat) => beat.bytes).toSorted((a, b) => a - b));
    expect(beats.at(-1)?.bytes).toBeLessThanOrEqual(beats.at(-1)?.total ?? 0);
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
    await once(() => mover.activities.runPass(pass(request, choice, 2)));
    // The token of an earlier pass opens nothing.
    expect(await stream(token)).toContain('ferry: busy');
  });

  const killings: Record<string, string> = {
    'one stream is killed at the source': `pkill -KILL -o -f 'list[.]fill[.]1'`,
    'all streams are killed at the source': `pkill -KILL -f 'list[.]fill[.]'`,
    'the ways of all streams are cut at the source': `pkill -KILL -x ssh`,
  };

  it.each(Object.entries(killings))('%s: what is left is copied all the same, and is exact', async (_, kill) => {
    const request = await large('killed');
    await limitRate(from, '200');
    const { choice, bytes } = await prepare(mover, request);
    const input = pass(request, choice, 1, { mode: 'final', expectedBytes: bytes });
    const copy = persistently(input);
    await untilStreaming(request);
    await sleep(random.below(1500));
    await script(mover.source, kill);
    await limitRate(from, undefined);
    await copy;

    await proveEqual(request, input);
  });

  it('ends all of them within ten seconds when it is cancelled, and goes on in several', async () => {
    const { source, destination, activities } = mover;
    const request = await large('cancelled');
    await limitRate(from, '150');
    const { choice, bytes } = await prepare(mover, request);
    const input = pass(request, choice, 1, { mode: 'final', expectedBytes: bytes });
    const running = attempt();
    const copy = running.run(() => activities.runPass(input)).catch((error: unknown) => error);
    await untilStreaming(request);
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
    expect(report.literalBytes).toBeLessThan(bytes);
    await proveEqual(request, input);
  });

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
  async function untilStreaming(request: ReplicateInput): Promise<void> {
    await expect
      .poll(async () => Number(await script(mover.destination, `pgrep -cf 'rsync --server' || :`)), { timeout: 20_000 })
      .toBeGreaterThan(3);
    await expect
      .poll(
        async () => Number(await script(mover.destination, `du -sm '${request.transfer.destination.path}' | cut -f1`)),
        { timeout: 20_000 },
      )
      .toBeGreaterThan(8);
  }
});
