import { setTimeout as sleep } from 'node:timers/promises';
import { ActivityCancellationDetails, ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { faults } from '../../lab/faults.ts';
import type { PassInput, PassReport } from '../../src/activities/transfer-contract.ts';
import type { ReplicateInput } from '../../src/plan/replicate.ts';
import { freshName, script } from './machines.ts';
import { seeded } from './random.ts';
import type { Attempt, Mover } from './transfer-setup.ts';
import { attempt, bothTrees, once, openMover, pass, prepare, sweep, traces } from './transfer-setup.ts';

const random = seeded();
/** Machines of this file alone: others that run beside it must not lose theirs. */
const from = 'old2';
const to = 'new2';

/** What happens to the machines while a pass runs, until it is over. */
type Mishap = (mover: Mover) => Promise<void>;

async function fault(name: string, ...args: string[]): Promise<void> {
  const act = faults[name];
  if (act === undefined) throw new TypeError(`no such fault: ${name}`);
  await act(args);
}

// Killed several times in a few seconds it would not be started again: systemd counts.
const killSshd = `systemd-run --quiet --collect sh -c 'pkill -KILL -x sshd; sleep 1; systemctl reset-failed ssh; systemctl restart ssh'`;

const mishaps: Record<string, Mishap> = {
  'rsync is killed on the source': async () => fault('kill-rsync', from),
  'rsync is killed on the destination': async () => fault('kill-rsync', to),
  'sshd is killed on the destination': async ({ destination }) => {
    await destination.run(['sh', '-c', killSshd]).catch(() => undefined);
  },
  'sshd is killed on the source': async ({ source }) => {
    await source.run(['sh', '-c', killSshd]).catch(() => undefined);
  },
  'the job is killed': async ({ source }) => {
    await script(source, `systemctl kill -s KILL 'ferry-lab-*' || :`);
  },
  'the destination loses power': async () => {
    await fault('crash', to);
    await fault('start', to);
  },
  'the source loses power': async () => {
    await fault('crash', from);
    await fault('start', from);
  },
  'the destination reboots': async ({ destination }) => reboot(destination),
  'the source reboots': async ({ source }) => reboot(source),
  'the worker is restarted': restartWorker,
  'the link is down for a while': async () => {
    const host = random.pick([from, to]);
    await fault('cut', host);
    await sleep(3000 + random.below(5000));
    await fault('heal', host);
  },
};

async function reboot(connection: Mover['source']): Promise<void> {
  const bootOf = async (): Promise<string> =>
    connection
      .run(['cat', '/proc/1/stat'], { timeout: 5000 })
      .then(({ stdout }) => stdout.split(' ')[21] ?? '')
      .catch(() => '');
  const before = await bootOf();
  await connection.run(['systemctl', 'reboot'], { timeout: 10_000 }).catch(() => undefined);
  await expect.poll(bootOf, { timeout: 60_000, interval: 500 }).not.toBeOneOf(['', before]);
}

/** The worker's observer of the pass at work. */
let observer: Attempt | undefined;

/** A worker that shuts down lets go of its pass; the next one takes it over. */
function restartWorker(): Promise<void> {
  observer?.environment.cancel('WORKER_SHUTDOWN', new ActivityCancellationDetails({ workerShutdown: true }));
  return Promise.resolve();
}

const isAgain = (error: unknown): error is Error =>
  error instanceof CancelledFailure || (error instanceof ApplicationFailure && error.type === 'Transient');

/**
 * What Temporal and people do with a pass: the same activity again while its failures heal by themselves; preparation and pass again
 * when there was no space and somebody made some.
 */
async function untilDone(
  mover: Mover,
  input: PassInput,
  isMadeRoom = false,
): Promise<{ report: PassReport; failures: string[] }> {
  const failures: string[] = [];
  let id = freshName('pass');
  const deadline = Date.now() + 200_000;
  for (;;) {
    try {
      observer = attempt(id);
      return { report: await observer.run(() => mover.activities.runPass(input)), failures };
    } catch (error) {
      const isFull = isMadeRoom && error instanceof ApplicationFailure && error.message.includes('no space');
      if ((!isAgain(error) && !isFull) || Date.now() > deadline) throw error;
      failures.push(error.message);
      await sleep(1000);
      if (!isFull) continue;
      id = freshName('pass');
      await expect
        .poll(() => prepare(mover, input.request).catch(messageOf), { timeout: 60_000 })
        .toHaveProperty('choice');
    }
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : '');

describe(`a pass under faults, seed ${random.seed}`, { retry: 0 }, () => {
  let mover: Mover;
  const requests: ReplicateInput[] = [];

  beforeAll(async () => {
    mover = await openMover(from, to);
  });
  afterEach(async () => {
    for (const request of requests.splice(0)) await sweep(mover, request);
  });
  afterAll(async () => {
    await mover.close();
  });

  async function filled(prefix: string, mebibytes: number, path?: string): Promise<ReplicateInput> {
    const fresh = await mover.request(freshName(prefix));
    const { transfer } = fresh;
    const request =
      path === undefined
        ? fresh
        : {
            ...fresh,
            transfer: { ...transfer, destination: { ...transfer.destination, path: `${path}/${transfer.id}` } },
          };
    requests.push(request);
    await script(
      mover.source,
      `mkdir -p '${transfer.source.path}/many' && cd '${transfer.source.path}'
head -c ${mebibytes}M /dev/urandom >large; for i in $(seq 50); do head -c $((i * 500)) /dev/urandom >many/$i; done
ln -s large link; mkdir -p empty/deep; truncate -s 2M zero; setfattr -n user.a -v b many/1; chown 123:456 many/2; touch -d '2001-01-01 01:01:01.987654321' many/3`,
    );
    return request;
  }

  const all = random.shuffled(Object.keys(mishaps)).map((name) => ({ name, after: 200 + random.below(3500) }));
  const rounds = [all.slice(0, 4), all.slice(4, 8), all.slice(8)].map((round) => ({
    round,
    title: round.map(({ name, after }) => `${name} after ${after} ms`).join(', '),
  }));

  it.each(rounds)('$title: the next attempt goes on, the result is exact', async ({ round }) => {
    const request = await filled('mishap', 24);
    const { choice, bytes } = await prepare(mover, request);
    const input = pass(request, choice, 1, { mode: 'final', limitKiBps: 2500, expectedBytes: bytes });

    const [{ report, failures }] = await Promise.all([
      untilDone(mover, input),
      (async () => {
        for (const { name, after } of round) {
          await sleep(after);
          await mishaps[name]?.(mover);
        }
      })(),
    ]);
    const [left, right] = await bothTrees(mover, request);
    const verification = await once(() => mover.activities.verifyTransfer({ request, choice }));

    console.log(`${failures.length} attempts failed, the last sent ${report.literalBytes} of ${bytes} bytes`);
    expect(right).toEqual(left);
    expect(verification).toMatchObject({ equal: true, differences: [] });
    await once(() => mover.activities.finishTransfer({ request, verified: verification.digest ?? '' }));
    expect(await traces(mover, request)).toBe('');
  });

  /** Every one leaves a destination on a small file system in memory as it is. */
  const survivable = Object.keys(mishaps).filter((name) => !/the destination (?:loses|reboots)/.test(name));
  const storms = [
    { path: undefined, kinds: Object.keys(mishaps) },
    { path: '/small', kinds: [...survivable, 'the disk is full for a while'] },
  ].map(({ path, kinds }) => {
    const certain = path === undefined ? [] : ['the disk is full for a while'];
    const drawn = random.shuffled([
      ...certain,
      ...Array.from({ length: 5 - certain.length }, () => random.pick(kinds)),
    ]);
    const schedule = drawn.map((name) => ({ name, after: 300 + random.below(2500) }));
    return { path, schedule, title: schedule.map(({ name, after }) => `${name} after ${after} ms`).join(', ') };
  });

  it.each(storms)('under load: $title', async ({ path, schedule, title }) => {
    console.log(title);
    const request = await filled('storm', 24, path);
    const { choice, bytes } = await prepare(mover, request);
    const input = pass(request, choice, 1, { mode: 'final', limitKiBps: 2000, expectedBytes: bytes });
    const busy = `systemd-run --quiet --collect --unit=busy-${request.transfer.id} timeout 60 sh -c 'while :; do head -c 32M /dev/urandom | sha256sum; done'`;
    for (const machine of [mover.source, mover.destination]) await script(machine, busy);

    const [{ report, failures }] = await Promise.all([
      untilDone(mover, input, true),
      (async () => {
        for (const { name, after } of schedule) {
          await sleep(after);
          if (name === 'the disk is full for a while') await fillForAWhile();
          else await mishaps[name]?.(mover);
        }
      })(),
    ]);
    const end = `systemctl stop busy-${request.transfer.id} 2>/dev/null || :`;
    for (const machine of [mover.source, mover.destination]) await script(machine, end);
    const [left, right] = await bothTrees(mover, request);
    const verification = await once(() => mover.activities.verifyTransfer({ request, choice }));

    console.log(`${failures.length} attempts failed, the last sent ${report.literalBytes} of ${bytes} bytes`);
    expect(right).toEqual(left);
    expect(verification).toMatchObject({ equal: true, differences: [] });
    await once(() => mover.activities.finishTransfer({ request, verified: verification.digest ?? '' }));
    expect(await traces(mover, request)).toBe('');
  });

  /** Nothing that another fault does to ssh meanwhile may leave it full. */
  async function fillForAWhile(): Promise<void> {
    await fault('fill', to, '/small');
    await sleep(1000 + random.below(3000));
    await expect
      .poll(async () => script(mover.destination, 'rm -f /small/.lab-fill; ls -A /small').catch(messageOf), {
        timeout: 30_000,
      })
      .not.toMatch(/lab-fill|reached|refused/);
  }

  it('ends the orphan that a cut link left at the destination, and does not send again what is there', async () => {
    const request = await filled('orphan', 24);
    const { choice, bytes } = await prepare(mover, request);
    const input = pass(request, choice, 1, { limitKiBps: 4000, expectedBytes: bytes });
    const writers = `find /proc/[0-9]*/fd -lname "$(dirname "$(grep -l '"${request.transfer.id}"' /var/lib/ferry/destinations/*/marker.json)")/lock" 2>/dev/null | cut -d/ -f3 | sort -u`;
    const there = `du -sm '${request.transfer.destination.path}' | cut -f1`;

    const copy = untilDone(mover, input);
    await expect
      .poll(async () => Number(await script(mover.destination, there)), { timeout: 20_000 })
      .toBeGreaterThan(8);
    await fault('block', to, from);
    // The source gives up; nothing of it reaches the destination, whose rsync waits for more.
    await script(mover.source, 'pkill -KILL -x rsync; pkill -KILL -x ssh || :');
    const orphans = await script(mover.destination, writers);
    await sleep(4000);
    await fault('unblock', to);
    const { report, failures } = await copy;
    const [left, right] = await bothTrees(mover, request);

    expect(orphans).not.toBe('');
    expect(failures.length).toBeGreaterThan(0);
    expect(report.literalBytes).toBeLessThan(bytes - 6_000_000);
    expect(right).toEqual(left);
  });

  it('goes on where it was when the disk was full and has room again', async () => {
    const request = await filled('fill', 16, '/small');
    const { choice, bytes } = await prepare(mover, request);
    const input = pass(request, choice, 1, { limitKiBps: 5000, expectedBytes: bytes });

    const copy = untilDone(mover, input);
    const outcome = copy.catch((error: unknown) => error);
    const there = `du -sm '${request.transfer.destination.path}' | cut -f1`;
    await expect
      .poll(async () => Number(await script(mover.destination, there)), { timeout: 20_000 })
      .toBeGreaterThan(4);
    await sleep(random.below(1000));
    await fault('fill', to, '/small');
    const failure = await outcome;
    await fault('unfill', to, '/small');
    await prepare(mover, request);
    const { report } = await untilDone(mover, { ...input, pass: 2 });
    const [left, right] = await bothTrees(mover, request);

    expect(failure).toMatchObject({ type: 'NeedsHuman', message: /no space at new2:\/small\/.* 0 B/ });
    expect(report.literalBytes).toBeLessThan(bytes);
    expect(right).toEqual(left);
  });
});
