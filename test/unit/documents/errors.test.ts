import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { failureTables, hasWords } from '../../documents/reference.ts';
import { failureRows } from '../../documents/source.ts';

const root = join(import.meta.dirname, '..', '..', '..');
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

/** Every text that the sources can say, with `…` for what is filled in. */
function sentencesOf(source: string): string[] {
  return [...source.matchAll(/`(?<template>(?:[^`\\]|\\.)*)`|'(?<plain>(?:[^'\\\n]|\\.)*)'/g)].map(({ groups }) =>
    (groups?.['template'] ?? groups?.['plain'] ?? '').replaceAll(/\$\{(?:[^{}]|\{[^{}]*\})*\}/g, '…'),
  );
}

/** Whether a sentence of a document, in which `…` stands for anything, is one that a source says. */
function isSaid(answer: string, sentences: readonly string[]): boolean {
  const pieces = answer.split('…').map((piece) => piece.trim().replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`));
  const pattern = new RegExp(pieces.join('.*'), 's');
  return sentences.some((sentence) => pattern.test(sentence));
}

/** Code spans in the first column of the table below a heading. */
function answersBelow(heading: string, text: string): string[] {
  const section = text.slice(text.indexOf(`\n### ${heading}\n`)).split(/\n##+ /)[1] ?? '';
  const cells = section.split('\n').flatMap((line) => /^\| (.*?[^\\]) +\|/.exec(line)?.[1] ?? []);
  return cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, answer = '']) => answer));
}

const workflows = sentencesOf(['gates', 'decisions'].map((name) => read(`src/workflows/${name}.ts`)).join('\n'));
const answers = answersBelow('Refusals', read('docs/reference.md'));

describe('refusals in the reference', () => {
  it('are found', () => {
    expect(answers.length).toBeGreaterThan(12);
  });

  it.each(answers)('%s is what the workflow says', (answer) => {
    expect(isSaid(answer, workflows)).toBe(true);
  });

  it('would be found when the workflow says something else', () => {
    expect(isSaid('gate … is closed on Sundays', workflows)).toBe(false);
    expect(isSaid('… wrote the plan and may not approve it', workflows)).toBe(true);
  });

  it('are all there: whatever refuses a decision stands in the table', () => {
    const [body = ''] = /export function refusal\([\s\S]*?(?=\/\*\* The state after a decision)/.exec(
      read('src/workflows/gates.ts'),
    ) ?? [''];
    // What begins with a semicolon goes on with a sentence that stands alone elsewhere.
    const said = sentencesOf(body).filter((sentence) => / .* /.test(sentence) && !sentence.startsWith('…;'));
    const missing = said.filter((sentence) => !answers.some((answer) => isSaid(answer, [sentence])));

    expect(said.length).toBeGreaterThan(10);
    expect(missing).toEqual([]);
  });
});

describe('the list of all failures', () => {
  const list = read('docs/errors.md');
  const folders = ['src/activities', 'src/workflows', 'src/workflows/phases'];
  const files = folders.flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith('.ts') && name !== 'apply-failures.ts')
      .map((name) => `${folder}/${name}`),
  );
  const built = (type: string): number =>
    files.flatMap((file) => [...read(file).matchAll(new RegExp(`(?<![\\w.])${type}\\(\\s*\\{`, 'g'))]).length;

  it.each([
    ['transient', 'Transient'],
    ['needsHuman', 'NeedsHuman'],
    ['permanent', 'Permanent'],
  ])('has as many rows as %s is called with a failure', (call, type) => {
    const rows = list.split('\n').filter((line) => new RegExp(`\\| ${type} +\\|$`).test(line)).length;
    // What only hands on the words of another failure has no row.
    const wordless = failureTables().flatMap((table) =>
      table.rows.filter((row) => !hasWords(row) && row.type === type),
    );

    expect(built(call)).toBeGreaterThan(3);
    expect(rows).toBe(built(call) - wordless.length);
    expect(wordless.length).toBeLessThan(3);
  });

  it('takes from the code what happened, why, and what is next', () => {
    const code =
      "throw needsHuman({ what: `${host} is full`, cause, untouched: 'all', next: isOld ? 'a' : 'b' + 'c' }, e);";
    const source = ts.createSourceFile('x.ts', code, ts.ScriptTarget.Latest, true);

    expect(failureRows(source)).toEqual([{ what: '… is full', cause: '…', next: 'a / bc', type: 'NeedsHuman' }]);
  });

  it('takes the words of constants, but not those of somebody else by the same name', () => {
    const code = `
      function first(): void { const what = \`\${host} is full\`; throw permanent({ what, cause: 'c', untouched, next: 'n' }); }
      function second(what: string): void { throw permanent({ what, cause: 'c', untouched, next: 'n' }); }`;
    const source = ts.createSourceFile('x.ts', code, ts.ScriptTarget.Latest, true);

    expect(failureRows(source).map(({ what }) => what)).toEqual(['… is full', '…']);
  });
});

describe('what operators look up by the words on their screen', () => {
  const folders = ['src/activities', 'src/workflows', 'src/workflows/phases', 'src/client', 'src/hosts'];
  const everything = sentencesOf(
    folders
      .flatMap((folder) => readdirSync(join(root, folder)).map((name) => join(folder, name)))
      .filter((file) => file.endsWith('.ts'))
      .map(read)
      .join('\n'),
  );
  const [, tables = ''] = read('docs/operate.md').split('## When something stops');
  const first = tables.split('\n').flatMap((line) => /^\| (.*?[^\\]) +\|/.exec(line)?.[1] ?? []);
  const words = first
    .flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, text = '']) => text))
    .filter((text) => text.includes(' ') && !text.startsWith('heals:'));

  it.each(words)('%s is said somewhere', (text) => {
    expect(isSaid(text, everything)).toBe(true);
  });
});
