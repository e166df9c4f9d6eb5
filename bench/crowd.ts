import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import type { ReplicateInput } from '../src/plan/replicate.ts';
import { taskQueue } from '../src/workflows/messages.ts';
import type { TransferOutcome } from '../src/workflows/replicate-messages.ts';
import { freshName, script } from '../test/hosts/machines.ts';
import type { Mover } from '../test/hosts/transfer-setup.ts';
import type { CrowdResult } from './table.ts';

const filesEach = 10;

const program = join(import.meta.dirname, '..', 'dist', 'client', 'bin.js');

/** How deploy/ starts a worker. */
const means = { NODE_OPTIONS: '--max-semi-space-size=2', MALLOC_ARENA_MAX: '2' };

/** Worker of its own, as the package has it: its peak of memory belongs to this crowd. */
function startWorker(): { peakBytes(): Promise<number>; end(): Promise<void> } {
  const child = spawn(process.execPath, [program, 'worker', '--copies-only'], {
    stdio: 'ignore',
    env: { ...process.env, ...means },
  });
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  return {
    async peakBytes() {
      const status = await readFile(`/proc/${child.pid ?? 0}/status`, 'utf8');
      return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? Number.NaN) * 1024;
    },
    async end() {
      child.kill('SIGTERM');
      await gone;
    },
  };
}

/** Small transfers that all begin at once, as workflows, through one worker. Every copy is compared, outside of the time. */
export async function crowd(mover: Mover, count: number, base: string): Promise<CrowdResult> {
  const { source, destination } = mover;
  const name = freshName('crowd');
  const tree = `${base}/${name}`;
  await script(
    source,
    `mkdir -p '${tree}'; cd '${tree}'; for i in $(seq ${count}); do mkdir $i; for j in $(seq ${filesEach}); do head -c 4096 /dev/urandom >$i/$j; done; done`,
    { timeout: 600_000 },
  );
  const requests = await Promise.all(
    Array.from({ length: count }, async (_, index): Promise<ReplicateInput> => {
      const id = `${name}-${index + 1}`;
      return mover.request(id, {
        maxPasses: 1,
        transfer: {
          id,
          subject: { type: 'host-service', service: id },
          source: { host: source.host.name, path: `${tree}/${index + 1}` },
          destination: { host: destination.host.name, path: `${tree}/${index + 1}` },
        },
      });
    }),
  );
  const connection = await Connection.connect({ address: process.env['TEMPORAL_ADDRESS'] ?? '' });
  const client = new Client({ connection });
  const worker = startWorker();
  try {
    const begin = performance.now();
    const handles = await Promise.all(
      requests.map(async (request) =>
        client.workflow.start('replicateDirectory', { taskQueue, workflowId: request.transfer.id, args: [request] }),
      ),
    );
    const ends = await Promise.all(
      handles.map(async (handle) => {
        const outcome = (await handle.result()) as TransferOutcome;
        if (outcome.passes.length !== 1) throw new Error(`${outcome.id} took ${outcome.passes.length} passes`);
        return performance.now() - begin;
      }),
    );
    const peakBytes = await worker.peakBytes();
    const described = await Promise.all(handles.map(async (handle) => handle.describe()));
    await prove(mover, tree);
    const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
    return {
      count,
      seconds: Math.max(...ends) / 1000,
      peakBytes,
      events: sum(described.map(({ historyLength }) => historyLength)) / count,
      historyBytes: sum(described.map(({ historySize }) => historySize ?? Number.NaN)) / count,
    };
  } finally {
    await worker.end();
    await connection.close();
    for (const machine of [source, destination]) await script(machine, `rm -rf '${tree}'`, { timeout: 600_000 });
  }
}

async function prove({ source, destination }: Mover, tree: string): Promise<void> {
  const digest = `cd '${tree}'; find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum`;
  const [left, right] = await Promise.all(
    [source, destination].map(async (machine) => script(machine, digest, { timeout: 600_000 })),
  );
  if (left !== right) throw new Error('the copies are not equal');
}
