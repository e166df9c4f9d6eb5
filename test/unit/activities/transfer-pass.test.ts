import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { CopyChoice, CopyProgress, PassInput } from '../../../src/activities/transfer-contract.ts';
import { namesOf } from '../../../src/activities/transfer-names.ts';
import type { PassEnds } from '../../../src/activities/transfer-pass.ts';
import { runRsyncPass } from '../../../src/activities/transfer-pass.ts';
import type { TransferScope } from '../../../src/activities/transfer-scope.ts';
import type { HostConnection, Jobs, RunResult } from '../../../src/hosts/contract.ts';
import { HostUnreachable } from '../../../src/hosts/errors.ts';
import { replicateInputSchema } from '../../../src/plan/replicate.ts';

const host = {
  address: '10.0.0.1',
  hostKeys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGludmVudGVkIGhvc3Qga2V5IG9mIGEgc2FtcGxl'],
};
const request = replicateInputSchema.parse({
  migration: 'lab',
  transfer: {
    id: 'redis-0',
    subject: { type: 'host-service', service: 'redis' },
    source: { host: 'old1', path: '/sysvol/redis' },
    destination: { host: 'new1', path: '/sysvol/redis' },
  },
  source: { ...host, name: 'old1' },
  destination: { ...host, name: 'new1', address: '10.0.0.2' },
  mode: 'live',
});
const names = namesOf(request);
const input = { request, pass: 2, mode: 'live', expectedBytes: 1000 } as PassInput;
const base = { epoch: '1.5', uptime: 1, bootId: 'x' };
const marker = JSON.stringify({
  ...{ migration: 'lab', transfer: 'redis-0', sourceHost: 'old1', sourcePath: '/sysvol/redis' },
  ...{ destinationPath: '/sysvol/redis', state: 'incomplete', base },
});

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** The two machines of a pass; `watch` answers for the source, `there` for the destination. */
function ends(watch: () => string, there = (): string => 'work=0\n'): PassEnds {
  const connection = (name: string, run: () => string): HostConnection => ({
    host: { ...request.source, name },
    run: (): Promise<RunResult> =>
      new Promise((resolve) => resolve({ code: 0, signal: null, stdout: run(), stderr: '' })),
    readFile: () => Promise.resolve(Buffer.from(marker)),
    writeFile: () => Promise.resolve(),
  });
  return {
    source: connection('old1', watch),
    destination: connection('new1', there),
    sourcePath: '/sysvol/redis',
    destinationPath: '/sysvol/redis',
    sameHost: false,
    nestedMounts: false,
  };
}

/** Jobs of a source where none runs yet; keeps what is started. */
function idleJobs(): { jobs: Jobs; started: string[][] } {
  const started: string[][] = [];
  const jobs: Jobs = {
    start: (_connection, { argv }) => {
      started.push([...argv]);
      return Promise.resolve('started');
    },
    state: () => Promise.resolve({ state: 'absent' }),
    read: () => Promise.resolve(Buffer.alloc(0)),
    stop: () => Promise.resolve(),
    clear: () => Promise.resolve(),
  };
  return { jobs, started };
}

function running(bytes: number): string {
  return `ActiveState=active\nepoch=1\nuptime=1\nboot=x\ntoken=mine\nstep=copying 1\nout.rest= ${bytes} 10% 1.00kB/s 0:00:01 (xfr#1, to-chk=1/2)\n`;
}

function scopeOf(earlier: TransferScope['earlier']): { scope: TransferScope; beats: CopyProgress[] } {
  const beats: CopyProgress[] = [];
  const scope: TransferScope = {
    heartbeat: (details) => beats.push(details as CopyProgress),
    signal: undefined,
    isGivenUp: () => false,
    token: 'mine',
    attempt: 2,
    cancellation: () => undefined,
    isAbandoned: () => Promise.resolve(false),
    earlier,
  };
  return { scope, beats };
}

describe('a pass whose source is out of reach', () => {
  it('is waited for a minute, then says that the copy may go on there', async () => {
    let looks = 0;
    const both = ends(() => {
      looks += 1;
      if (looks > 3) throw new HostUnreachable('old1', 'connect ETIMEDOUT 10.0.0.1:22');
      return running(300);
    });
    const { scope, beats } = scopeOf({ bytes: 0, before: 0 });

    const outcome = runRsyncPass({} as Jobs, both, input, names, scope).catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(75_000);

    expect(await outcome).toMatchObject({
      type: 'Transient',
      message: expect.stringMatching(
        /^old1 is out of the worker's reach while it copies redis-0: .*ETIMEDOUT.*the copy goes on there.*ssh old1 true$/,
      ) as unknown,
    });
    // Nobody who looks on takes the silence for a beginning.
    expect(beats.every(({ bytes }) => bytes === 300)).toBe(true);
    expect(beats.at(-1)).toMatchObject({
      pass: 2,
      step: 'copying',
      bytesPerSecond: 0,
      waiting: expect.any(String) as unknown,
    });
  });

  it.each([
    ['a job of an earlier try that goes on', { bytes: 200, before: 0 }, 300, 300],
    ['one that lags behind what was told', { bytes: 400, before: 0 }, 300, 400],
    ['one that began when 500 were done', { bytes: 600, before: 500 }, 300, 800],
    ['one that finds more than the rest', { bytes: 600, before: 500 }, 700, 1000],
  ])('tells of %s how far the whole is', async (_name, earlier, seen, expected) => {
    let looks = 0;
    const both = ends(() => {
      looks += 1;
      if (looks > 2) throw new Error('over');
      return running(seen);
    });
    const { scope, beats } = scopeOf(earlier);

    const outcome = runRsyncPass({} as Jobs, both, input, names, scope).catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(10_000);

    expect(await outcome).toMatchObject({ message: 'over' });
    expect(beats.at(-1)).toMatchObject({ bytes: expected, total: 1000 });
  });
});

describe('a destination that restarted', () => {
  const idle = 'ActiveState=inactive\nepoch=9\nuptime=9\nboot=x\nkey=there\n';
  const choice = { tool: 'rsync', inplace: true, streams: 1, compress: 'none', reasons: [] } as unknown as CopyChoice;

  it.each([
    ['before the pass', 'restarted=yes\n', 'all'],
    ['never', '', '-1'],
  ])('%s: what is compared', async (_name, answer, since) => {
    const { jobs, started } = idleJobs();
    const both = ends(
      () => idle,
      () => `gate=there\nempty=no\n${answer}`,
    );

    await runRsyncPass(
      jobs,
      both,
      { ...input, choice, limitKiBps: 0 },
      names,
      scopeOf({ bytes: 0, before: 0 }).scope,
    ).catch(() => undefined);

    expect(started[0]?.[started[0].indexOf('ferry:data/') + 1]).toBe(since);
  });

  it('under the pass makes it a failed one that is tried again', async () => {
    const ended = `${running(300).replace('=active', '=inactive')}=== result\nmoment=1 1 x\ncodes=rest 0;\nsteps=flushing 1;ended 2;\n`;
    const both = ends(
      () => ended,
      () => 'restarted=yes\n',
    );

    await expect(
      runRsyncPass(idleJobs().jobs, both, { ...input, choice }, names, scopeOf({ bytes: 0, before: 0 }).scope),
    ).rejects.toMatchObject({ type: 'Transient', message: expect.stringContaining('new1 restarted') as unknown });
  });
});
