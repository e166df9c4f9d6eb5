import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { wantsColors } from '../../../src/client/colors.ts';

const bin = join(import.meta.dirname, '..', '..', '..', 'src', 'client', 'bin.ts');

describe('wantsColors', () => {
  it.each<[boolean, Record<string, string>, string[], boolean]>([
    [true, {}, [], true],
    [false, {}, [], false],
    [false, { CI: 'true' }, [], false],
    [true, { CI: 'true' }, [], true],
    [true, { NO_COLOR: '1' }, [], false],
    [true, { NO_COLOR: '' }, [], true],
    [true, {}, ['status', '--no-color'], false],
    [true, { TERM: 'dumb' }, [], false],
    [false, { FORCE_COLOR: '1' }, [], true],
    [true, { FORCE_COLOR: '0' }, [], false],
    [false, { FORCE_COLOR: '1', NO_COLOR: '1' }, [], false],
    [false, { FORCE_COLOR: '1' }, ['--no-color'], false],
  ])('on a terminal: %s, with %j and %j: %s', (isTTY, env, argv, expected) => {
    expect(wantsColors(isTTY, env, argv)).toBe(expected);
  });
});

describe('a pipe in a pipeline', () => {
  it.each([
    [{ CI: 'true' }, false],
    [{ CI: 'true', FORCE_COLOR: '1' }, true],
  ])('%j has escape codes: %s', (env, expected) => {
    const { stderr, status } = spawnSync(process.execPath, [bin, 'check', '/nowhere/plan.yaml'], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], ...env },
    });

    expect(status).toBe(4);
    expect(stderr).toContain('/nowhere/plan.yaml');
    expect(stderr.includes('\u001b')).toBe(expected);
  });
});
