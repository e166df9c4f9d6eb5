import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { treeScanProgram } from '../../../src/activities/tree-scan.ts';

/* The program that describes a tree, in a real perl with the real tools. What it finds is seen on real machines (test/hosts). */

const folder = mkdtempSync(join(tmpdir(), 'ferry-scan-'));
const tree = join(folder, 'tree');

beforeAll(() => {
  mkdirSync(join(tree, 'dir'), { recursive: true });
  const names = ['plain', 'line\nfeed', 'back\\slash', 'both\\\nof them', 'carriage\rreturn', '-r', '\\', 'a *b', 'ü'];
  for (const name of names) writeFileSync(join(tree, 'dir', name), `content of ${name}`);
  writeFileSync(Buffer.concat([Buffer.from(`${tree}/raw`), Buffer.from([0xff, 0x0a, 0x01])]), 'no utf-8');
  writeFileSync(join(folder, 'scan.pl'), treeScanProgram);
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function scan(algorithm: string): string[] {
  const work = mkdtempSync(join(folder, 'work-'));
  const argv = [join(folder, 'scan.pl'), tree, 'full', algorithm, '2', '1', '0', work];
  return execFileSync('perl', argv, { encoding: 'utf8' }).split('\n');
}

describe('a tree with odd names', () => {
  it('has one digest, whichever tool computes sha256', () => {
    const bySha256sum = scan('sha256');
    expect(bySha256sum).toContain('entries=12');
    expect(scan('openssl')).toEqual(bySha256sum);
  });

  it('is described with blake2b as well', () => {
    expect(scan('blake2b').slice(1)).toEqual(scan('sha256').slice(1));
  });
});
