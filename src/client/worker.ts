import { once } from 'node:events';
import { createServer } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import type { LogLevel } from '@temporalio/worker';
import { readKey } from '../activities/backup-cipher.ts';
import { environmentTargets, targetPrefix } from '../activities/notify.ts';
import { defaultBackupDirectory } from '../plan/names.ts';
import type { GlobalOptions, TemporalSettings } from './connection.ts';
import { connectClient, temporalSettings, unreachable } from './connection.ts';
import { endSignals, ignoreTwins } from './end-signals.ts';
import { CliError } from './errors.ts';
import type { Identity } from './identity.ts';
import { readIdentity } from './identity.ts';

export interface WorkerCommandOptions extends GlobalOptions {
  kubeconfig?: string;
  copiesOnly?: boolean;
  sshIdentity?: string;
  taskQueue?: string;
  metricsAddress?: string;
  logLevel: 'debug' | 'info' | 'warn' | 'error';
  logFormat: 'text' | 'json';
  backupDirectory?: string;
  backupKeyFile?: string;
  maxActivities: number;
}

/** `ferry worker`. */
export async function startWorker(options: WorkerCommandOptions): Promise<void> {
  await runWorker(temporalSettings(options), options);
}

async function refuseTaken(address: string): Promise<void> {
  const at = address.lastIndexOf(':');
  const server = createServer();
  server.listen(Number(address.slice(at + 1)), address.slice(0, at).replace(/^\[(.*)\]$/, '$1'));
  try {
    await once(server, 'listening');
  } catch (error) {
    throw new CliError(
      'failure',
      `metrics cannot be served at ${address}: ${error instanceof Error ? error.message : String(error)}`,
      'choose another --metrics-address',
      error,
    );
  }
  server.close();
  await once(server, 'close');
}

/** All that people can have got wrong is looked at before anything runs, not on the night it is needed. */
export async function readMeans(options: WorkerCommandOptions): Promise<Identity> {
  const identity = readIdentity(options.sshIdentity);
  if (options.metricsAddress !== undefined) await refuseTaken(options.metricsAddress);
  if (options.copiesOnly !== true) {
    const { openCluster } = await import('./platform.ts');
    openCluster(options.kubeconfig);
  }
  if (options.backupKeyFile !== undefined) await refuseUnusableKey(options.backupKeyFile);
  await refuseUnusableTargets(process.env);
  return identity;
}

async function refuseUnusableKey(file: string): Promise<void> {
  try {
    await readKey(file);
  } catch (error) {
    throw new CliError(
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'notFound' : 'usage',
      `the key of the backup cannot be used: ${error instanceof Error ? error.message : String(error)}; nothing was started`,
      `openssl rand -hex 32 > ${file}`,
      error,
    );
  }
}

/** The addresses are secrets: only the names of the variables are told. */
async function refuseUnusableTargets(env: NodeJS.ProcessEnv): Promise<void> {
  const targets = environmentTargets(env);
  for (const variable of Object.keys(env).filter((name) => name.startsWith(targetPrefix))) {
    try {
      await targets(variable.slice(targetPrefix.length));
    } catch (error) {
      throw new CliError(
        'usage',
        `${variable} cannot be used: ${error instanceof Error ? error.message : String(error)}; nothing was started`,
        `${variable}=slack:https://… or ${variable}=file:/path of a file that holds it`,
        error,
      );
    }
  }
}

/** Runs a worker until it is told to end. */
export async function runWorker(settings: TemporalSettings, options: WorkerCommandOptions): Promise<void> {
  const identity = await readMeans(options);
  const { metricsAddress } = options;
  // A worker waits more than it computes: heaps that stay small save a quarter of its memory. Before the thread of the workflows starts.
  setFlagsFromString('--optimize-for-size');
  // The native library and the workflow bundler take a second to load: only this command needs them.
  const [
    { NativeConnection, Runtime },
    { createFerryWorker, workerIdentity },
    { createLogger },
    { prometheusAt, serveMetrics },
  ] = await Promise.all([
    import('@temporalio/worker'),
    import('../worker.ts'),
    import('./log.ts'),
    import('../metrics.ts'),
  ]);
  const logger = createLogger({
    level: options.logLevel.toUpperCase() as LogLevel,
    format: options.logFormat,
    write: (line) => process.stderr.write(line),
  });
  ignoreTwins();
  const runtime = Runtime.install({
    logger,
    shutdownSignals: [...endSignals],
    telemetryOptions: {
      logging: { forward: {}, filter: { core: 'WARN', other: 'ERROR' } },
      ...(metricsAddress === undefined ? {} : { metrics: prometheusAt(metricsAddress) }),
    },
  });
  let connection;
  try {
    connection = await NativeConnection.connect(settings.connection);
  } catch (error) {
    throw unreachable(settings, error);
  }
  try {
    const worker = await createFerryWorker({
      connection,
      namespace: settings.namespace,
      dataConverter: settings.dataConverter,
      sshIdentity: identity.file,
      maxActivities: options.maxActivities,
      copiesOnly: options.copiesOnly ?? false,
      backup: {
        directory: options.backupDirectory ?? defaultBackupDirectory,
        ...(options.backupKeyFile === undefined ? {} : { keyFile: options.backupKeyFile }),
      },
      ...(options.taskQueue === undefined ? {} : { taskQueue: options.taskQueue }),
      ...(options.kubeconfig === undefined ? {} : { kubeconfig: options.kubeconfig }),
      ...(identity.passphrase === undefined ? {} : { sshPassphrase: identity.passphrase }),
    });
    logger.info(
      `${workerIdentity()} serves task queue ${options.taskQueue ?? 'ferry'} at ${settings.address}, namespace ${settings.namespace}`,
    );
    if (metricsAddress === undefined) {
      await worker.run();
      return;
    }
    const ended = new AbortController();
    const client = await connectClient(settings);
    const served = serveMetrics({
      client,
      meter: runtime.metricMeter,
      taskQueue: options.taskQueue ?? 'ferry',
      onTrouble: (message) => {
        logger.warn(`the figures of the migrations are not current: ${message}`);
      },
      signal: ended.signal,
    });
    try {
      await worker.run();
    } finally {
      ended.abort();
      await served;
      await client.connection.close();
    }
  } finally {
    await connection.close();
  }
}
