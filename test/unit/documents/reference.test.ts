import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { generatedFiles, makeReference, referenceFile, unusedParts } from '../../documents/reference.ts';
import { checkRow, literalRows, parseSource, schemaComments } from '../../documents/source.ts';

const text = readFileSync(referenceFile, 'utf8');
const root = join(import.meta.dirname, '..', '..', '..');

describe('documents with generated parts', () => {
  it.each(generatedFiles)(
    '%s is what the code says; if not: npm run docs:reference',
    { timeout: 60_000 },
    async (file) => {
      const written = readFileSync(file, 'utf8');

      expect(await makeReference(written)).toBe(written);
    },
  );
});

describe('docs/reference.md', () => {
  it('says of every check what helps', () => {
    const section = text.slice(text.indexOf('<!-- generated: checks -->')).split('<!-- end -->')[0] ?? '';
    const rows = section.split('\n').filter((line) => line.startsWith('| `'));
    const helpless = rows.filter((line) => line.split(/(?<!\\)\|/)[3]?.trim() === '');

    expect(rows.length).toBeGreaterThan(40);
    expect(helpless).toEqual([]);
  });

  it('tells of every variable that the program reads, and of no other', () => {
    const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.ts'),
    );
    const section = text.slice(text.indexOf('\n## Environment')).split('\n## ')[1] ?? '';
    // People choose the end of that one.
    const namesIn = (content: string): string[] =>
      (content.match(/\bFERRY_[A-Z_]+/g) ?? []).map((name) => name.replace(/^FERRY_NOTIFY_.*/, 'FERRY_NOTIFY_'));

    expect(new Set(namesIn(section))).toEqual(
      new Set(sources.flatMap((name) => namesIn(readFileSync(join(root, 'src', name), 'utf8')))),
    );
  });

  it('has every part that can be generated', () => {
    expect(unusedParts(generatedFiles.map((file) => readFileSync(file, 'utf8')))).toEqual([]);
  });

  it('would be found out of date', { timeout: 60_000 }, async () => {
    const old = text.replace('| 130  |', '| 131  |');

    expect(old).not.toBe(text);
    expect(await makeReference(old)).toBe(text);
  });

  it('refuses a part that nobody makes', async () => {
    await expect(makeReference('<!-- generated: weather -->\n<!-- end -->')).rejects.toThrow(
      'no generated part weather',
    );
  });
});

describe('what documents take from the source', () => {
  it('finds comments of nested fields', () => {
    const comments = schemaComments('src/plan/plan.ts', 'planSchema');

    expect(comments.get('limits.preCopyKiBps')).toContain('KiB/s per source host');
    expect(comments.get('gates.open-downtime.required')).toContain('How many different approvers');
    expect(comments.get('transfers[].id')).toContain('Unique in the plan');
  });

  it('takes nothing of a comment but its words', () => {
    const all = [...schemaComments('src/plan/plan.ts', 'planSchema').values()];

    expect(all.length).toBeGreaterThan(40);
    expect(all.filter((comment) => /^[\s/*]|[\s/*]$/.test(comment))).toEqual([]);
  });

  it('finds what a check says, and misses a check that is not there', () => {
    const sources = [parseSource('src/activities/preflight-cluster.ts')];

    expect(checkRow(sources, 'checkHostnameLabel')).toEqual({
      proof: ['kubernetes.io/hostname equals the name of every node'],
      next: [expect.stringContaining('kubectl label node NAME') as string],
    });
    expect(() => checkRow(sources, 'checkWeather')).toThrow('no source has a function checkWeather');
  });

  it('reads tables of literals with their names resolved', () => {
    const rows = literalRows('src/activities/apply-failures.ts', 'rules');
    const invalid = rows.find((row) => row['name'] === 'invalid');

    expect(rows.length).toBeGreaterThan(10);
    expect(invalid?.['untouched']).toContain('the Secret proton-cli-config');
  });
});
