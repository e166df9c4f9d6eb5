import type { Client } from '@temporalio/client';
import { isGrpcServiceError } from '@temporalio/client';
import { tsToMs } from '@temporalio/common/lib/time.js';
import type { LogLevel } from '@temporalio/worker';
import type { TemporalSettings } from './connection.ts';
import { unreachable } from './connection.ts';
import type { Identity } from './identity.ts';

/* Whether somebody runs a worker, and one inside of a command for a copy where nobody does. */

/** A worker asks for work once a minute at least. The server names those that are gone for some minutes more. */
const heardWithin = 90_000;

/** No worker has asked for work lately; false also where nobody may know. */
export async function isUnserved(client: Client, taskQueue: string): Promise<boolean> {
  try {
    const { pollers } = await client.workflowService.describeTaskQueue({
      namespace: client.options.namespace,
      taskQueue: { name: taskQueue },
    });
    return pollers.every(({ lastAccessTime: at }) => {
      const isKnown = at !== undefined && at !== null;
      return isKnown && Date.now() - tsToMs(at) > heardWithin;
    });
  } catch (error) {
    if (isGrpcServiceError(error)) return false;
    throw error;
  }
}

export interface OwnWorker {
  /** Lets go of what runs on the machines, which goes on. */
  end(): Promise<void>;
}

/** Starts a worker that copies directories and nothing else, and says nothing but errors. */
export async function startOwnWorker(
  settings: TemporalSettings,
  identity: Identity,
  taskQueue: string,
): Promise<OwnWorker> {
  const [{ NativeConnection, Runtime }, { createFerryWorker }, { createLogger }] = await Promise.all([
    import('@temporalio/worker'),
    import('../worker.ts'),
    import('./log.ts'),
  ]);
  const level: LogLevel = 'ERROR';
  Runtime.install({
    logger: createLogger({ level, format: 'text', write: (line) => process.stderr.write(line) }),
    telemetryOptions: { logging: { forward: {}, filter: { core: level, other: level } } },
    // The command itself hears of Ctrl-C.
    shutdownSignals: [],
  });
  const connection = await NativeConnection.connect(settings.connection).catch((error: unknown) => {
    throw unreachable(settings, error);
  });
  const worker = await createFerryWorker({
    connection,
    namespace: settings.namespace,
    dataConverter: settings.dataConverter,
    taskQueue,
    copiesOnly: true,
    // Somebody waits at the prompt.
    graceSeconds: 1,
    sshIdentity: identity.file,
    ...(identity.passphrase === undefined ? {} : { sshPassphrase: identity.passphrase }),
  });
  const running = worker.run();
  // Whoever ends it hears of it.
  running.catch(() => undefined);
  return {
    async end() {
      worker.shutdown();
      await running;
      await connection.close();
    },
  };
}
