import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import {
  flattenTokens,
  formatPath,
  isPlainSafe,
  positionAt,
  readTexts,
  writeScalar,
  YamlEditError,
  YamlSource,
} from '../../../src/plan/yaml-source.ts';
import { recordedConfig, recordedConfigNames } from './samples.ts';

const texts = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 20 }).filter((text) => !/\p{Surrogate}/u.test(text)),
  fc.constantFrom(
    'yes',
    'No',
    'on',
    '~',
    'null',
    '0123',
    '1e3',
    '0x1f',
    '1:30',
    '.inf',
    '2026-01-01',
    '=',
    '<<',
    '*a',
    '&a',
  ),
  fc.constantFrom(
    '- a',
    'a: b',
    'a #b',
    ' a',
    'a ',
    '',
    "it's",
    '"',
    '\\',
    '\t',
    'a\nb',
    '\u2028',
    '\u0085',
    '{}',
    '[a]',
  ),
  fc.constantFrom('node-1', '/sysvol/redis', '10.0.0.1', '10.0.0.1:9202', 'http://a.b:80/c', 'localhost:5000'),
);
const styles = fc.constantFrom(undefined, 'QUOTE_SINGLE', 'QUOTE_DOUBLE', 'PLAIN', 'BLOCK_LITERAL');

/** How the two versions of YAML read it. */
function readings(text: string): unknown[] {
  return [parse(text, { version: '1.1' }), parse(text, { version: '1.2' })];
}

describe('a scalar', () => {
  it('is written so that every version of YAML reads this very text, in blocks and in flow', () => {
    fc.assert(
      fc.property(texts, styles, (value, style) => {
        const written = writeScalar(value, style);
        expect(readings(`a: ${written}\n`)).toEqual([{ a: value }, { a: value }]);
        expect(readings(`- ${written}\n`)).toEqual([[value], [value]]);
        expect(readings(`{a: [${written}, ${written}]}\n`)).toEqual([{ a: [value, value] }, { a: [value, value] }]);
        expect(readings(`${written}: 1\n`)).toEqual([{ [value]: 1 }, { [value]: 1 }]);
      }),
      { numRuns: 500 },
    );
  });

  it.each(['node-1', '/sysvol/redis', '10.0.0.1', '10.0.0.1:9202', 'localhost:5000', 'http://a:80/b'])(
    '%s stands unquoted',
    (value) => {
      expect(isPlainSafe(value)).toBe(true);
    },
  );

  it.each(['yes', 'OFF', 'y', 'null', '0123', '1', '1.5', '', ' a', 'a b', 'a: b', 'a #b', '2026-01-01', '/a b', '*a'])(
    '%j does not',
    (value) => {
      expect(isPlainSafe(value)).toBe(false);
    },
  );
});

