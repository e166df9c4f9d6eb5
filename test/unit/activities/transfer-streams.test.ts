import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { streamFunctions } from '../../../src/activities/transfer-streams.ts';

const folder = mkdtempSync(join(tmpdir(), 'ferry-streams-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});
const MiB = 1024 ** 2;

interface File {
  name: string;
  size: number;
}

/** What the functions of the pass make of a list, by a real sh and perl. */
function deal(files: readonly File[], streams: number): { dealt: boolean; lists: string[][] } {
  rmSync(folder, { recursive: true });
  execFileSync('mkdir', [folder]);
  writeFileSync(join(folder, 'sizes.fill'), files.map(({ size }) => `${size}\n`).join(''));
  writeFileSync(join(folder, 'list.fill'), files.map(({ name }) => `${name}\0`).join(''));
  // No systemd here: nobody else sends.
  const script = `systemctl() { :; }\n${streamFunctions}\nif deal fill; then echo dealt; else echo whole; fi`;
  const answer = execFileSync('sh', ['-uc', `state=${folder} streams=${streams}\n${script}`], { encoding: 'utf8' });
  const lists = readdirSync(folder)
    .filter((name) => /^list\.fill\.\d+$/.test(name))
    .toSorted()
    .map((name) => readFileSync(join(folder, name), 'utf8').split('\0').slice(0, -1));
  return { dealt: answer === 'dealt\n', lists };
}

const many = (count: number, size: number, directory = 'd'): File[] =>
  Array.from({ length: count }, (_, index) => ({ name: `${directory}/${index}`, size }));

describe('the files of a pass', () => {
  it.each<[string, File[], number, boolean]>([
    ['a few large ones', many(4, 20 * MiB), 2, true],
    ['many small ones', many(40_000, 4000), 4, false],
    ['many of some size', many(4000, 40_000), 4, true],
    ['too few bytes and files', many(100, 1000), 4, false],
    ['one that is nearly all', [{ name: 'ibdata', size: 900 * MiB }, ...many(50, MiB)], 4, false],
    ['one stream', many(100, 10 * MiB), 1, false],
    ['nothing', [], 4, false],
  ])('%s: dealt out or not', (_name, files, streams, dealt) => {
    const result = deal(files, streams);

    expect(result.dealt).toBe(dealt);
    expect(result.lists).toHaveLength(dealt ? streams : 0);
  });

  it('are each in one list, and the lists are about as long', () => {
    const name = fc.string({
      minLength: 1,
      maxLength: 12,
      unit: fc.constantFrom('a', 'b', '/', '\n', ' ', '"', "'", 'ü'),
    });
    const size = fc.oneof(fc.nat(MiB - 1), fc.integer({ min: MiB, max: 90 * MiB }));
    fc.assert(
      fc.property(
        fc.array(fc.record({ name, size }), { minLength: 2, maxLength: 60 }),
        fc.integer({ min: 2, max: 4 }),
        (some, streams) => {
          const files = some.map((file, index) => ({ ...file, name: `${file.name}${index}` }));
          const { dealt, lists } = deal(files, streams);
          if (!dealt) return;
          const sizes = new Map(files.map((file) => [file.name, file.size]));
          expect(lists.flat().toSorted()).toEqual(files.map((file) => file.name).toSorted());
          const loads = lists.map((list) => list.reduce((sum, each) => sum + (sizes.get(each) ?? Number.NaN), 0));
          // What one list has more than another is at most its last file, and the price of opening the others.
          expect(Math.max(...loads) - Math.min(...loads)).toBeLessThanOrEqual(Math.max(...sizes.values()) + 2 * MiB);
        },
      ),
      { numRuns: 25 },
    );
  });

  it('that are small and lie together stay together', () => {
    const { lists } = deal(
      ['a', 'b', 'c', 'd'].flatMap((directory) => many(1100, 40_000, directory)),
      2,
    );
    const changes = lists.map(
      (list) => list.filter((each, index) => index > 0 && each.split('/')[0] !== list[index - 1]?.split('/')[0]).length,
    );

    for (const each of changes) expect(each).toBeLessThan(8);
  });
});
