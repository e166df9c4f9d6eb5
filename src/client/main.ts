import { Command, CommanderError, Option } from 'commander';
import { version } from '../version.ts';
import { breakGlassCommand } from './commands/break-glass.ts';
import { checkCommand } from './commands/check.ts';
import { codecServerCommand } from './commands/codec-server.ts';
import { pcError } from './colors.ts';
import { completionCommand } from './commands/completion.ts';
import { copyCommand } from './commands/copy.ts';
import {
  abortCommand,
  approveCommand,
  pauseCommand,
  rejectCommand,
  resumeCommand,
  tuneCommand,
} from './commands/decide.ts';
import { devCommand } from './commands/dev.ts';
import { diffCommand } from './commands/diff.ts';
import { exitCodes } from './errors.ts';
import { planCommand } from './commands/plan.ts';
import { reportCommand } from './commands/report.ts';
import { schemaCommand } from './commands/schema.ts';
import { startCommand } from './commands/start.ts';
import { statusCommand } from './commands/status.ts';
import { watchCommand } from './commands/watch.ts';
import { workerCommand } from './commands/worker.ts';

const environment = `
Temporal is found by its own conventions (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY, TEMPORAL_TLS_*, TEMPORAL_PROFILE,
temporal.toml), the cluster by KUBECONFIG, machines by FERRY_SSH_IDENTITY and FERRY_KNOWN_HOSTS. FERRY_USER is who decides.`;

/** The whole command line. Every command is one file of `commands/`; its work is loaded when it runs. */
export function createProgram(): Command {
  const program = new Command('ferry')
    .description('Moves a stateful platform to new machines inside one maintenance window.')
    .version(version, '-V, --version')
    .option('-q, --quiet', 'print results only, no progress and no hints')
    .option('--profile <name>', 'profile of temporal.toml')
    .option('--address <host:port>', 'address of Temporal')
    .option('--namespace <name>', 'namespace in Temporal')
    .addOption(
      new Option('--codec-keys-file <file>', 'key ring that encrypts payloads, for worker and CLI alike').env(
        'FERRY_CODEC_KEYS_FILE',
      ),
    )
    .option('--no-color', 'no colours (so does NO_COLOR=1)')
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError('Nothing was done.\nNext: ferry --help')
    .configureOutput({
      outputError: (text, write) => {
        write(text.replace(/^error:/, pcError.red('ferry:')));
      },
    })
    .addHelpText(
      'after',
      `${environment}

Examples:
  $ ferry plan --map old1=new1,old2=new2,old3=new3 -o yaml > plan.yaml
  $ ferry check plan.yaml
  $ ferry start plan.yaml
  $ ferry watch
  $ ferry approve open-downtime --reason "window open"

Exit codes:
${exitCodeTable()}`,
    );
  program.commandsGroup('Before:');
  for (const command of [planCommand(), checkCommand(), diffCommand(), startCommand()]) add(program, command);
  program.commandsGroup('During:');
  for (const command of [watchCommand(), statusCommand(), approveCommand(), rejectCommand()]) add(program, command);
  for (const command of [pauseCommand(), resumeCommand(), abortCommand(), tuneCommand()]) add(program, command);
  add(program, breakGlassCommand());
  program.commandsGroup('After:');
  add(program, reportCommand());
  program.commandsGroup('Running it:');
  for (const command of [
    workerCommand(),
    devCommand(),
    codecServerCommand(),
    copyCommand(),
    schemaCommand(),
    completionCommand(createProgram),
  ]) {
    add(program, command);
  }
  return program;
}

function add(program: Command, command: Command): void {
  command.copyInheritedSettings(program);
  command.showHelpAfterError(`Nothing was done.\nNext: ferry ${command.name()} --help`);
  for (const child of command.commands) child.copyInheritedSettings(program);
  program.addCommand(command);
}

export function exitCodeTable(): string {
  return Object.values(exitCodes)
    .map(({ code, meaning }) => `  ${String(code).padEnd(5)}${meaning}`)
    .join('\n');
}

/** Commands that follow or serve: without a reader they would do so for nobody. */
const endless: ReadonlySet<string> = new Set(['watch', 'worker', 'dev', 'codec-server', 'copy']);

/** Runs one command line; answers its exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  const program = createProgram();
  let isEndless = false;
  program.hook('preAction', (_, command) => {
    isEndless = endless.has(command.name());
  });
  // A reader that has seen enough, like `head`, is no failure of ours, and hides none: what comes to an end goes on to its exit code.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    if (isEndless) process.exit(exitCodes.ok.code);
  });
  for (const command of [program, ...program.commands, ...program.commands.flatMap((child) => child.commands)]) {
    command.exitOverride();
  }
  try {
    await program.parseAsync(argv, { from: 'user' });
    return typeof process.exitCode === 'number' ? process.exitCode : exitCodes.ok.code;
  } catch (error) {
    return await report(error);
  }
}

async function report(error: unknown): Promise<number> {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok.code : exitCodes.usage.code;
  const { explain } = await import('./explain.ts');
  const known = explain(error);
  if (known === undefined) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.stderr.write(`${pcError.red('ferry: this should not have happened')}\n${text}\n`);
    return exitCodes.failure.code;
  }
  process.stderr.write(`${pcError.red('ferry:')} ${known.message}\n`);
  if (known.next !== undefined) process.stderr.write(`Next: ${known.next}\n`);
  if (process.env['FERRY_DEBUG'] === '1')
    process.stderr.write(
      `${known.stack ?? ''}\n${known.cause instanceof Error ? (known.cause.stack ?? known.cause.message) : ''}\n`,
    );
  return exitCodes[known.reason].code;
}
