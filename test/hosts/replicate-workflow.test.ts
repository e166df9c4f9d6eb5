import type { ChildProcess } from 'node:child_process';
import { execFile, spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { CopyProgress } from '../../src/activities/transfer-contract.ts';
import type { ReplicateInput } from '../../src/plan/replicate.ts';
import type { CopyStatus, TransferOutcome } from '../../src/workflows/replicate-messages.ts';
import { freshName, script } from './machines.ts';
import type { Mover } from './transfer-setup.ts';
import { bothTrees, keptLists, movingProcesses, openMover, sweep, traces } from './transfer-setup.ts';
import { mappedWrite, mappedWriter } from './transfer-trees.ts';

const run = promisify(execFile);

async function temporal<T>(...args: string[]): Promise<T> {
  const { stdout } = await run('temporal', [...args, '--output', 'json'], { maxBuffer: 16 * 1024 * 1024 });
  return JSON.parse(stdout === '' ? 'null' : stdout) as T;
}

interface Description {
  workflowExecutionInfo: { status: string };
  pendingActivities?: { activityType: { name: string }; attempt?: number; heartbeatDetails?: unknown }[];
}

/** What the CLI shows of a heartbeat: the value itself, or its payload. */
function progressIn(details: unknown): Partial<CopyProgress> | undefined {
  const first: unknown = Array.isArray(details)
    ? details[0]
    : ((details as { payloads?: unknown[] } | undefined)?.payloads?.[0] ?? details);
  if (typeof first !== 'object' || first === null) return undefined;
  const { data } = first as { data?: string };
  return (data === undefined ? first : JSON.parse(Buffer.from(data, 'base64').toString())) as Partial<CopyProgress>;
}

describe('replicateDirectory on its own', () => {
  let mover: Mover;
  let worker: ChildProcess;
  const log = join(tmpdir(), `${freshName('ferry-worker')}.log`);
  const requests: ReplicateInput[] = [];

  function startWorker(): ChildProcess {
    const output = openSync(log, 'a');
    // No cluster is needed to copy directories.
    return spawn('ferry', ['worker', '--copies-only'], {
      stdio: ['ignore', output, output],
      env: { ...process.env, KUBECONFIG: '' },
    });
  }

  async function endWorker(signal: NodeJS.Signals): Promise<void> {
    if (worker.exitCode !== null || worker.signalCode !== null) return;
    const gone = new Promise((resolve) => worker.once('exit', resolve));
    worker.kill(signal);
    await gone;
  }

  beforeAll(async () => {
    mover = await openMover();
    worker = startWorker();
  });
  afterEach(async () => {
    for (const request of requests.splice(0)) await sweep(mover, request);
  });
  afterAll(async () => {
    await endWorker('SIGKILL');
    await mover.close();
  });

  async function start(request: ReplicateInput): Promise<string> {
    const id = `copy-${request.transfer.id}-${request.mode}`;
    const input = ['--input', JSON.stringify(request)];
    await temporal('workflow', 'start', '--task-queue', 'ferry', '--type', 'replicateDirectory', '-w', id, ...input);
    return id;
  }

  async function pending(id: string): Promise<Description> {
    return temporal<Description>('workflow', 'describe', '-w', id);
  }

  async function result(id: string): Promise<TransferOutcome> {
    const answer = await temporal<{ result: TransferOutcome; status: string }>('workflow', 'result', '-w', id);
    return answer.result;
  }

  it('shows its progress, changes its limit, outlives its worker and proves what it copied', async () => {
    const live = await mover.request(freshName('alone'), { mode: 'live', limitKiBps: 2500, maxPasses: 2 });
    requests.push(live);
    const { path } = live.transfer.source;
    await script(
      mover.source,
      `mkdir -p '${path}/many' && cd '${path}'; head -c 150M /dev/urandom >large; for i in $(seq 200); do echo $i >many/$i; done`,
    );

    const id = await start(live);
    const seen: Partial<CopyProgress>[] = [];
    const look = async (): Promise<number> => {
      for (const activity of (await pending(id)).pendingActivities ?? []) {
        const progress = activity.activityType.name === 'runPass' ? progressIn(activity.heartbeatDetails) : undefined;
        if (progress?.bytes !== undefined && progress.bytes !== seen.at(-1)?.bytes) seen.push(progress);
      }
      return seen.length;
    };
    await expect.poll(look, { timeout: 60_000, interval: 500 }).toBeGreaterThanOrEqual(2);
    await endWorker('SIGTERM');
    worker = startWorker();
    const before = seen.length;
    await expect.poll(look, { timeout: 60_000, interval: 500 }).toBeGreaterThan(before);
    await run('temporal', ['workflow', 'signal', '-w', id, '--name', 'tune', '--input', '{"preCopyKiBps":0}']);
    const copied = await result(id);
    const { queryResult } = await temporal<{ queryResult: CopyStatus[] }>(
      'workflow',
      'query',
      '-w',
      id,
      '--name',
      'copy',
    );

    const bytes = seen.map((progress) => progress.bytes ?? 0);
    expect(bytes).toEqual(bytes.toSorted((a, b) => a - b));
    expect(seen.at(-1)).toMatchObject({ pass: 1, step: 'copying', currentFile: 'large', total: 157_286_400 + 692 });
    expect(seen.length).toBeGreaterThanOrEqual(3);
    expect(seen.at(-1)?.bytesPerSecond).toBeGreaterThan(1_000_000);
    expect(seen.at(-1)?.etaSeconds).toBeGreaterThan(1);
    expect(copied).toMatchObject({ mode: 'live', ready: true, notConverging: false, destinationState: 'incomplete' });
    // The pass that was tuned began again and used what was there.
    expect(copied.passes[0]?.literalBytes).toBeLessThan(157_286_400 - (bytes.at(-1) ?? 0) + 8_000_000);
    expect(queryResult[0]).toMatchObject({ state: 'done', limitKiBps: 0 });
    expect(await traces(mover, live)).toBe('');
    // The final pass knows by it what it need not read.
    expect(await keptLists(mover, live)).toContain(live.transfer.id);

    await script(mover.source, `cd '${path}'; rm many/7; echo new >many/new; ln many/8 many/eight; echo more >>large`);
    const proved = await result(await start({ ...live, mode: 'final' }));
    const [left, right] = await bothTrees(mover, live);

    expect(right).toEqual(left);
    expect(proved).toMatchObject({ mode: 'final', ready: true, destinationState: 'verified' });
    expect(proved.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(proved.proof).toContain('full');
    expect(await traces(mover, live)).toBe('');
    expect(await keptLists(mover, live)).toBe('');
    expect(await readFile(log, 'utf8')).not.toMatch(/error/i);
  });

  it('compares every content where a mapped write leaves no trace', async () => {
    const fresh = await mover.request(freshName('tmpfs'), { mode: 'live', maxPasses: 1 });
    const { transfer } = fresh;
    const path = `/small/${transfer.id}`;
    const live = { ...fresh, transfer: { ...transfer, source: { ...transfer.source, path } } };
    requests.push(live);
    const control = `/run/${transfer.id}`;
    await script(
      mover.source,
      `mkdir '${path}' && cd '${path}'; head -c 300000 /dev/zero >mapped; ${mappedWriter('mapped', control)}`,
    );
    await script(mover.source, mappedWrite(control, 1));
    const moved = `stat -c %.9Y '${path}/mapped'`;

    await result(await start(live));
    const before = await script(mover.source, moved);
    await script(mover.source, mappedWrite(control, 2));
    const after = await script(
      mover.source,
      `${moved}; touch '${control}/end'; for i in $(seq 50); do pgrep -f '${control}' >/dev/null || break; sleep 0.1; done`,
    );
    const proved = await result(await start({ ...live, mode: 'final' }));
    const [left, right] = await bothTrees(mover, live);

    // The hole is real: nothing but the content tells that the file changed.
    expect(after).toBe(before);
    expect(right).toEqual(left);
    // One pass was enough; nothing had to be healed after the verification.
    expect(proved.passes).toHaveLength(1);
    expect(proved.passes[0]?.explanation).toContain('content of every file compared');
  });

  it('fails with cause and way out when somebody writes, and leaves nothing running', async () => {
    const request = await mover.request(freshName('busy'), { mode: 'final' });
    requests.push(request);
    const { path } = request.transfer.source;
    await script(
      mover.source,
      `mkdir -p '${path}'; setsid sleep 120 >>'${path}/log' 2>/dev/null </dev/null & echo $! >/run/holder-of-log`,
    );

    const id = await start(request);
    await expect
      .poll(async () => (await pending(id)).workflowExecutionInfo.status, { timeout: 60_000, interval: 500 })
      .toContain('FAILED');
    const history = await temporal<unknown>('workflow', 'show', '-w', id);
    await script(mover.source, 'kill $(cat /run/holder-of-log)');

    expect(JSON.stringify(history)).toMatch(/sleep \(pid \d+.*has log open for writing.*stop it on old1, then resume/);
    expect(await traces(mover, request)).toBe('');
  });

  it('ends the copy on both machines when it is cancelled', async () => {
    const request = await mover.request(freshName('cancelled'), { mode: 'live', limitKiBps: 1000 });
    requests.push(request);
    const { path } = request.transfer.source;
    await script(mover.source, `mkdir -p '${path}'; head -c 60M /dev/urandom >'${path}/large'`);

    const id = await start(request);
    await expect.poll(async () => movingProcesses(mover.destination, request), { timeout: 60_000 }).not.toBe('');
    const begin = Date.now();
    await run('temporal', ['workflow', 'cancel', '-w', id]);
    await expect
      .poll(async () => (await pending(id)).workflowExecutionInfo.status, { timeout: 60_000, interval: 500 })
      .toContain('CANCELED');

    expect(Date.now() - begin).toBeLessThan(20_000);
    expect(await movingProcesses(mover.source, request)).toBe('');
    expect(await movingProcesses(mover.destination, request)).toBe('');
    expect(await traces(mover, request)).toBe('');
  });

  it('ends the copy and takes its key away when its workflow is terminated', async () => {
    const request = await mover.request(freshName('terminated'), { mode: 'live', limitKiBps: 1000 });
    requests.push(request);
    const { path } = request.transfer.source;
    await script(mover.source, `mkdir -p '${path}'; head -c 60M /dev/urandom >'${path}/large'`);

    const id = await start(request);
    await expect.poll(async () => movingProcesses(mover.destination, request), { timeout: 60_000 }).not.toBe('');
    const begin = Date.now();
    await run('temporal', ['workflow', 'terminate', '-w', id]);
    await expect
      .poll(
        async () =>
          (await movingProcesses(mover.source, request)) +
          (await movingProcesses(mover.destination, request)) +
          (await traces(mover, request)),
        { timeout: 60_000, interval: 200 },
      )
      .toBe('');

    expect(Date.now() - begin).toBeLessThan(20_000);
  });

  it('ends many copies on both machines within ten seconds of pause or cancel, and goes on after resume', async () => {
    const copies = await Promise.all(
      Array.from({ length: 6 }, async () => {
        const request = await mover.request(freshName('stopped'), { mode: 'live', limitKiBps: 500, maxPasses: 1 });
        requests.push(request);
        const { path } = request.transfer.source;
        await script(mover.source, `mkdir -p '${path}'; head -c 30M /dev/urandom >'${path}/large'`);
        return { request, id: await start(request) };
      }),
    );
    const moving = async (): Promise<string[]> =>
      Promise.all(
        copies.flatMap(({ request }) =>
          [mover.source, mover.destination].map((machine) => movingProcesses(machine, request)),
        ),
      );
    await expect
      .poll(async () => (await moving()).every((pids) => pids !== ''), { timeout: 90_000, interval: 500 })
      .toBe(true);

    const begin = Date.now();
    await Promise.all(
      copies.map(({ id }, index) =>
        run('temporal', ['workflow', ...(index % 2 === 0 ? ['signal', '--name', 'pause'] : ['cancel']), '-w', id]),
      ),
    );
    const asked = Date.now();
    await expect.poll(async () => (await moving()).join(''), { timeout: 60_000, interval: 200 }).toBe('');
    const took = Date.now() - asked;
    console.log(`asked within ${asked - begin} ms, all ended ${took} ms later`);
    const [first] = copies;
    // The machines are told before the workflow hears that it is done.
    const stateOfFirst = async (): Promise<string | undefined> => {
      const id = first?.id ?? '';
      const query = await temporal<{ queryResult: CopyStatus[] }>('workflow', 'query', '-w', id, '--name', 'copy');
      return query.queryResult[0]?.state;
    };
    await expect.poll(stateOfFirst, { timeout: 10_000, interval: 200 }).toBe('paused');
    const marks = await script(
      mover.destination,
      `for id in ${copies.map(({ request }) => request.transfer.id).join(' ')}; do grep -l "\\"$id\\"" /var/lib/ferry/destinations/*/marker.json | xargs grep -h '"state"'; done | sort | uniq -c`,
    );
    await run('temporal', [
      'workflow',
      'signal',
      '-w',
      first?.id ?? '',
      '--name',
      'tune',
      '--input',
      '{"preCopyKiBps":0}',
    ]);
    await run('temporal', ['workflow', 'signal', '-w', first?.id ?? '', '--name', 'resume']);
    const { passes } = await result(first?.id ?? '');
    for (const { id } of copies.slice(1)) {
      await run('temporal', ['workflow', 'cancel', '-w', id]).catch(() => undefined);
      await expect
        .poll(async () => (await pending(id)).workflowExecutionInfo.status, { timeout: 60_000, interval: 500 })
        .toContain('CANCELED');
    }

    expect(took).toBeLessThan(10_000);
    expect(marks.trim()).toMatch(/^6 +"state": "incomplete",?$/);
    // What was there was used.
    expect(passes[0]?.literalBytes).toBeLessThan(31_457_280);
    for (const { request } of copies) expect(await traces(mover, request)).toBe('');
  });

  it('changes its limit by the hour of the day', async () => {
    // An edge that is near, but not so near that the copy has not begun.
    const edge = Math.ceil((Date.now() + 20_000) / 60_000) * 60_000;
    const clock = (at: number): string => new Date(at).toISOString().slice(11, 16);
    const request = await mover.request(freshName('hours'), {
      mode: 'live',
      limitKiBps: 200,
      maxPasses: 1,
      schedule: [{ from: clock(edge), to: clock(edge + 3_600_000), limitKiBps: 0 }],
    });
    requests.push(request);
    const { path } = request.transfer.source;
    await script(mover.source, `mkdir -p '${path}'; head -c 40M /dev/urandom >'${path}/large'`);

    const { passes } = await result(await start(request));
    const [left, right] = await bothTrees(mover, request);

    // At the limit of the hour before it would have taken more than three minutes.
    expect(passes).toHaveLength(1);
    expect(passes[0]?.explanation).toMatch(/^no limit/);
    expect(Date.parse(passes[0]?.startedAt ?? '')).toBeGreaterThanOrEqual(edge - 1000);
    expect(passes[0]?.literalBytes).toBeLessThan(41_943_040);
    expect(Date.now()).toBeLessThan(edge + 60_000);
    expect(right).toEqual(left);
  });
});
