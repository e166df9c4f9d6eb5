import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { describeServerView } from '../../../src/client/status.ts';
import { renderStatus, wrapColumns } from '../../../src/client/view.ts';
import type { Look } from '../../../src/client/watch.ts';
import { endOf, screenLines } from '../../../src/client/watch.ts';
import type { MigrationStatus, PhaseName, TransferStatus } from '../../../src/workflows/messages.ts';
import { phaseNames } from '../../../src/workflows/messages.ts';

const at = '2026-11-24T03:00:00.000Z';
const workflowId = 'migrate-a-cluster-with-a-rather-long-name';

function transfer(id: string): TransferStatus {
  return {
    id,
    subject: {},
    source: `old1:/sysvol/${id}`,
    destination: `new1:/sysvol/${id}`,
    state: 'fresh',
    workflowId: `${workflowId}-${id}`,
    passes: [],
  };
}

function statusIn(phase: PhaseName, more: Partial<MigrationStatus>): MigrationStatus {
  const reached = phaseNames.indexOf(phase);
  return {
    cluster: 'a-cluster-with-a-rather-long-name',
    planDigest: 'sha256:0',
    state: 'running',
    phase,
    pointOfNoReturn: false,
    phases: phaseNames.map((name, index) => ({
      name,
      section: index + 1,
      state: index < reached ? 'done' : index === reached ? 'running' : 'pending',
    })),
    gates: [{ name: 'open-downtime', state: 'awaiting', required: 2, approvals: [{ by: 'li', reason: 'ok', at }] }],
    decisions: [],
    transfers: Array.from({ length: 12 }, (_, index) => transfer(`redis-${index}`)),
    downtime: { budgetSeconds: 1800, projectedSeconds: 900, projectedErrorSeconds: 120, spentSeconds: 0 },
    ...more,
  };
}

const gate = statusIn('stop-apps', { state: 'awaiting-gate', awaitingGate: 'open-downtime' });
const blocked = statusIn('final-copy', {
  state: 'blocked',
  blocked: {
    phase: 'final-copy',
    cause: 'new2: there are 3 GiB free in /sysvol, and the last delta of mariadb-1 needs 9 GiB more than that',
    untouched: 'the old volumes, and everything on new1 and new3 that was verified before',
    next: 'ssh root@new2 -- lvextend --resizefs --size +20G /dev/mapper/sysvol-data && df -h /sysvol',
    heals: 'human',
    since: at,
  },
  downtime: {
    budgetSeconds: 1800,
    projectedSeconds: 2900,
    projectedErrorSeconds: 120,
    startedAt: at,
    spentSeconds: 725,
  },
});

function screen(status: MigrationStatus, size = { columns: 80, rows: 24 }, more: Partial<Look> = {}): string[] {
  const look: Look = { status, answeredAt: Date.now(), progress: new Map(), execution: 'RUNNING', ...more };
  return screenLines(look, workflowId, size).map((line) => stripVTControlCharacters(line));
}

const squeezed = (lines: readonly string[]): string => lines.join(' ').replaceAll(/\s+/g, ' ');

