import { ActivityCancellationDetails } from '@temporalio/common';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ReplicateInput } from '../../src/plan/replicate.ts';
import { freshName, script } from './machines.ts';
import type { Attempt, Mover } from './transfer-setup.ts';
import { attempt, openMover, pass, prepare, sweep } from './transfer-setup.ts';

/** Many enough for every step to take seconds; FERRY_TEST_FILES=200000 for more. */
const files = Number(process.env['FERRY_TEST_FILES'] ?? 30_000);

let mover: Mover;
const requests: ReplicateInput[] = [];

beforeAll(async () => {
  mover = await openMover();
});
afterAll(async () => {
  for (const request of requests) await sweep(mover, request);
  await mover.close();
});

async function filled(prefix: string, act: string): Promise<ReplicateInput> {
  const request = await mover.request(freshName(prefix));
  requests.push(request);
  const { path } = request.transfer.source;
  await script(mover.source, `mkdir -p '${path}' && cd '${path}'; ${act}`, { timeout: 300_000 });
  return request;
}

/** What the heartbeats said of `bytes`, in their order. */
function bytesOf(...attempts: Attempt[]): number[] {
  return attempts.flatMap(({ heartbeats }) => heartbeats.map(({ bytes }) => Number(bytes)));
}

describe(`the progress of a tree of ${files} files`, () => {
  it('is told every five seconds in every step, also by a comparison', async () => {
    const { activities } = mover;
    const request = await filled(
      'many',
      `perl -e 'for my $d (0 .. ${Math.ceil(files / 500)}) { mkdir "d$d"; for my $f (1 .. 500) { open(my $o, ">", "d$d/$f") or die; print $o "$d $f\\n" } }'; head -c 60M /dev/urandom >large`,
    );
    const steps: Record<string, Attempt> = {};
    const run = async <R>(name: string, activity: () => Promise<R>): Promise<R> => {
      const step = attempt();
      steps[name] = step;
      return step.run(activity);
    };

    const { choice, bytes } = await run('prepare', () => activities.prepareTransfer({ request, mode: 'live' }));
    await run('first pass', () => activities.runPass(pass(request, choice, 1, { expectedBytes: bytes })));
    await run('second pass', () => activities.runPass(pass(request, choice, 2, { expectedBytes: bytes })));
    await run('proof of quiet', () => activities.proveQuiet({ request }));
    await run('content of all', () =>
      activities.runPass(pass(request, choice, 3, { mode: 'final', content: 'all', expectedBytes: bytes })),
    );
    const verified = await run('comparison', () => activities.verifyTransfer({ request, choice, pass: 3 }));

    const silences = Object.fromEntries(Object.entries(steps).map(([name, step]) => [name, step.silence()]));
    console.log(silences);
    expect(verified.equal).toBe(true);
    for (const silence of Object.values(silences)) expect(silence).toBeLessThan(6000);
    for (const step of Object.values(steps)) {
      const seen = bytesOf(step).filter((value) => !Number.isNaN(value));
      expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    }
    const first = steps['first pass']?.heartbeats.at(-1);
    expect(first).toMatchObject({ pass: 1, total: bytes });
    expect(Number(first?.['bytes'])).toBeGreaterThan(bytes * 0.9);
    const compared = steps['comparison']?.heartbeats ?? [];
    expect(compared.every(({ step, pass: number }) => step === 'verifying' && number === 3)).toBe(true);
    if (compared.length > 2) expect(compared.at(-1)).toMatchObject({ total: bytes });
  });
});

describe('the progress of a pass', () => {
  it('never goes back when a retry begins anew, and comes out at the whole', async () => {
    const { activities, source } = mover;
    const request = await filled('retried', 'for i in 1 2 3 4 5 6; do head -c 4M /dev/urandom >f$i; done');
    const { choice, bytes } = await prepare(mover, request);
    const input = pass(request, choice, 1, { limitKiBps: 4000, expectedBytes: bytes });
    const first = attempt('retried');
    const failing = first.run(() => activities.runPass(input)).catch((error: unknown) => error);
    await expect.poll(() => Math.max(0, ...bytesOf(first)), { timeout: 30_000 }).toBeGreaterThan(9_000_000);
    await script(source, `systemctl kill -s KILL 'ferry-lab-${request.transfer.id}-*'`);
    expect(await failing).toMatchObject({ type: 'Transient' });

    const second = attempt('retried', first.heartbeats.at(-1));
    await second.run(() => activities.runPass(input));

    const seen = bytesOf(first, second);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(Math.max(...bytesOf(first))).toBeLessThan(bytes);
    // What was there was not counted twice, nor forgotten.
    expect(seen.at(-1)).toBeGreaterThan(bytes * 0.9);
    expect(seen.at(-1)).toBeLessThanOrEqual(bytes);
    expect(second.heartbeats.every(({ total }) => total === bytes)).toBe(true);
  });

  it('goes on where it was when another worker takes over the job that runs', async () => {
    const { activities } = mover;
    const request = await filled('taken-over', 'for i in 1 2 3 4 5 6; do head -c 4M /dev/urandom >f$i; done');
    const { choice, bytes } = await prepare(mover, request);
    const input = pass(request, choice, 1, { limitKiBps: 4000, expectedBytes: bytes });
    const first = attempt('taken-over');
    const leaving = first.run(() => activities.runPass(input)).catch(() => undefined);
    await expect.poll(() => Math.max(0, ...bytesOf(first)), { timeout: 30_000 }).toBeGreaterThan(5_000_000);
    first.environment.cancel('WORKER_SHUTDOWN', new ActivityCancellationDetails({ workerShutdown: true }));
    await leaving;

    const second = attempt('taken-over', first.heartbeats.at(-1));
    await second.run(() => activities.runPass(input));

    const seen = bytesOf(first, second);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(second.heartbeats.every(({ before }) => before === undefined)).toBe(true);
    expect(seen.at(-1)).toBeGreaterThan(bytes * 0.9);
    expect(seen.at(-1)).toBeLessThanOrEqual(bytes);
  });
});
