import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Client } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { main } from '../../../src/client/main.ts';
import { neededAttributes } from '../../../src/client/search-attributes.ts';
import { samplePlan } from '../plan/samples.ts';

const listSearchAttributes = vi.fn<() => Promise<{ customAttributes: Record<string, number> }>>();
const describeTaskQueue = vi.fn<() => Promise<{ pollers: object[] }>>();
const start = vi.fn<() => Promise<{ firstExecutionRunId: string }>>();

vi.mock('../../../src/client/connection.ts', async (original) => ({
  ...(await original<object>()),
  withClient: (_: unknown, work: (client: Client) => Promise<unknown>) =>
    work({
      options: { namespace: 'moves' },
      connection: { operatorService: { listSearchAttributes } },
      workflow: { start },
      workflowService: { describeTaskQueue },
    } as unknown as Client),
}));

const everything = Object.fromEntries(neededAttributes.map(({ name }) => [name, 2]));
const directory = mkdtempSync(join(tmpdir(), 'ferry-start-'));
const file = join(directory, 'plan.json');
writeFileSync(file, JSON.stringify(samplePlan()));
let said = '';

beforeEach(() => {
  said = '';
  const keep = (text: string | Uint8Array): boolean => {
    said += String(text);
    return true;
  };
  vi.spyOn(process.stdout, 'write').mockImplementation(keep);
  vi.spyOn(process.stderr, 'write').mockImplementation(keep);
  start.mockReset().mockResolvedValue({ firstExecutionRunId: 'r1' });
  listSearchAttributes.mockReset().mockResolvedValue({ customAttributes: everything });
  describeTaskQueue.mockReset().mockResolvedValue({ pollers: [{}] });
});
afterEach(() => vi.restoreAllMocks());
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const grpcError = (code: number): Error => Object.assign(new Error('no'), { code, details: 'no', metadata: {} });

describe('ferry start', () => {
  it('refuses a server without the search attributes, and says how to make them', async () => {
    listSearchAttributes.mockResolvedValue({ customAttributes: { FerryCluster: 2, FerryPhase: 2 } });

    const code = await main(['start', file]);

    expect(code).toBe(1);
    expect(start).not.toHaveBeenCalled();
    expect(said.split('\n').filter((line) => line.startsWith('  temporal '))).toEqual([
      '  temporal operator search-attribute create --namespace moves --name FerryAwaitingGate --type Keyword',
      '  temporal operator search-attribute create --namespace moves --name FerryDowntimeStart --type Datetime',
    ]);
  });

  it('starts where all of them are there', async () => {
    expect(await main(['start', file])).toBe(0);
    expect(start).toHaveBeenCalledOnce();
    expect(said).not.toContain('No worker');
  });

  const heardOf = (secondsAgo: number): object => ({ lastAccessTime: msToTs(Date.now() - secondsAgo * 1000) });

  it('says nothing of workers where one asked for work a minute ago', async () => {
    describeTaskQueue.mockResolvedValue({ pollers: [heardOf(240), heardOf(60)] });

    expect(await main(['start', file])).toBe(0);
    expect(said).not.toContain('No worker');
  });

  it.each([
    ['none ever', []],
    ['none lately', [heardOf(240)]],
  ])('says that nothing happens where no worker waits for work: %s', async (_name, pollers) => {
    describeTaskQueue.mockResolvedValue({ pollers });

    expect(await main(['start', file])).toBe(0);
    expect(said).toMatch(/No worker serves task queue ferry: nothing happens until one does\.\nNext: ferry worker\n/);
    await main(['start', file, '--task-queue', 'night']);
    expect(said).toContain('Next: ferry worker --task-queue night\n');
  });

  it('says nothing of workers where it may not ask for them', async () => {
    describeTaskQueue.mockRejectedValue(grpcError(7));

    expect(await main(['start', file])).toBe(0);
    expect(said).not.toContain('No worker');
  });

  it.each([
    ['may not be asked', 7],
    ['has nothing to ask', 12],
  ])('starts on a server that %s', async (_, code) => {
    listSearchAttributes.mockRejectedValue(grpcError(code));

    expect(await main(['start', file])).toBe(0);
    expect(start).toHaveBeenCalledOnce();
  });

  it('does not start on a server that does not answer', async () => {
    listSearchAttributes.mockRejectedValue(grpcError(14));

    expect(await main(['start', file])).toBe(6);
    expect(start).not.toHaveBeenCalled();
  });
});
