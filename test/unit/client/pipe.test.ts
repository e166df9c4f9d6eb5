import { afterEach, describe, expect, it, vi } from 'vitest';
import { main } from '../../../src/client/main.ts';

/** The reader of stdout goes away while the command is at work. */
function loseReader(): void {
  process.stdout.emit('error', Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
}

vi.mock('../../../src/client/check.ts', () => ({
  runChecks: () => {
    loseReader();
    process.exitCode = 3;
  },
}));
vi.mock('../../../src/client/watch.ts', () => ({ watchMigration: loseReader }));

afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
  process.stdout.removeAllListeners('error');
});

describe('a reader that has seen enough', () => {
  it('hides no failed check', async () => {
    const exit = vi.spyOn(process, 'exit').mockImplementation(() => undefined as never);

    expect(await main(['check', 'plan.yaml'])).toBe(3);
    expect(exit).not.toHaveBeenCalled();
  });

  it('ends what would follow the migration for nobody', async () => {
    const exit = vi.spyOn(process, 'exit').mockImplementation(() => undefined as never);
    await main(['watch']);

    expect(exit).toHaveBeenCalledWith(0);
  });
});
