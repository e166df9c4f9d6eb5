import { createInterface } from 'node:readline/promises';
import { CliError } from './errors.ts';

/**
 * Says what will happen and asks. `--yes` answers for scripts; without a terminal and without `--yes` nothing is done. The question goes
 * to stderr: stdout belongs to results.
 */
export async function confirm(what: string, yes: boolean): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY) {
    throw new CliError(
      'usage',
      `${what}\nThis asks for a confirmation, and there is no terminal to ask on; nothing was done`,
      'add --yes',
    );
  }
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await prompt.question(`${what}\nGo on? [y/N] `);
    if (!/^(y|yes)$/i.test(answer.trim())) throw new CliError('failure', 'not confirmed; nothing was done');
  } finally {
    prompt.close();
  }
}

/** One line from a person; throws without a terminal. */
export async function ask(question: string, missing: string): Promise<string> {
  if (!process.stdin.isTTY) throw new CliError('usage', missing);
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = (await prompt.question(question)).trim();
    if (answer === '') throw new CliError('usage', missing);
    return answer;
  } finally {
    prompt.close();
  }
}