describe('a terminal of 24 lines and 80 columns', () => {
  it('shows the gate, the command that opens it, the clock and where things stand', () => {
    const lines = screen(gate);
    const text = squeezed(lines);

    expect(lines.length).toBeLessThanOrEqual(23);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
    expect(text).toContain('gate open-downtime awaits 2 approval(s), 1 given (li)');
    expect(text).toContain(`ferry approve open-downtime ${workflowId} --reason "…"`);
    expect(text).toContain('downtime not begun projected 15m00s ± 2m00s budget 30m00s');
    expect(text).toContain('✔ 4 done');
    expect(text).toContain('▶ §5 stop-apps');
    expect(text).toContain('· 10 pending');
    expect(text).toMatch(/and \d+ more: \d+ fresh Ctrl-C stops watching/);
  });

  it('shows cause, next command and clock of a blocked phase whole', () => {
    const lines = screen(blocked);
    const text = squeezed(lines);
    const stop = blocked.blocked;

    expect(lines.length).toBeLessThanOrEqual(23);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
    expect(text).toContain(stop?.cause);
    expect(text).toContain(stop?.untouched);
    expect(text).toContain(stop?.next);
    expect(text).toContain(`ferry resume ${workflowId} ferry abort ${workflowId} --reason`);
    expect(text).toContain('running 12m05s');
    expect(text).toContain('budget 30m00s (exceeded)');
    expect(text).toContain('9 done');
  });

  it('keeps the command when no worker answers as well', () => {
    const text = squeezed(screen(blocked, undefined, { trouble: 'no worker answers. Start one: ferry worker' }));

    expect(text).toContain(blocked.blocked?.next);
    expect(text).toContain('Start one: ferry worker');
  });

  it('does not fold what has room', () => {
    const text = squeezed(screen(gate, { columns: 120, rows: 60 }));

    expect(text).toContain('preflight');
    expect(text).toContain('redis-11');
    expect(text).not.toContain('4 done');
  });
});

describe('a file or a pipe', () => {
  it('gets everything, and nothing is cut', () => {
    const detail = 'x'.repeat(400);
    const [first, ...rest] = gate.phases;
    const status = { ...gate, phases: first === undefined ? [] : [{ ...first, detail }, ...rest] };
    const lines = renderStatus(status, { workflowId, now: 0, columns: Infinity, progress: new Map() });

    expect(lines.join('\n')).toContain(detail);
    expect(lines.join('\n')).toContain('redis-11');
    expect(lines.join('\n')).not.toMatch(/…(?!")/);
  });
});

describe('--quiet', () => {
  it.each([gate, blocked])('leaves out what to type, and nothing else', (status) => {
    const options = { workflowId, now: 0, columns: Infinity, progress: new Map<string, never>() };
    const text = renderStatus(status, { ...options, quiet: true }).join('\n');

    expect(text).not.toMatch(/ferry (approve|reject|resume|abort)/);
    expect(text).toContain(status.blocked?.cause ?? 'gate open-downtime awaits');
    expect(describeServerView({ workflowId, runId: 'r', execution: 'RUNNING' }, true)).not.toContain('ferry worker');
  });
});

describe('wrapColumns', () => {
  it.each<[string, number, string[]]>([
    ['one two three', 7, ['one two', 'three']],
    ['one  two', 20, ['one  two']],
    ['abcdefghij', 4, ['abcd', 'efgh', 'ij']],
    ['a\nb', 10, ['a', 'b']],
    ['空间不足', 5, ['空间', '不足']],
    ['\u001b[31mred\u001b[0m', 10, ['red']],
    ['  indented text', 10, ['  indented', 'text']],
  ])('%j in %d columns', (text, columns, expected) => {
    expect(wrapColumns(text, columns)).toEqual(expected);
  });
});

describe('the end of a migration', () => {
  const look = { answeredAt: 1, progress: new Map() };

  it.each<[string, Partial<Look>, number | undefined]>([
    ['completed', { execution: 'COMPLETED', status: { ...gate, state: 'completed' } }, 0],
    ['rolled back', { execution: 'COMPLETED', status: { ...gate, state: 'rolled-back' } }, 7],
    ['terminated with no worker', { execution: 'TERMINATED', trouble: 'ended' }, 1],
    ['running with no worker', { execution: 'RUNNING', trouble: 'no worker answers' }, undefined],
    ['running', { execution: 'RUNNING', status: gate }, undefined],
  ])('%s', (_, seen, code) => {
    expect(endOf({ ...look, ...seen })).toBe(code);
  });

  it.each([
    ['TERMINATED', false],
    ['RUNNING', true],
  ])('says of %s that a worker helps: %s', (execution, helps) => {
    const text = describeServerView({ workflowId, runId: 'r', execution });

    expect(text.includes('ferry worker')).toBe(helps);
  });
});
