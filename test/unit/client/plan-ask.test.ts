import { afterEach, describe, expect, it, vi } from 'vitest';
import { CliError } from '../../../src/client/errors.ts';
import { createProgram } from '../../../src/client/main.ts';
import { askMapping } from '../../../src/client/plan.ts';

const { ask } = vi.hoisted(() => ({ ask: vi.fn<(question: string, missing: string) => Promise<string>>() }));
vi.mock('../../../src/client/ask.ts', async (original) => ({ ...(await original<object>()), ask }));
afterEach(() => ask.mockReset());

describe('the mapping that the command line does not have', () => {
  it('is asked for, and read as --map is', async () => {
    ask.mockResolvedValue('old1=new1, old2=new2');

    expect(await askMapping()).toEqual([
      { from: 'old1', to: 'new1' },
      { from: 'old2', to: 'new2' },
    ]);
    expect(ask.mock.calls[0]?.[1]).toContain('ferry plan --map');
  });

  it('is explained when it is none', async () => {
    ask.mockResolvedValue('old1');

    await expect(askMapping()).rejects.toThrow(CliError);
    await expect(askMapping()).rejects.toThrow(/"old1" is not OLD=NEW.*Nothing was done/);
  });

  it('is what ferry plan asks for first', async () => {
    ask.mockRejectedValue(new CliError('usage', 'asked'));

    await expect(createProgram().parseAsync(['plan'], { from: 'user' })).rejects.toThrow('asked');
  });
});
