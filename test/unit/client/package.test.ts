import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { version } from '../../../src/version.ts';

const root = join(import.meta.dirname, '..', '..', '..');
const run = promisify(execFile);

/** A checkout of its own: packing builds, and a build in the real one would be in the way of whoever works there. */
const checkout = mkdtempSync(join(tmpdir(), 'ferry-package-'));
let packed: string[] = [];

beforeAll(async () => {
  const parts = ['src', 'docs', 'deploy', 'package.json', 'tsconfig.json', 'tsconfig.build.json'];
  for (const part of [...parts, 'README.md', 'LICENSE', 'docker-compose.temporal.yml']) {
    cpSync(join(root, part), join(checkout, part), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(checkout, 'node_modules'));
  // Not ignoring scripts: prepack is what puts dist there.
  const { stdout } = await run('npm', ['pack', '--dry-run', '--json'], { cwd: checkout, maxBuffer: 2 ** 24 });
  const [pack] = JSON.parse(stdout.slice(stdout.search(/^\[$/m))) as [{ files: { path: string }[] }];
  packed = pack.files.map(({ path }) => path);
}, 120_000);

afterAll(() => rmSync(checkout, { recursive: true, force: true }));

describe('the package', () => {
  it.each([
    'dist/client/bin.js',
    'dist/worker.js',
    'dist/workflows/all.js',
    'docs/images/report.png',
    'docs/reference.md',
    'deploy/Containerfile',
    'docker-compose.temporal.yml',
  ])('holds %s', (file) => {
    expect(packed).toContain(file);
  });

  it('holds neither sources nor tests', () => {
    expect(packed.filter((file) => /^(src|test|lab|node_modules)\//.test(file))).toEqual([]);
  });

  it('runs', async () => {
    const ferry = (...args: string[]): Promise<{ stdout: string }> =>
      run(process.execPath, [join(checkout, 'dist/client/bin.js'), ...args], { maxBuffer: 2 ** 24 });

    expect((await ferry('--version')).stdout.trim()).toBe(version);
    expect(JSON.parse((await ferry('schema')).stdout)).toMatchObject({ type: 'object' });
  }, 60_000);
});
