import { quote, UnquotableArgument } from '../hosts/quote.ts';

/*
 * Commands that a message offers to be copied. They are not run here, so what cannot be quoted must not end the message: its reader is
 * led to the machine then, without the word.
 */

/** One word of a command line for people. */
export function shellWord(text: string): string {
  try {
    return quote(text);
  } catch (error) {
    if (error instanceof UnquotableArgument) return '…';
    throw error;
  }
}

/** Runs argv on a machine, as a person types it: quoted for the shell there and once more for the one here. */
export function sshCommand(host: string, argv: readonly string[]): string {
  try {
    return `ssh ${quote(host)} ${quote(argv.map((word) => quote(word)).join(' '))}`;
  } catch (error) {
    if (error instanceof UnquotableArgument) return `ssh ${shellWord(host)}`;
    throw error;
  }
}
