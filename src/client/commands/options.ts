import { Argument, Command, InvalidArgumentError, Option } from 'commander';

/*
 * Options and their values, as several commands take them. What stands in this folder is loaded for every command line, also for --help
 * and for completion: it imports nothing that takes time to load. The work of a command is loaded when the command runs.
 */

export const outputFormats = ['table', 'json', 'yaml'] as const;
export type OutputFormat = (typeof outputFormats)[number];

/** `-o, --output json|yaml|table`. */
export function outputOption(fallback: OutputFormat = 'table'): Option {
  return new Option('-o, --output <format>', 'how to print').choices(outputFormats).default(fallback);
}

/** An argument that is one of some words. A word that is nearly one of them is asked about, as a command is. */
export function oneOf(flags: string, description: string, words: readonly string[]): Argument {
  return new Argument(flags, description).choices(words).argParser((word: string) => {
    if (words.includes(word)) return word;
    throw new InvalidArgumentError(`Allowed choices are ${words.join(', ')}.${suggestion(word, words)}`);
  });
}

/** What commander says of a command that is nearly right; it has no other door to that. */
function suggestion(word: string, words: readonly string[]): string {
  const commands = new Command()
    .helpCommand(false)
    .exitOverride()
    .configureOutput({ writeErr: () => undefined });
  for (const name of words) commands.command(name);
  try {
    commands.parse([word], { from: 'user' });
  } catch (error) {
    return /\n\(Did you mean .*\)/.exec(error instanceof Error ? error.message : '')?.[0] ?? '';
  }
  return '';
}

/** Options of commands that look at the cluster alone. */
export function withClusterOptions(command: Command): Command {
  return command.option('--kubeconfig <file>', 'kubeconfig of the platform (default: KUBECONFIG, ~/.kube/config)');
}

/** Options of commands that look at cluster and machines. */
export function withPlatformOptions(command: Command): Command {
  return withClusterOptions(command).addOption(
    new Option('--ssh-identity <file>', 'private key that opens the machines').env('FERRY_SSH_IDENTITY'),
  );
}

/** Of an option that may be repeated. */
export function collect(value: string, before: string[] = []): string[] {
  return [...before, value];
}

/** Of an option `NAME=VALUE` that may be repeated. */
export function collectPairs(text: string, before: Record<string, string> = {}): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1 || at === text.length - 1) throw new InvalidArgumentError('It must be NAME=VALUE.');
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

export function wholeNumber(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('It must be a whole number.');
  return Number(text);
}

export function portNumber(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port < 1 || port > 65535) throw new InvalidArgumentError('It must be a port, 1 to 65535.');
  return port;
}
