import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { inspectPath, measureDirectory, measureFreeSpace } from '../../../src/activities/directories.ts';
import type { HostConnection } from '../../../src/hosts/contract.ts';

const root = mkdtempSync(join(tmpdir(), 'ferry-directories-'));
afterAll(() => {
  rmSync(root, { recursive: true });
});

/** This machine, asked with real commands. */
const here = {
  host: { name: 'here', address: '127.0.0.1', port: 22, user: 'root', hostKeys: [] },
  run: (argv: readonly string[]) => {
    const result = spawnSync(argv[0]!, argv.slice(1), { encoding: 'utf8' });
    return Promise.resolve({ code: result.status, signal: null, stdout: result.stdout, stderr: result.stderr });
  },
} as unknown as HostConnection;

describe('directories of a machine', () => {
  it('are measured by what they show, holes included', async () => {
    const directory = join(root, 'data $x; -n');
    mkdirSync(join(directory, 'below'), { recursive: true });
    writeFileSync(join(directory, 'a\nb'), 'x'.repeat(1000));
    writeFileSync(join(directory, 'below', 'sparse'), '');
    truncateSync(join(directory, 'below', 'sparse'), 50_000_000);
    symlinkSync('a', join(directory, 'link'));

    const size = await measureDirectory(here, directory);

    expect(size?.files).toBe(3);
    expect(size?.bytes).toBeGreaterThanOrEqual(50_001_000);
    expect(size?.bytes).toBeLessThan(50_100_000);
    expect(await measureDirectory(here, join(root, 'absent'))).toBeUndefined();
  });

  it('tell the space where they would be created', async () => {
    const space = await measureFreeSpace(here, join(root, 'not', 'yet', 'there'));
    const df = spawnSync('df', ['-B1', '--output=avail,target', root], { encoding: 'utf8' })
      .stdout.split('\n')[1]!
      .trim();

    expect(space.mount).toBe(df.split(/\s+/)[1]);
    expect(Math.abs(space.freeBytes - Number(df.split(/\s+/)[0]))).toBeLessThan(500_000_000);
    expect(space.freeInodes).toBeGreaterThan(0);
  });

  it.each<[string, (path: string) => void, string]>([
    ['absent', () => undefined, 'absent'],
    ['empty', (path) => mkdirSync(path), 'empty'],
    ['with lost+found only', (path) => mkdirSync(join(path, 'lost+found'), { recursive: true }), 'empty'],
    ['with a full lost+found', (path) => mkdirSync(join(path, 'lost+found', '#12'), { recursive: true }), 'filled'],
    ['filled', (path) => mkdirSync(join(path, '.hidden'), { recursive: true }), 'filled'],
    ['a file', (path) => writeFileSync(path, ''), 'other'],
    ['a link', (path) => symlinkSync('/', path), 'link'],
  ])('that are %s', async (name, make, state) => {
    const path = join(root, `state ${name}`);
    make(path);
    expect(await inspectPath(here, path)).toEqual({ state, resolved: state === 'link' ? '/' : path });
  });
});
