import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '..', '..', '..');
const argv = [join(root, 'test', 'workflow', 'pseudo-terminal.py'), process.execPath];

/** Types at the first question of `ferry plan`, on a terminal; answers the exit code and all that was shown. */
async function typed(keys: string): Promise<{ code: number | null; shown: string }> {
  const child = spawn('python3', [...argv, join(root, 'src', 'client', 'bin.ts'), 'plan'], {
    env: { ...process.env, NO_COLOR: '1' },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let shown = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => (shown += part));
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  while (!shown.includes('Which machine replaces which node?') && child.exitCode === null) await sleep(50);
  child.stdin.write(keys);
  return { code: await ended, shown };
}

describe('a question on a terminal', { timeout: 60_000 }, () => {
  it.each([
    ['Ctrl-C', '\u0003', 130, 'ferry: stopped; nothing was done'],
    ['Ctrl-D', '\u0004', 2, 'ferry: which machine replaces which node?'],
    ['an empty answer', '\r', 2, 'ferry: which machine replaces which node?'],
  ])('is ended by %s without a stack trace', async (_, keys, expected, said) => {
    const { code, shown } = await typed(keys);

    expect(shown).toContain(said);
    expect(shown).not.toContain('should not have happened');
    expect(shown).not.toMatch(/^ {4}at /m);
    expect(code).toBe(expected);
  });
});
