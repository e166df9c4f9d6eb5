import { hostname, userInfo } from 'node:os';
import { Client, Connection } from '@temporalio/client';
import type { ConnectionOptions } from '@temporalio/client';
import type { DataConverter } from '@temporalio/common';
import { loadClientConnectConfig } from '@temporalio/envconfig';
import { createDataConverter } from '../codec/data-converter.ts';
import { CliError } from './errors.ts';

/** Options that every command understands. */
export interface GlobalOptions {
  quiet?: boolean;
  profile?: string;
  address?: string;
  namespace?: string;
  codecKeysFile?: string;
}

export interface TemporalSettings {
  address: string;
  namespace: string;
  /** As both the client and the worker take them. */
  connection: ReturnType<typeof loadClientConnectConfig>['connectionOptions'];
  /** Seals payloads when a key ring is named. */
  dataConverter: DataConverter;
}

/** Where Temporal is, by its own conventions: TEMPORAL_* variables and the profiles of temporal.toml; options come first. */
export function temporalSettings(options: GlobalOptions): TemporalSettings {
  const config = readConfig(options.profile);
  const address = options.address ?? config.connectionOptions.address ?? 'localhost:7233';
  return {
    address,
    namespace: options.namespace ?? config.namespace ?? 'default',
    connection: { ...config.connectionOptions, address },
    dataConverter: createDataConverter(options.codecKeysFile),
  };
}

function readConfig(profile: string | undefined): ReturnType<typeof loadClientConnectConfig> {
  try {
    return loadClientConnectConfig(profile === undefined ? {} : { profile });
  } catch (error) {
    throw new CliError(
      'usage',
      `the configuration of Temporal cannot be used: ${error instanceof Error ? error.message : String(error)}`,
      'temporal config list',
      error,
    );
  }
}

/** What the server records beside a decision: the account that the program runs under, whatever name the decision bears. */
export function clientIdentity(env: NodeJS.ProcessEnv = process.env): string {
  const behind = env['SUDO_USER'] ?? '';
  return `ferry:${account()}${behind === '' ? '' : ` (sudo by ${behind})`}@${hostname()}`;
}

/** A container may run under a number that has no name. */
function account(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? '?'}`;
  }
}

/** Who decides, unless a command says otherwise: FERRY_USER, else the user behind sudo, else the user. */
export function personName(env: NodeJS.ProcessEnv = process.env): string {
  return (
    [env['FERRY_USER'], env['SUDO_USER'], env['USER']].find((name) => name !== undefined && name !== '') ?? account()
  );
}

/** Connects, does the work, and closes the connection again. */
export async function withClient<T>(options: GlobalOptions, work: (client: Client) => Promise<T>): Promise<T> {
  const client = await connectClient(temporalSettings(options));
  try {
    return await work(client);
  } finally {
    await client.connection.close();
  }
}

/** What is said when no connection to Temporal comes about. */
export function unreachable(settings: TemporalSettings, error: unknown): CliError {
  return new CliError(
    'unreachable',
    `Temporal does not answer at ${settings.address}: ${error instanceof Error ? error.message : String(error)}`,
    'check TEMPORAL_ADDRESS or --address; for a server of your own: ferry dev',
    error,
  );
}

export async function connectClient(settings: TemporalSettings): Promise<Client> {
  let connection: Connection;
  try {
    connection = await Connection.connect({ ...clientOptions(settings), connectTimeout: '5s' });
  } catch (error) {
    throw unreachable(settings, error);
  }
  const { namespace, dataConverter } = settings;
  return new Client({ connection, namespace, dataConverter, identity: clientIdentity() });
}

/** The parts of the settings that client and worker read alike. */
function clientOptions({ connection }: TemporalSettings): ConnectionOptions {
  const { address, tls, apiKey, metadata } = connection;
  return {
    ...(address !== undefined && { address }),
    ...(tls !== undefined && { tls }),
    ...(apiKey !== undefined && { apiKey }),
    ...(metadata !== undefined && { metadata }),
    // By itself the channel tries a server that is away at ever longer pauses, up to two minutes: watching would be blind for as long.
    channelArgs: { 'grpc.initial_reconnect_backoff_ms': 500, 'grpc.max_reconnect_backoff_ms': 3000 },
  };
}
