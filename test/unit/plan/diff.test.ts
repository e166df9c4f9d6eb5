import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { unifiedDiff } from '../../../src/plan/diff.ts';
import { redactText, redactYaml, redactedYamlDiff } from '../../../src/plan/redact.ts';
import { recordedConfig, recordedConfigNames } from './samples.ts';

describe('unified diff', () => {
  it('shows changed lines with three lines around them', () => {
    const lines = Array.from({ length: 12 }, (_, index) => `line ${index}`);
    const before = `${lines.join('\n')}\n`;
    const after = before.replace('line 5\n', 'line five\nmore\n').replace('line 11\n', '');

    expect(unifiedDiff(before, after, 'x')).toBe(`--- x (before)
+++ x (after)
@@ -3,10 +3,10 @@
 line 2
 line 3
 line 4
-line 5
+line five
+more
 line 6
 line 7
 line 8
 line 9
 line 10
-line 11
`);
    expect(unifiedDiff(before, before, 'x')).toBe('');
  });

  it('is taken by patch', () => {
    const directory = mkdtempSync(join(tmpdir(), 'ferry-diff-'));
    const text = fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 30 });
    try {
      fc.assert(
        fc.property(text, text, (old, next) => {
          const [before, after] = [old, next].map((lines) => `${lines.join('\n')}\n`) as [string, string];
          fc.pre(before !== after);
          writeFileSync(join(directory, 'file'), before);
          execFileSync('patch', ['-s', '--no-backup-if-mismatch', '-F0', join(directory, 'file')], {
            input: unifiedDiff(before, after, 'file'),
          });
          expect(readFileSync(join(directory, 'file'), 'utf8')).toBe(after);
        }),
        { numRuns: 40 },
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe('redaction', () => {
  it('leaves no password of any recorded document', () => {
    for (const name of recordedConfigNames()) {
      const shown = redactYaml(recordedConfig(name)).text;
      expect(shown, name).not.toMatch(/invented-\d/);
      expect(shown, name).not.toContain('invented0nebula0password');
    }
  });

  it('keeps everything else', () => {
    const text = recordedConfig('base');
    const shown = redactYaml(text).text;
    const same = text.split('\n').filter((line, index) => shown.split('\n')[index] === line);
    expect(text.split('\n').length - same.length).toBe(9);
    expect(shown).toContain("  admin_passwd: '***'\n");
    expect(shown).toContain('    secret: etcdssl-secret\n');
  });

  it.each([
    ['block texts', 'tls:\n  key-data: |\n    AAAA\n    BBBB\n  x: 1\n', "tls:\n  key-data: '***'\n  x: 1\n"],
    ['whole maps', 'credentials: {user: a, x: [b]}\n', "credentials: {user: '***', x: ['***']}\n"],
    ['comments', 'a: 1 # password was hunter2\n#hunter3\nb: 2\n', 'a: 1 # ***\n# ***\nb: 2\n'],
    ['addresses', 'url: http://me:hunter2@host/x\n', "url: '***'\n"],
    ['options', 'env: {JVMFLAGS: -Xms1g -Dpassword=hunter2}\n', "env: {JVMFLAGS: '***'}\n"],
  ])('hides %s', (_what, text, shown) => {
    expect(redactYaml(text).text).toBe(shown);
  });

  it('shows nothing of what it cannot read', () => {
    expect(redactYaml('password: "hunter2').text).toMatch(/^\(not shown: not readable as YAML/);
    expect(redactYaml('password: "hunter2').text).not.toContain('hunter2');
  });

  it('says that a secret differs without showing it', () => {
    const diff = redactedYamlDiff('a: 1\npassword: x1\n', 'a: 2\npassword: x2\n', 'config');
    expect(diff).toContain('-a: 1\n+a: 2\n');
    expect(diff).toContain('# config: secret values differ at password\n');
    expect(diff).not.toMatch(/x[12]/);
    expect(redactedYamlDiff('password: x1\n', 'password: x1\n', 'config')).toBe('');
  });

  it('takes credentials out of free text', () => {
    expect(redactText('dial http://u:p@h:1 password=abc, token: xyz')).toBe(
      'dial http://u:***@h:1 password=***, token: ***',
    );
  });
});
