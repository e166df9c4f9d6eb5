import { pc } from './colors.ts';
import type { OutputFormat } from './commands/options.ts';
import type { GlobalOptions } from './connection.ts';
import { withClient } from './connection.ts';
import { exitCodes } from './errors.ts';
import type { ServerView } from './migrations.ts';
import { describeMigration, findMigration, isBrokenOff, isEnded, readProgress, readStatus } from './migrations.ts';
import { print, terminalSize } from './output.ts';
import { renderStatus } from './view.ts';

interface StatusOptions extends GlobalOptions {
  output: OutputFormat;
}

/** `ferry status`. */
export async function showStatus(named: string | undefined, options: StatusOptions): Promise<void> {
  await withClient(options, async (client) => {
    const handle = await findMigration(client, named, true);
    const server = await describeMigration(handle);
    const status = await readStatus(client, handle, server.execution, 8000);
    const isBroken = isBrokenOff(server.execution, status?.state);
    if (isBroken) process.exitCode = exitCodes.failure.code;
    if (status === undefined) {
      // Scripts must not take the little that the server knows for the status.
      if (!isEnded(server.execution)) process.exitCode = exitCodes.unreachable.code;
      const worker = server.workerFails === undefined ? 'does not answer' : 'fails';
      print({ ...server, ...(isEnded(server.execution) ? {} : { worker }) }, options.output, () =>
        describeServerView(server, options.quiet),
      );
      return;
    }
    const progress = await readProgress(client, status);
    const { workflowId, execution, retries } = server;
    const told = {
      ...{ workflowId, execution, ...(retries === undefined ? {} : { retries }), ...status },
      // A script that asks for the state or the gate alone must not wait for people.
      ...(isBroken ? { state: execution.toLowerCase(), awaitingGate: undefined, brokenOff } : {}),
    };
    print(told, options.output, () =>
      renderStatus(status, {
        workflowId,
        ...(isBroken ? { brokenOff: { execution, text: brokenOff } } : {}),
        now: Date.now(),
        // What is cut in a file or a pipe is lost.
        columns: process.stdout.isTTY ? terminalSize().columns : Infinity,
        progress,
        ...(retries === undefined ? {} : { retries }),
        quiet: options.quiet ?? false,
      }).join('\n'),
    );
  });
}

/** A workflow that was ended from outside leaves the platform as it was at that moment. */
export const brokenOff =
  'It did not come to its own end. Where the platform stands, and the way back: ferry break-glass';

/** Why nobody tells the status of a migration that runs, and what helps. */
export function missingWorker({ workerFails }: Pick<ServerView, 'workerFails'>): string {
  return workerFails === undefined
    ? 'No worker answers; copies and applies run on, on the hosts. Start one: ferry worker'
    : `The worker cannot go on (${workerFails}); copies and applies run on, on the hosts. ${/encrypted/.test(workerFails) ? 'Give it the keys of the payloads: ferry worker --codec-keys-file FILE' : 'Run the version of ferry that began it'}`;
}

/** All that is known when no worker tells more. */
export function describeServerView(server: ServerView, quiet = false): string {
  const gate = server.awaitingGate === undefined ? '' : `, gate ${server.awaitingGate}`;
  const what = isEnded(server.execution)
    ? `The migration has ended. What happened stands in: ferry report ${server.workflowId}${server.execution === 'COMPLETED' ? '' : `\n${brokenOff}`}`
    : `${missingWorker(server)}. This is what the server last knew.`;
  return [
    `${pc.bold(server.workflowId)}  ${server.execution}  ${server.phase ?? ''}${gate}`.trimEnd(),
    ...(quiet ? [] : [pc.yellow(what)]),
  ].join('\n');
}
