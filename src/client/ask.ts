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
  const answer = await answerTo(`${what}\nGo on? [y/N] `);
  if (!/^(y|yes)$/i.test(answer)) throw new CliError('failure', 'not confirmed; nothing was done');
}

/** One line from a person; throws without a terminal. */
export async function ask(question: string, missing: string): Promise<string> {
  if (!process.stdin.isTTY) throw new CliError('usage', missing);
  const answer = await answerTo(question);
  if (answer === '') throw new CliError('usage', missing);
  return answer;
}

/** What was typed; nothing where the input ended (Ctrl-D). Ctrl-C at a question ends the command. */
async function answerTo(question: string): Promise<string> {
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await prompt.question(question)).trim();
  } catch (error) {
    if (!(error instanceof Error) || error.name !== 'AbortError') throw error;
    // The cursor still stands behind the question.
    process.stderr.write('\n');
    if (error.message.includes('Ctrl+C'))
      throw new CliError('interrupted', 'stopped; nothing was done', undefined, error);
    return '';
  } finally {
    prompt.close();
  }
}
