import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { CommanderError } from 'commander';
import { describe, expect, it } from 'vitest';
import { createProgram } from '../../../src/client/main.ts';

const root = join(import.meta.dirname, '..', '..', '..');
const documents = [
  'README.md',
  'README.zh-CN.md',
  ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`),
].filter((name) => name.endsWith('.md') && existsSync(join(root, name)));

/** Command lines as people copy them: indented or fenced lines and code spans that begin with `ferry`. */
function commandsOf(markdown: string): string[] {
  const lines = markdown.split('\n').flatMap((line) => {
    const shell = /^\s*(?:\$ )?(?:npm run -s lab -- run )?(?<command>ferry(?: .*)?)$/.exec(line);
    const spans = [...line.matchAll(/`(?<command>ferry(?: [^`]*)?)`/g)];
    return [...(shell === null ? [] : [shell]), ...spans].map((match) => match.groups?.['command'] ?? '');
  });
  return lines.filter((line) => /^ferry( |$)/.test(line));
}

/** Words of one command as a shell sees them: up to a comment, a pipe, a redirection or the next command. */
function wordsOf(command: string): string[] {
  const words: string[] = [];
  for (const [word] of command.matchAll(/(?:[^\s"']|"[^"]*"|'[^']*')+/g)) {
    if (/^(?:#|[|>;]|&&)/.test(word)) break;
    words.push(word.replaceAll(/["']/g, ''));
  }
  return words.slice(1);
}

/** Has a command line parsed by the real program, with every action replaced: answers what would run, or what is wrong. */
async function parse(words: readonly string[]): Promise<string> {
  const program = createProgram();
  const quiet = { writeOut: () => undefined, writeErr: () => undefined };
  let ran = '';
  const prepare = (command: Command): void => {
    command.exitOverride().configureOutput(quiet);
    if (command.commands.length === 0) command.action(() => void (ran = command.name()));
    command.commands.forEach(prepare);
  };
  prepare(program);
  try {
    await program.parseAsync([...words], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? error.code : error.message;
  }
  return ran;
}

/** A command that is only named, like `ferry start`, needs no arguments; neither does one that is cut short. */
function isOnlyNamed(words: readonly string[]): boolean {
  return words.length <= 1 || words.includes('…');
}

const cases = documents.flatMap((document) =>
  [...new Set(commandsOf(readFileSync(join(root, document), 'utf8')))].map((command) => [document, command] as const),
);

describe('commands in the documents', () => {
  it('are found in every document that an operator reads', () => {
    for (const document of ['README.md', 'README.zh-CN.md', 'docs/operate.md', 'docs/reference.md'])
      expect(cases.filter(([name]) => name === document).length).toBeGreaterThan(4);
  });

  it.each(cases)('%s: %s', async (_document, command) => {
    const words = wordsOf(command);
    const answer = await parse(words);
    const names = createProgram().commands.map((child) => child.name());

    if (isOnlyNamed(words)) {
      expect(answer).not.toMatch(/unknown (command|option)/);
      const [first] = words;
      if (first !== undefined && !first.startsWith('-')) expect(names).toContain(first);
      return;
    }
    expect([...names, 'commander.helpDisplayed', 'commander.version']).toContain(answer);
  });

  it.each([
    ['ferry migrate plan.yaml', /unknown command/],
    ['ferry approve open-downtime --because x', /unknown option/],
    ['ferry approve open-sesame --reason "x"', /Allowed choices/],
    ['ferry tune --limit fast', /whole number/],
    ['ferry copy onlyone', /missing required argument/],
  ])('would not pass: %s', async (command, why) => {
    expect(await parse(wordsOf(command))).toMatch(why);
  });
});
