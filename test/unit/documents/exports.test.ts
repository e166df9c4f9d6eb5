import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '..', '..', '..');
const { name, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  name: string;
  exports: Record<string, string | { types: string; default: string }>;
};
const reference = readFileSync(join(root, 'docs', 'reference.md'), 'utf8');
const parts = Object.entries(exports).flatMap(([path, target]) =>
  typeof target === 'string' ? [] : [[path.replace('.', name), target] as const],
);

describe('parts of the package for programs', () => {
  it('are those of the reference', () => {
    const told = [...reference.matchAll(/^\| `(proton-ferry\/[\w-]+)`/gm)].map(([, part]) => part);

    expect(told.toSorted()).toEqual(parts.map(([part]) => part).toSorted());
  });

  it.each(parts)('%s comes from a source that is there, with its types', (_part, target) => {
    const source = target.default.replace(/^\.\/dist\/(.*)\.js$/, 'src/$1.ts');

    expect(existsSync(join(root, source))).toBe(true);
    expect(target.types).toBe(target.default.replace(/\.js$/, '.d.ts'));
  });
});
