import type { Client } from '@temporalio/client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { main } from '../../../src/client/main.ts';
import type { MigrationStatus } from '../../../src/workflows/messages.ts';
import { viewStatus } from '../../../src/workflows/status.ts';
import { at, atGate, plan, startTime } from '../workflows/states.ts';

let status: MigrationStatus | undefined;
const executeUpdate = vi.fn<(name: string, options: unknown) => Promise<string>>();

vi.mock('../../../src/client/connection.ts', async (original) => ({
  ...(await original<object>()),
  withClient: (_: unknown, work: (client: Client) => Promise<unknown>) =>
    work({ withDeadline: (_deadline: number, send: () => unknown) => send() } as unknown as Client),
}));
vi.mock('../../../src/client/migrations.ts', async (original) => ({
  ...(await original<object>()),
  findMigration: () =>
    Promise.resolve({
      workflowId: 'migrate-a',
      describe: () => Promise.resolve({ status: { name: 'RUNNING' } }),
      executeUpdate,
    }),
  queryStatus: () => Promise.resolve(status),
}));

let said = '';

beforeEach(() => {
  said = '';
  status = undefined;
  const keep = (text: string | Uint8Array): boolean => {
    said += String(text);
    return true;
  };
  vi.spyOn(process.stdout, 'write').mockImplementation(keep);
  vi.spyOn(process.stderr, 'write').mockImplementation(keep);
  executeUpdate.mockReset().mockResolvedValue('close-downtime is approved');
});
afterEach(() => vi.restoreAllMocks());

interface World {
  pointOfNoReturn?: boolean;
  released?: boolean;
}

describe.skipIf(process.stdin.isTTY)('a decision without a terminal', () => {
  it.each([
    ['open-downtime', /Applications of the cluster stop now/],
    ['remove-nodes', /there is no way back after this/],
    ['close-downtime', /Applications start on the new machines.*going back afterwards loses it/],
  ])('of %s says what follows, and does nothing without --yes', async (gate, consequence) => {
    const code = await main(['approve', gate, '--reason', 'good']);

    expect(code).toBe(2);
    expect(said).toMatch(consequence);
    expect(said).toContain('--yes');
    expect(executeUpdate).not.toHaveBeenCalled();
  });

  it.each([
    ['open-downtime', {}, /rolls the migration back/],
    ['remove-nodes', {}, /rolls the migration back/],
    ['remove-nodes', { released: true }, /nothing is undone, applications run on and the old nodes stay/],
    ['close-downtime', {}, /stay stopped until somebody resumes or aborts/],
    ['close-downtime', { pointOfNoReturn: true }, /stay stopped until somebody resumes\.\n/],
  ] as const)('of reject %s at %j says what follows', async (gate, world: World, consequence) => {
    const view = viewStatus(plan, atGate(gate), startTime + 90_000);
    status = {
      ...view,
      pointOfNoReturn: world.pointOfNoReturn === true,
      phases: view.phases.map((phase) =>
        phase.name === 'start-apps' && world.released === true ? { ...phase, startedAt: at(60) } : phase,
      ),
    };
    const code = await main(['reject', gate, '--reason', 'not yet']);

    expect(code).toBe(2);
    expect(said).toMatch(consequence);
    expect(executeUpdate).not.toHaveBeenCalled();
  });

  it.each([
    ['pause', ['--reason', 'network']],
    ['resume', []],
    ['tune', ['--limit', '0']],
  ])('%s takes --yes, as every decision does, although it asks nothing', async (name, more) => {
    for (const yes of ['--yes', '-y']) expect(await main([name, ...more, yes])).toBe(0);
    expect(executeUpdate).toHaveBeenCalledTimes(2);
    expect(JSON.stringify(executeUpdate.mock.calls)).not.toContain('yes');
  });

  it('says that the worker which is there cannot go on', async () => {
    const details = 'Unable to perform workflow execution update due to Workflow Task in failed state.';
    const refused = Object.assign(new Error(details), { code: 9, details, metadata: {} });
    executeUpdate.mockRejectedValue(new Error('Workflow Update failed', { cause: refused }));
    const code = await main(['approve', 'close-downtime', '--reason', 'good', '--yes']);

    expect(code).toBe(6);
    expect(said).toMatch(
      /cannot go on with this migration; nothing was recorded\nNext: ferry status migrate-a says why/,
    );
  });

  it('decides with --yes', async () => {
    const code = await main(['approve', 'close-downtime', '--reason', 'good', '--by', 'li', '--yes']);

    expect(code).toBe(0);
    expect(executeUpdate).toHaveBeenCalledWith('approve', {
      args: [{ gate: 'close-downtime', by: 'li', reason: 'good' }],
    });
  });
});
