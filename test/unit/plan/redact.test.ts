import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { redacted, redactedYamlDiff, redactText, redactYaml } from '../../../src/plan/redact.ts';
import { recordedConfig, recordedConfigNames } from './samples.ts';

const marker = 'hunter2';

describe('redactText', () => {
  it.each([
    [`login with password=${marker} failed`, `login with password=${redacted} failed`],
    [`password: ${marker}`, `password: ${redacted}`],
    [`passwd: ${marker}`, `passwd: ${redacted}`],
    [`token = ${marker}; next`, `token = ${redacted}; next`],
    [`mysql://root:${marker}@db:3306/x`, `mysql://root:${redacted}@db:3306/x`],
    [`redis://:${marker}@db`, `redis://:${redacted}@db`],
    [`{"password":"${marker}","host":"db"}`, `{"password":"${redacted}","host":"db"}`],
    [`{"admin_passwd": "${marker} and more"}`, `{"admin_passwd": "${redacted}"}`],
    [`password='${marker} and more' host=db`, `password='${redacted}' host=db`],
    [`Authorization: Bearer ${marker}`, `Authorization: Bearer ${redacted}`],
    [`secret=${marker}&key=${marker}&host=db`, `secret=${redacted}&key=${redacted}&host=db`],
  ])('%s', (text, expected) => {
    expect(redactText(text)).toBe(expected);
  });

  it.each(['the key of node-1 is wrong', 'http://db:3306/path@x', 'old hosts must be in front of the slice', ''])(
    'leaves %j alone',
    (text) => {
      expect(redactText(text)).toBe(text);
    },
  );
});

describe('redactYaml', () => {
  it.each<[string, string]>([
    ['a plain value', `password: ${marker}\n`],
    ['quotes', `password: "${marker}"\n`],
    ['a literal block', `password: |\n  ${marker}\n  ${marker}\nhost: db\n`],
    ['a folded block at the end', `password: >-\n  ${marker}\n  ${marker}`],
    ['a list', `passwords:\n- ${marker}\n- ${marker}\n`],
    ['a map below', `credentials:\n  user: ${marker}\n  deep:\n    er: ${marker}\n`],
    ['flow style', `{a: 1, password: ${marker}, b: [{token: ${marker}}]}\n`],
    ['an alias', `token: &p ${marker}\npassword: *p\n`],
    ['a merge key', `x: &p\n  password: ${marker}\ny:\n  <<: *p\n`],
    ['a comment', `a: 1 # password: ${marker}\n# ${marker}\n`],
    ['text that names it', `dsn: "user:x password=${marker}"\n`],
    ['an address', `url: amqp://me:${marker}@mq\n`],
    ['another document', `a: 1\n---\npassword: ${marker}\n`],
    ['a tag', `password: !!str ${marker}\n`],
    ['a key twice', `password: ${marker}\npassword: ${marker}x\n`],
    ['a comment behind a block', `password: | # ${marker}\n  ${marker}\n`],
    ['a short name', `pwd: ${marker}\npass: ${marker}\nmysql_pass: ${marker}\n`],
    ['JSON in a text', `config: '{"password":"${marker}"}'\n`],
  ])('hides %s', (_name, text) => {
    const { text: shown } = redactYaml(text);

    expect(shown).not.toContain(marker);
  });

  it('shows nothing of what cannot be read', () => {
    expect(redactYaml(`a: [${marker}`).text).toMatch(/^\(not shown: /);
    expect(redactYaml(`a: [${marker}`).text).not.toContain(marker);
    expect(redactYaml('').text).toMatch(/^\(not shown: /);
  });

  it('keeps the names of Secrets and everything else readable', () => {
    const text = 'secret_name: mariadb-root\nhosts:\n- node-1\ndata_path: /sysvol/x\n';

    expect(redactYaml(text)).toEqual({ text, secrets: new Map() });
  });

  it('hides every secret of a made-up document, and nothing else', () => {
    const names = fc.constantFrom('host', 'data_path', 'replicas', 'user', 'secret_name');
    const secretNames = fc.constantFrom('password', 'admin_passwd', 'token', 'key-data', 'SecretAccess', 'apiKey');
    const words = fc.string({ minLength: 1, maxLength: 12, unit: 'grapheme-ascii' });
    const { tree } = fc.letrec<{ tree: unknown; node: unknown }>((tie) => ({
      node: fc.oneof(
        { maxDepth: 3, withCrossShrink: true },
        words,
        fc.dictionary(names, tie('node'), { maxKeys: 4 }),
        fc.array(tie('node'), { maxLength: 3 }),
      ),
      tree: fc.record({ open: tie('node'), place: secretNames, closed: tie('node') }),
    }));
    fc.assert(
      fc.property(tree, fc.boolean(), (value, isFlow) => {
        const { open, place, closed } = value as { open: unknown; place: string; closed: unknown };
        const hidden = JSON.parse(
          JSON.stringify(closed, (_key, inner: unknown) => (typeof inner === 'string' ? `${marker}${inner}` : inner)),
        ) as unknown;
        const text = stringify({ open: { a: open }, [place]: hidden }, isFlow ? { collectionStyle: 'flow' } : {});
        const { text: shown } = redactYaml(text);
        expect(shown).not.toContain(marker);
        expect(shown).toContain('open:');
      }),
    );
  });

  it.each(recordedConfigNames())('tells the same of recorded document %s twice and hides its passwords', (name) => {
    const text = recordedConfig(name);
    const { text: shown, secrets } = redactYaml(text);

    for (const value of secrets.values()) {
      const bare = value.trim().replaceAll(/^['"]|['"]$/g, '');
      if (bare.length > 6) expect(shown).not.toContain(bare);
    }
    if (!shown.startsWith('(not shown')) expect(redactYaml(shown).text.length).toBeGreaterThan(0);
  });
});

describe('redactedYamlDiff', () => {
  it('says that a secret differs, and where, never how', () => {
    const diff = redactedYamlDiff(
      `a: 1\nredis:\n  password: ${marker}\n`,
      `a: 2\nredis:\n  password: ${marker}x\n`,
      'config',
    );

    expect(diff).toContain('-a: 1');
    expect(diff).toContain('+a: 2');
    expect(diff).toContain('# config: secret values differ at redis.password');
    expect(diff).not.toContain(marker);
  });

  it('is silent where nothing differs', () => {
    expect(redactedYamlDiff('password: a\n', 'password: a\n', 'x')).toBe('');
  });
});
