import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { commandLines, documents, simpleCommands } from '../documents/command-lines.ts';
import { development, findServer } from '../temporal-server.ts';

const root = join(import.meta.dirname, '..', '..');
const run = promisify(execFile);

/** Not a command: an option shown alone, and the name under which a cancellation is recorded. */
function isCommand(words: readonly string[]): boolean {
  return !words.includes('…') && words.join(' ') !== 'cancel';
}

/** Lines of blocks, and code spans in the text and in tables. */
const commands = [
  ...new Set(
    documents.flatMap((document) => [
      ...commandLines(document).flatMap(({ line }) => simpleCommands(line)),
      ...[...readFileSync(join(root, document), 'utf8').matchAll(/`(temporal [^`]+)`/g)].flatMap(([, span = '']) =>
        simpleCommands(span),
      ),
    ]),
  ),
].flatMap(([program, ...words]) => (program === 'temporal' && isCommand(words) ? [words] : []));

const unique = [...new Map(commands.map((words) => [words.join(' '), words])).values()];

async function helpOf(...words: string[]): Promise<string> {
  const answer = run(findServer(development), words).catch((error: unknown) => error as { stdout?: string });
  return (await answer).stdout ?? '';
}

/** Asks the real program for the help of a command; answers what is wrong with how it is used. */
async function problemOf(words: readonly string[]): Promise<string | undefined> {
  const end = words.findIndex((word) => word.startsWith('-'));
  const path = end < 0 ? words : words.slice(0, end);
  const own = await helpOf(...path, '--help');
  // A command that does not exist is answered with the help of the one above it.
  const usage = /Usage:\n\s+temporal ([^\n[]*)/.exec(own)?.[1]?.trim() ?? '';
  if (usage !== path.join(' ')) return `there is no temporal ${path.join(' ')} (but ${usage})`;
  const options = `${own}\n${await helpOf('options')}`;
  const unknown = words.filter((word) => {
    const [, long, short] = /^(?:(--[\w-]+)|-(\w))(?:=.*)?$/.exec(word) ?? [];
    if (long !== undefined) return !new RegExp(`${long}(?![\\w-])`).test(options);
    return short !== undefined && !options.includes(`-${short}, --`);
  });
  return unknown.length === 0 ? undefined : `temporal ${path.join(' ')} knows no ${unknown.join(', ')}`;
}

describe('temporal commands in the documents', () => {
  it('are found', () => {
    expect(unique.map((words) => words.slice(0, 2).join(' '))).toEqual(
      expect.arrayContaining([
        'workflow start',
        'workflow signal',
        'workflow update',
        'workflow query',
        'workflow list',
      ]),
    );
  });

  it.each(unique.map((words) => [words.join(' '), words] as const))('temporal %s', async (_line, words) => {
    expect(await problemOf(words)).toBeUndefined();
  });

  it.each([
    ['workflow sginal --workflow-id x', /there is no temporal workflow sginal/],
    ['workflow signal --workflow x', /knows no --workflow/],
    ['workflow list --filter x', /knows no --filter/],
  ])('would not pass: temporal %s', async (line, why) => {
    expect(await problemOf(line.split(' '))).toMatch(why);
  });
});
