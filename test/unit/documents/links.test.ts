import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '..', '..', '..');
const documents = [
  ...readdirSync(root).filter((name) => name.endsWith('.md')),
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];

interface Link {
  file: string;
  target: string;
}

/** Text without code, in which brackets mean something else. */
function prose(text: string): string {
  return text.replaceAll(/^```[\s\S]*?^```/gm, '').replaceAll(/`[^`\n]*`/g, '');
}

function linksOf(file: string): Link[] {
  const text = prose(readFileSync(join(root, file), 'utf8'));
  const inline = [...text.matchAll(/\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)/g)].map(([, target = '']) => target);
  const images = [...text.matchAll(/(?:src|srcset|href)="([^"]+)"/g)].map(([, target = '']) => target);
  return [...inline, ...images]
    .filter((target) => !/^[a-z][a-z+.-]*:/i.test(target))
    .map((target) => ({ file, target: decodeURIComponent(target) }));
}

/** Anchors of the headings of a document, as the usual renderers make them. */
function anchorsOf(file: string): Set<string> {
  const headings = [...readFileSync(file, 'utf8').matchAll(/^#{1,6} (.+)$/gm)].map(([, heading = '']) => heading);
  const slugs = headings.map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replaceAll(/\s/g, '-'),
  );
  return new Set(slugs);
}

/** What is wrong with a link; undefined when it leads somewhere. */
function problemOf({ file, target }: Link): string | undefined {
  const [path = '', anchor] = target.split('#');
  const full = path === '' ? join(root, file) : join(root, dirname(file), path);
  if (relative(root, full).startsWith('..')) return 'leads out of the repository';
  if (!existsSync(full)) return 'no such file';
  return anchor === undefined || anchorsOf(full).has(anchor) ? undefined : 'no such heading';
}

const links = documents.flatMap(linksOf);

describe('relative links of README and docs', () => {
  it('are found at all', () => {
    expect(documents).toContain('README.md');
    expect(links.map(({ target }) => target)).toContain('docs/concepts.md');
  });

  it.each(links)('$file → $target', (link) => {
    expect(problemOf(link)).toBeUndefined();
  });

  it('would be found when they are broken', () => {
    expect(problemOf({ file: 'README.md', target: 'docs/no-such.md' })).toBe('no such file');
    expect(problemOf({ file: 'README.md', target: 'docs/concepts.md#no-such' })).toBe('no such heading');
    expect(problemOf({ file: 'docs/concepts.md', target: '#gates' })).toBeUndefined();
  });
});

describe('paths that documents name in code', () => {
  const paths = documents.flatMap((file) =>
    [...readFileSync(join(root, file), 'utf8').matchAll(/`((?:src|lab|test|docs|bench|deploy)\/[\w./-]*)`/g)].map(
      ([, path = '']) => ({ file, path }),
    ),
  );

  it.each(paths)('$file names $path, which is there', ({ path }) => {
    expect(existsSync(join(root, path))).toBe(true);
  });
});
