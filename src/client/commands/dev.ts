import { Command } from 'commander';
import { portNumber } from './options.ts';
import { withWorkerOptions } from './worker.ts';

export function devCommand(): Command {
  return withWorkerOptions(new Command('dev'))
    .description('Temporal server with a file database, Web UI and worker, all in one command')
    .option('--database <file>', 'where the history is kept (default: $XDG_STATE_HOME/proton-ferry/temporal.db)')
    .option('--ip <address>', 'address to listen on', '127.0.0.1')
    .option('--port <number>', 'port of the server', portNumber, 7233)
    .option('--ui-port <number>', 'port of the Web UI', portNumber, 8233)
    .option('--no-worker', 'server and Web UI only')
    .addHelpText(
      'after',
      `
The server is Temporal's own development server, part of the Temporal CLI: \`temporal\` on PATH, or where its installers put it
(~/.temporalio/bin, ~/.local/bin). It keeps its history over restarts, has no authentication, and is meant for one operator; for a
team see docker-compose.temporal.yml.

Examples:
  $ ferry dev --ssh-identity ~/.ssh/id_ed25519
  $ ferry dev --no-worker --ui-port 8080`,
    )
    .action(async (_options, command: Command) => {
      const { runDev } = await import('../dev.ts');
      await runDev(command.optsWithGlobals());
    });
}