describe('an edit', () => {
  const document = `# head
nodes: # all of them
- name: node-1
  ip4: 10.0.0.11   # first
- {name: "node-2", ip4: '10.0.0.12'}
password: 0123
flag: yes
hosts: [node-1, node-2]
empty:
`;

  it('of one value leaves every other byte as it is', () => {
    fc.assert(
      fc.property(texts, (value) => {
        const source = new YamlSource(document);
        const [place] = source.lists(['hosts']);
        source.replaceScalar(place!.node.items[1], ['hosts', 1], value);
        const edited = source.toString();
        const [before, after] = document.split('node-2]') as [string, string];
        expect(edited.startsWith(before)).toBe(true);
        expect(edited.endsWith(after)).toBe(true);
        expect((readTexts(edited) as { hosts: string[] }).hosts[1]).toBe(value);
      }),
    );
  });

  it('that appends and removes reads as asked, whatever the list looks like', () => {
    const lists = fc.record({
      items: fc.uniqueArray(fc.constantFrom('node-1', 'node-2', 'node-3', 'node-4', 'yes', '0123'), { minLength: 2 }),
      isFlow: fc.boolean(),
      indent: fc.constantFrom('', '  ', '    '),
      comment: fc.constantFrom('', ' # why'),
      newline: fc.constantFrom('\n', '\r\n'),
      isLast: fc.boolean(),
      added: fc.array(texts, { maxLength: 3 }),
    });
    fc.assert(
      fc.property(lists, fc.nat(), ({ items, isFlow, indent, comment, newline, isLast, added }, pick) => {
        const written = items.map((item) => writeScalar(item));
        const list = isFlow
          ? ` [${written.join(', ')}]${comment}${newline}`
          : `${newline}${written.map((item) => `${indent}- ${item}${comment}${newline}`).join('')}`;
        const text = `first: 1${newline}hosts:${list}${isLast ? '' : `last: 2${newline}`}`;
        const index = pick % items.length;
        const removal = new YamlSource(text);
        removal.remove(removal.lists(['hosts'])[0]!, [index]);
        const removed = removal.toString();
        const addition = new YamlSource(removed);
        addition.append(addition.lists(['hosts'])[0]!, added);
        const result = addition.toString();

        expect((readTexts(removed) as { hosts: string[] }).hosts).toEqual(items.toSpliced(index, 1));
        expect(readTexts(result)).toEqual({
          first: '1',
          hosts: [...items.toSpliced(index, 1), ...added],
          ...(!isLast && { last: '2' }),
        });
        expect(result.startsWith(`first: 1${newline}hosts:`)).toBe(true);
      }),
    );
  });

  it('keeps texts that YAML 1.1 would read otherwise', () => {
    const source = new YamlSource(document);
    source.append(source.lists(['hosts'])[0]!, ['node-3']);

    expect(source.toString()).toBe(document.replace('[node-1, node-2]', '[node-1, node-2, node-3]'));
  });

  it('of maps follows the looks and the order of the last item', () => {
    const source = new YamlSource('nodes:\n  - ip4: "10.0.0.11"\n    name: "node-1"\n');
    source.append(source.lists(['nodes'])[0]!, [{ name: 'node-2', ip4: '10.0.0.12' }]);

    expect(source.toString()).toBe(
      'nodes:\n  - ip4: "10.0.0.11"\n    name: "node-1"\n  - ip4: "10.0.0.12"\n    name: "node-2"\n',
    );
  });

  it('refuses to empty a list, to add to an empty one, and to edit one place twice', () => {
    const source = new YamlSource('hosts: [a]\nnone: []\nx: y\n');
    const [hosts] = source.lists(['hosts']);
    const [none] = source.lists(['none']);
    source.replaceScalar(source.values(['x'])[0]!.node, ['x'], 'z1');
    source.replaceScalar(source.values(['x'])[0]!.node, ['x'], 'z2');

    expect(() => source.remove(hosts!, [0])).toThrow('hosts: would become empty (line 1, column 8)');
    expect(() => source.append(none!, ['a'])).toThrow('none: must not be empty');
    expect(() => source.toString()).toThrow('two edits of the same place');
  });

  it('writes out aliases and merge keys only when there are any', () => {
    const source = new YamlSource('base: &b\n  a: 0123\nnext:\n  <<: *b\n  c: yes\n');

    expect(readTexts(source.toString())).toEqual({ base: { a: '0123' }, next: { a: '0123', c: 'yes' } });
    expect(() => new YamlSource('base: &b\n  a: 1\nnext:\n  a: 2\n  <<: *b\n')).toThrow('brings "a" once more');
  });

  it.each(recordedConfigNames())('of nothing gives recorded document %s back byte for byte', (name) => {
    const text = recordedConfig(name);
    let source: YamlSource;
    try {
      source = new YamlSource(text);
    } catch (error) {
      expect(error).toBeInstanceOf(YamlEditError);
      return;
    }

    expect(source.toString()).toBe(source.text);
    expect(flattenTokens(source.toString())).toEqual(flattenTokens(text));
  });
});

describe('places', () => {
  it('are found without regard to case, and all of them', () => {
    const source = new YamlSource('Redis:\n  hosts: [a]\nredis:\n  Hosts: [b]\n');

    expect(source.lists(['redis', 'hosts']).map((place) => formatPath(place.path))).toEqual([
      'Redis.hosts',
      'redis.Hosts',
    ]);
  });

  it.each([
    [['a', 0, 'b-c'], 'a[0].b-c'],
    [['a', 'kubernetes.io/hostname'], 'a["kubernetes.io/hostname"]'],
    [[0], '[0]'],
    [[], ''],
  ])('%j are written %s', (path, text) => {
    expect(formatPath(path)).toBe(text);
  });

  it('count lines and columns from 1', () => {
    expect(positionAt('ab\ncd', 0)).toEqual({ line: 1, column: 1 });
    expect(positionAt('ab\ncd', 4)).toEqual({ line: 2, column: 2 });
  });

  it('tell the kind and the place of an error, never the text that may be secret', () => {
    expect(() => new YamlSource('a: 1\npassword: "hunter2\n')).toThrow(/^not readable as YAML: [A-Z_]+ \(line \d/);
    expect(() => new YamlSource('- a\n')).toThrow('the document is not a map');
    expect(() => new YamlSource('# nothing\n')).toThrow('the document is empty');
    expect(() => new YamlSource('a: {b: 1}\n').lists(['a'])).toThrow('a: must be a list (line 1, column 4)');
  });
});
