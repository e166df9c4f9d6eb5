import { once } from 'node:events';
import { createServer, isIP } from 'node:net';
import type { LogLevel } from '@temporalio/worker';
import { Command, InvalidArgumentError, Option } from 'commander';
import { defaultBackupDirectory } from '../plan/plan.ts';
import type { GlobalOptions, TemporalSettings } from './connection.ts';
import { connectClient, temporalSettings } from './connection.ts';
import { CliError } from './errors.ts';
import { readIdentity } from './identity.ts';
import { openCluster } from './platform.ts';

export interface WorkerCommandOptions extends GlobalOptions {
  kubeconfig?: string;
  sshIdentity?: string;
  taskQueue?: string;
  metricsAddress?: string;
  logLevel: 'debug' | 'info' | 'warn' | 'error';
  logFormat: 'text' | 'json';
  backupDirectory?: string;
  backupKeyFile?: string;
  maxActivities: number;
}

export function workerCommand(): Command {
  return withWorkerOptions(new Command('worker'))
    .description('run the worker that does the work; as many as you like, anywhere but on the machines that move')
    .addHelpText(
      'after',
      `
The worker reaches the cluster with a kubeconfig and the machines with one private key. It can be killed and started again at any
moment: copies and applies run on, on the hosts, and the next worker takes up where they are.

Examples:
  $ ferry worker --ssh-identity ~/.ssh/id_ed25519
  $ ferry worker --metrics-address 127.0.0.1:9464 --log-format json`,
    )
    .action(async (_options, command: Command) => {
      const options = command.optsWithGlobals<WorkerCommandOptions>();
      await runWorker(temporalSettings(options), options);
    });
}

/** Options that `ferry worker` and `ferry dev` share. */
export function withWorkerOptions(command: Command): Command {
  return command
    .option('--kubeconfig <file>', 'kubeconfig of the platform (default: KUBECONFIG, ~/.kube/config)')
    .addOption(new Option('--ssh-identity <file>', 'private key that opens the machines').env('FERRY_SSH_IDENTITY'))
    .option('--task-queue <name>', 'task queue', 'ferry')
    .addOption(
      new Option('--metrics-address <host:port>', 'serve Prometheus metrics there')
        .argParser(metricsAddressOf)
        .env('FERRY_METRICS_ADDRESS'),
    )
    .addOption(
      new Option('--log-level <level>', 'least level that is logged')
        .choices(['debug', 'info', 'warn', 'error'])
        .default('info'),
    )
    .addOption(
      new Option('--log-format <format>', 'how to log')
        .choices(['text', 'json'])
        .default(process.stderr.isTTY ? 'text' : 'json', 'text on a terminal, else json'),
    )
    .option('--backup-directory <path>', 'where Secrets are saved on the control host', defaultBackupDirectory)
    .addOption(
      new Option('--backup-key-file <file>', 'file with a 32-byte key that encrypts what is saved').env(
        'FERRY_BACKUP_KEY_FILE',
      ),
    )
    .option('--max-activities <number>', 'activities at the same time', activityCount, 50);
}

function activityCount(text: string): number {
  if (/^[1-9]\d{0,4}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('it must be a whole number, 1 or more.');
}

/** The library that listens takes no names, and ends the process over anything else. */
function metricsAddressOf(text: string): string {
  const [, host = '', port = ''] = /^(.+):(\d{1,5})$/.exec(text) ?? [];
  if (isIP(host.replace(/^\[(.*)\]$/, '$1')) === 0 || Number(port) > 65535) {
    throw new InvalidArgumentError('it must be an IP address and a port, such as 127.0.0.1:9464.');
  }
  return text;
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

/** Runs a worker until it is told to end (SIGINT, SIGTERM). */
export async function runWorker(settings: TemporalSettings, options: WorkerCommandOptions): Promise<void> {
  // All that people can have got wrong is looked at before anything runs.
  const identity = readIdentity(options.sshIdentity);
  const { metricsAddress } = options;
  if (metricsAddress !== undefined) await refuseTaken(metricsAddress);
  openCluster(options.kubeconfig);
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
  const runtime = Runtime.install({
    logger,
    telemetryOptions: {
      logging: { forward: {}, filter: { core: 'WARN', other: 'ERROR' } },
      ...(metricsAddress === undefined ? {} : { metrics: prometheusAt(metricsAddress) }),
    },
  });
  let connection;
  try {
    connection = await NativeConnection.connect(settings.connection);
  } catch (error) {
    throw new CliError(
      'unreachable',
      `Temporal does not answer at ${settings.address}: ${error instanceof Error ? error.message : String(error)}`,
      'check TEMPORAL_ADDRESS or --address; for a server of your own: ferry dev',
      error,
    );
  }
  try {
    const worker = await createFerryWorker({
      connection,
      namespace: settings.namespace,
      dataConverter: settings.dataConverter,
      sshIdentity: identity.file,
      maxActivities: options.maxActivities,
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
