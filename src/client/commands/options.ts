import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';

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
