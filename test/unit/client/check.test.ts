import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { CheckResult } from '../../../src/activities/contract.ts';
import { checkExitCode, describeResult, summarize } from '../../../src/client/check.ts';

const plain = (result: CheckResult): string => stripVTControlCharacters(describeResult(result));

describe('describeResult', () => {
  it.each<[CheckResult, string]>([
    [{ name: 'api', state: 'ok' }, 'ok       api'],
    [{ name: 'api', state: 'ok', cause: 'v1.34' }, 'ok       api                    v1.34'],
    [
      { name: 'space', state: 'failed', cause: 'new2: too little', next: 'df -h /' },
      'failed   space                  new2: too little; next: df -h /',
    ],
    [
      { name: 'clock', state: 'warning', cause: 'two\nlines', next: 'chronyc tracking' },
      'warning  clock                  two; lines; next: chronyc tracking',
    ],
  ])('%j is one line', (result, expected) => {
    expect(plain(result)).toBe(expected);
  });
});

describe('the outcome of a check', () => {
  it('fails for a failed check and not for a warning', () => {
    expect(checkExitCode([{ name: 'a', state: 'warning' }])).toBe(0);
    expect(
      checkExitCode([
        { name: 'a', state: 'ok' },
        { name: 'b', state: 'failed' },
      ]),
    ).toBe(3);
  });

  it('counts and says what comes next', () => {
    const text = stripVTControlCharacters(summarize([{ name: 'a', state: 'failed' }], 'plan.yaml'));

    expect(text).toContain('1 check: 0 ok, 0 warnings, 1 failed');
    expect(text).toContain('ferry check plan.yaml');
  });

  it('counts and gives no hints with --quiet', () => {
    const text = stripVTControlCharacters(summarize([{ name: 'a', state: 'failed' }], 'plan.yaml', true));

    expect(text).toBe('1 check: 0 ok, 0 warnings, 1 failed');
  });
});
