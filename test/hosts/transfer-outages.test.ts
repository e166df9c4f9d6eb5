import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { HostConnection } from '../../src/hosts/contract.ts';
import type { ReplicateInput } from '../../src/plan/replicate.ts';
import type { replicateDirectory } from '../../src/workflows/replicate-directory.ts';
import { development, findServer } from '../temporal-server.ts';
import { freshName, script } from './machines.ts';
import type { Mover } from './transfer-setup.ts';
import {
  attempt,
  bothTrees,
  movingProcesses,
  once,
  openMover,
  pass,
  prepare,
  sweep,
  traces,
} from './transfer-setup.ts';

let mover: Mover;
const requests: ReplicateInput[] = [];

beforeAll(async () => {
  mover = await openMover();
});
// Side by side: most of the time they wait.
afterAll(async () => {
  for (const request of requests) await sweep(mover, request);
  await mover.close();
});

async function filled(prefix: string, bytes: string): Promise<ReplicateInput> {
  const request = await mover.request(freshName(prefix));
  requests.push(request);
  const { path } = request.transfer.source;
  await script(
    mover.source,
    `mkdir -p '${path}/many' && cd '${path}'; head -c ${bytes} /dev/urandom >large; for i in $(seq 20); do echo $i >many/$i; done; ln large other`,
  );
  return request;
}

/** Tests side by side cannot share the poll of the runner. */
async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`after a minute not yet: ${what}`);
    await sleep(200);
  }
}

describe.concurrent('a copy that stands still', () => {
  const frozen: [string, (mover: Mover) => HostConnection][] = [
    ['source', ({ source }) => source],
    ['destination', ({ destination }) => destination],
  ];

  it.each(frozen)('is ended and tried again when its process at the %s is frozen', async (_name, machineOf) => {
    const { activities, source, destination } = mover;
    const request = { ...(await filled('frozen', '12M')), stallSeconds: 10 };
    const { choice, bytes } = await prepare(mover, request);
    const input = pass(request, choice, 1, { limitKiBps: 2500, expectedBytes: bytes });
    const first = attempt('frozen');
    const copy = first.run(() => activities.runPass(input));
    const outcome = copy.then(
      () => undefined,
      (error: unknown) => error,
    );
    await until('it moves', () => first.heartbeats.some((beat) => Number(beat['bytes']) > 1e6));

    const pids = (await movingProcesses(machineOf(mover), request)).trim().split('\n');
    await script(machineOf(mover), `kill -STOP ${pids.join(' ')}`);
    const begin = Date.now();
    const failure = await outcome;
    const noticed = (Date.now() - begin) / 1000;
    const left = [await movingProcesses(source, request), await movingProcesses(destination, request)];
    const report = await attempt('frozen').run(() => activities.runPass({ ...input, limitKiBps: 0 }));
    const [from, to] = await bothTrees(mover, request);

    expect(failure).toMatchObject({
      type: 'Transient',
      message: /stood still: neither machine moved or read anything for 10 s/,
    });
    expect(noticed).toBeGreaterThan(8);
    expect(noticed).toBeLessThan(60);
    expect(left).toEqual(['', '']);
    expect(report.literalBytes).toBeLessThan(bytes);
    expect(to).toEqual(from);
  });

  it('is none while it is slow but moves', async () => {
    const request = { ...(await filled('slow', '500K')), stallSeconds: 10 };
    const { choice, bytes } = await prepare(mover, request);
    const input = pass(request, choice, 1, { limitKiBps: 25, expectedBytes: bytes });

    const report = await once(() => mover.activities.runPass(input));
    const [from, to] = await bothTrees(mover, request);

    expect(report.seconds).toBeGreaterThan(15);
    expect(to).toEqual(from);
  });
});

describe.concurrent('a Temporal server that dies in the middle of a copy', () => {
  const database = join(tmpdir(), `${freshName('ferry-outage')}.db`);
  const children: ChildProcess[] = [];
  let port: number;

  beforeAll(async () => {
    port = await freePort();
  });
  afterAll(async () => {
    for (const child of children) await end(child);
    for (const suffix of ['', '-shm', '-wal']) rmSync(`${database}${suffix}`, { force: true });
  });

  async function startServer(): Promise<ChildProcess> {
    const argv = ['server', 'start-dev', '--headless', '--ip', '127.0.0.1', '--port', `${port}`];
    const server = spawn(findServer(development), [...argv, '--db-filename', database, '--log-level', 'never'], {
      stdio: 'ignore',
    });
    children.push(server);
    await until('the server answers', answers);
    return server;
  }

  async function answers(): Promise<boolean> {
    const connection = await Connection.connect({ address: `127.0.0.1:${port}`, connectTimeout: 2000 }).catch(
      () => undefined,
    );
    await connection?.close();
    return connection !== undefined;
  }

  function startWorker(): void {
    const env = { ...process.env, KUBECONFIG: '', TEMPORAL_ADDRESS: `127.0.0.1:${port}` };
    children.push(spawn('ferry', ['worker', '--copies-only'], { stdio: 'ignore', env }));
  }

  it('stops nothing: the copy goes on without it, is found again and ends exact', async () => {
    const live = { ...(await filled('outage', '24M')), limitKiBps: 2000, maxPasses: 2, targetFinalSeconds: 1000 };
    const server = await startServer();
    startWorker();
    const connection = await Connection.connect({ address: `127.0.0.1:${port}` });
    const client = new Client({ connection });
    const start = async (
      request: ReplicateInput,
    ): ReturnType<typeof client.workflow.start<typeof replicateDirectory>> =>
      client.workflow.start<typeof replicateDirectory>('replicateDirectory', {
        workflowId: `outage-${request.transfer.id}-${request.mode}`,
        taskQueue: 'ferry',
        args: [request],
      });
    const there = `{ du -sm '${live.transfer.destination.path}' 2>/dev/null || :; } | cut -f1`;
    const arrived = async (): Promise<number> => Number(await script(mover.destination, there));

    const handle = await start(live);
    await until('something arrived', async () => (await arrived()) > 4);
    await end(server);
    const whenKilled = await arrived();
    await sleep(3000);
    const whileAway = await arrived();
    await startServer();
    const copied = await handle.result();
    const { raw } = await handle.describe();
    const events = (await handle.fetchHistory()).events ?? [];
    const proved = await (await start({ ...live, mode: 'final' })).result();
    const [from, to] = await bothTrees(mover, live);
    await connection.close();

    expect(whileAway).toBeGreaterThan(whenKilled);
    expect(raw.workflowExecutionInfo?.execution?.runId).toBe(handle.firstExecutionRunId);
    expect(copied.passes.length).toBe(2);
    // What had arrived was not sent again.
    expect(copied.passes[0]?.literalBytes).toBeLessThan(28_000_000);
    expect(copied.passes[1]?.literalBytes).toBeLessThan(1_000_000);
    expect(
      events.filter(({ activityTaskScheduledEventAttributes }) => activityTaskScheduledEventAttributes),
    ).toHaveLength(4);
    expect(proved.digest).toMatch(/^sha256:/);
    expect(to).toEqual(from);
    expect(await traces(mover, live)).toBe('');
  });

  async function end(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  }
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new TypeError('no port');
  return address.port;
}
