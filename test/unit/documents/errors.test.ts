import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

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
