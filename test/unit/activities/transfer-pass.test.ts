import { CancelledFailure } from '@temporalio/common';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { CopyChoice, CopyProgress, PassInput } from '../../../src/activities/transfer-contract.ts';
import { namesOf } from '../../../src/activities/transfer-names.ts';
import type { PassEnds } from '../../../src/activities/transfer-watch.ts';
import { runRsyncPass } from '../../../src/activities/transfer-pass.ts';
import type { TransferScope } from '../../../src/activities/transfer-scope.ts';
import type { HostConnection, Jobs, RunResult } from '../../../src/hosts/contract.ts';
import { HostUnreachable } from '../../../src/hosts/errors.ts';
import { request } from './transfer-sample.ts';

// Those of Node are real also where the global ones are not.
vi.mock('node:timers/promises', () => ({
  setTimeout: (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds)),
}));

const names = namesOf(request);
const input = { request, pass: 2, mode: 'live', expectedBytes: 1000 } as PassInput;
const choice = { tool: 'rsync', inplace: true, streams: 1, compress: 'none', reasons: [] } as unknown as CopyChoice;
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
    lastSaid: undefined,
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
  it.each([
    ['before the pass', 'restarted=yes\n', 'all'],
    ['never', '', '-29'],
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

describe('the first copy', () => {
  const ofTar = { ...choice, tarFirst: true };
  const first = { ...input, choice: ofTar, pass: 1, limitKiBps: 0, expectedBytes: 1000 };

  /** Which kind of start the pass's script is asked for, and what the streams that are let in are of. */
  async function startOf(change: Partial<PassInput>, found: string, sameHost = false): Promise<(string | undefined)[]> {
    const { jobs, started } = idleJobs();
    const ended = [
      'ActiveState=inactive\nepoch=9\nuptime=9\nboot=x\nkey=there\n=== result\nmoment=9 9 x\n',
      'codes=rest 0;\nsteps=flushing 1;ended 2;\n',
    ].join('');
    const both = { ...ends(() => ended), sameHost };
    let letIn: string | undefined;
    both.destination.run = (argv, options = {}) => {
      if (String(options.input).includes('streams=$5')) letIn = argv.at(-1);
      return Promise.resolve({ code: 0, signal: null, stdout: `gate=there\nkept=yes\n${found}`, stderr: '' });
    };
    await runRsyncPass(jobs, both, { ...first, ...change }, names, {
      ...scopeOf({ bytes: 0, before: 0 }).scope,
      cancellation: () => undefined,
    }).catch(() => undefined);
    const argv = started[0] ?? [];
    return [argv[argv.indexOf('tree') + 3], letIn];
  }

  const once = { ...request, maxPasses: 1 };

  it.each<[string, string, string, Partial<PassInput>, string, boolean?]>([
    ['alone where another pass follows', 'alone', ' tar', {}, ''],
    ['looked over where none follows', 'tar', ' tar', { request: once }, ''],
    ['looked over in a later pass, which may be the last', 'tar', ' tar', { pass: 2 }, ''],
    ['looked over where nothing follows but the proof', 'tar', ' tar', { mode: 'final' }, ''],
    ['not over what is there', '-', ' tar', {}, 'empty=no\nbytes=900\n'],
    ['not under a limit', 'fill', '', { limitKiBps: 5000 }, ''],
    ['not where times prove nothing', 'fill', '', { content: 'all' }, ''],
    ['not where rsync was chosen', 'fill', '', { choice }, ''],
    ['not on one machine', 'fill', '', {}, '', true],
  ])('by tar is %s', async (_name, start, streams, change, found, sameHost) => {
    expect(await startOf(change, found, sameHost)).toEqual([start, streams]);
  });
});

describe('what goes before a pass', () => {
  it.each([
    ['looks at the destination', 'ferry_script', ''],
    ['parts names that share a file', '-links +1', 'links=3\n'],
  ])('ends at once when it is cancelled while it %s', async (_name, slow, answer) => {
    const { jobs, started } = idleJobs();
    const stopped = vi.spyOn(jobs, 'stop');
    const cancel = new AbortController();
    let isReached = false;
    const both = ends(() => 'ActiveState=inactive\nepoch=9\nuptime=9\nboot=x\nkey=there\n');
    both.destination.run = (_argv, options = {}) => {
      const text = String(options.input);
      const isSlow = text.includes(slow) && text.includes('awk') === (answer === '');
      if (!isSlow || isReached)
        return Promise.resolve({ code: 0, signal: null, stdout: `gate=there\nempty=no\n${answer}`, stderr: '' });
      isReached = true;
      // For hours, unless it is told to end.
      return new Promise((_resolve, reject) => {
        options.signal?.addEventListener('abort', () => reject(options.signal?.reason as Error));
      });
    };
    const scope: TransferScope = {
      ...scopeOf({ bytes: 0, before: 0 }).scope,
      signal: cancel.signal,
      cancellation: () => (cancel.signal.aborted ? { cancelRequested: true, paused: false } : undefined),
    };

    const outcome = runRsyncPass(jobs, both, { ...input, choice, partLinks: true }, names, scope).catch(
      (error: unknown) => error,
    );
    await vi.waitFor(() => expect(isReached).toBe(true));
    cancel.abort(new CancelledFailure('cancelled'));

    expect(await outcome).toBeInstanceOf(CancelledFailure);
    expect(stopped).toHaveBeenCalled();
    expect(started).toEqual([]);
  });
});

describe('a pass stands still', () => {
  /** A look a second; the n-th one sees what `at` says. Answers the failure and after how many seconds it came, or undefined. */
  async function outcomeOf(at: (second: number) => string, seconds: number): Promise<{ message: string } | undefined> {
    const begin = Date.now();
    const both = ends(() => '');
    both.source.run = async () => {
      await new Promise((resolve) => setTimeout(resolve, 1000));
      return { code: 0, signal: null, stdout: at((Date.now() - begin) / 1000), stderr: '' };
    };
    let outcome: { message: string } | undefined;
    const request = { ...input.request, stallSeconds: 30 };
    void runRsyncPass(
      idleJobs().jobs,
      both,
      { ...input, request },
      names,
      scopeOf({ bytes: 0, before: 0 }).scope,
    ).catch((error: unknown) => {
      outcome = error as { message: string };
    });
    await vi.advanceTimersByTimeAsync(seconds * 1000);
    return outcome;
  }
  const seen = (step: string, work: number): string => `${running(300).replace('copying', step)}work=${work}\n`;
  const MiB = 1024 ** 2;

  it('when nothing was done for so long as the plan says', async () => {
    expect(await outcomeOf(() => seen('copying', 900 * MiB), 60)).toMatchObject({
      message: expect.stringContaining('neither machine moved or read anything for 30 s') as unknown,
    });
  });

  it.each([
    [
      'while what it did is less than what one did that has ended',
      (at: number) => seen('copying', at < 10 ? 900 * MiB : at * MiB),
    ],
    ['when it goes over to another step', (at: number) => seen(at < 25 ? 'comparing' : 'copying', 900 * MiB)],
    ['while the source is flushed, for half an hour', () => seen('flushing', 0)],
  ])('not %s', async (_name, at) => {
    expect(await outcomeOf(at, 50)).toBeUndefined();
  });

  it('when the source is flushed for longer', async () => {
    expect(await outcomeOf(() => seen('flushing', 0), 1900)).toMatchObject({
      message: expect.stringContaining('for 1800 s') as unknown,
    });
  });
});
