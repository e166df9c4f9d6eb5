import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { describeServerView, missingWorker } from '../../../src/client/status.ts';
import type { CopyActivity } from '../../../src/client/migrations.ts';
import { changesBetween, renderStatus, wrapColumns } from '../../../src/client/view.ts';
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
    gates: [
      {
        name: 'open-downtime',
        state: 'awaiting',
        required: 2,
        approvers: ['zhao', 'qian'],
        approvals: [{ by: 'li', reason: 'ok', at }],
      },
    ],
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

const manyBlocked: MigrationStatus = {
  ...blocked,
  alsoBlocked: Array.from({ length: 5 }, (_, index) => ({
    phase: 'uninstall',
    cause: `component-${index}: a finalizer\nof its volume holds it, and whoever set it does not answer any more at all`,
    untouched: `the volume of component-${index}`,
    next: `kubectl get pv volume-${index}`,
    heals: 'human',
    since: at,
  })),
  moreBlocked: 2,
};

function screen(status: MigrationStatus, size = { columns: 80, rows: 24 }, more: Partial<Look> = {}): string[] {
  const look: Look = { status, answeredAt: Date.now(), progress: new Map(), execution: 'RUNNING', ...more };
  return screenLines(look, workflowId, size).map((line) => stripVTControlCharacters(line));
}

const squeezed = (lines: readonly string[]): string => lines.join(' ').replaceAll(/\s+/g, ' ');

describe('a terminal of 24 lines and 80 columns', () => {
  it('shows what an approval accepts without proof, however much that is', () => {
    const unproved = Array.from(
      { length: 20 },
      (_, index) => `nsq-${index} does not answer the probe queued: HTTP 404`,
    );
    const lines = screen({ ...gate, gates: gate.gates.map((one) => ({ ...one, unproved })) });
    const text = squeezed(lines);

    expect(lines.length).toBeLessThanOrEqual(23);
    expect(text).toContain('not proved, and accepted: nsq-0 does not answer the probe queued: HTTP 404; and 19 more:');
    expect(text).toContain(`ferry approve open-downtime ${workflowId} --reason "…"`);
  });

  it('shows the gate, the command that opens it, the clock and where things stand', () => {
    const lines = screen(gate);
    const text = squeezed(lines);

    expect(lines.length).toBeLessThanOrEqual(23);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
    expect(text).toContain('gate open-downtime awaits 2 approvals, 1 given (li): zhao or qian');
    expect(text).toContain(`ferry approve open-downtime ${workflowId} --reason "…"`);
    expect(text).toContain('downtime not begun projected 15m00s ± 2m00s budget 30m00s');
    expect(text).toContain('✔ 4 done');
    expect(text).toContain('▶ §5 stop-apps');
    expect(text).toContain('· 10 pending, next add-nodes');
    expect(text).toMatch(/12 directories: 12 fresh .*and \d+ more, fresh Ctrl-C stops watching/);
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

  it('names what else is blocked, a line each, and keeps the clock', () => {
    const lines = screen(manyBlocked);
    const text = squeezed(lines);

    expect(lines.length).toBeLessThanOrEqual(23);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
    expect(lines.filter((line) => line.startsWith('also blocked in uninstall: '))).toHaveLength(3);
    expect(text).toContain('also blocked in uninstall: component-0: a finalizer');
    expect(text).toContain(`and 4 more are blocked resume tries all of it again; whole: ferry status ${workflowId}`);
    expect(text).toContain(manyBlocked.blocked?.next);
    expect(text).toContain('running 12m05s');
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

/** Thirty directories, of which `copying` are under way. */
function moving(copying: number, nodes: string): { status: MigrationStatus; progress: Map<string, CopyActivity> } {
  const transfers = Array.from({ length: 30 }, (_, index): TransferStatus => ({
    ...transfer(`opensearch-${index}`),
    source: `old-${nodes}${index}:/sysvol/opensearch`,
    destination: `new-${nodes}${index}:/sysvol/opensearch`,
    state: index < copying ? 'copying' : 'pending',
  }));
  const progress = new Map(
    transfers.slice(0, copying).map(({ id }, index): [string, CopyActivity] => [
      id,
      {
        attempt: 1,
        progress: {
          ...{ pass: 2, step: 'comparing checksums', bytes: 2 ** 30 * (index + 1), total: 2 ** 30 * 20, files: 10 },
          ...{ bytesPerSecond: 48e6, etaSeconds: 60 * index },
        },
      },
    ]),
  );
  return { status: statusIn('replicate', { transfers }), progress };
}

describe('many copies at once', () => {
  it.each([
    { columns: 80, rows: 24, copying: 6, nodes: '' },
    { columns: 80, rows: 24, copying: 24, nodes: '' },
    { columns: 80, rows: 24, copying: 12, nodes: 'database-of-site-' },
    { columns: 120, rows: 40, copying: 12, nodes: '' },
    { columns: 68, rows: 20, copying: 12, nodes: '' },
    { columns: 200, rows: 60, copying: 12, nodes: 'database-of-site-' },
  ])('$copying in $columns columns and $rows rows: rate, time left and pass stand there whole', (size) => {
    const { status, progress } = moving(size.copying, size.nodes);
    const lines = screen(status, size, { progress });
    const rows = lines.filter((line) => line.includes('█') || line.includes('░'));

    expect(lines.length).toBeLessThan(size.rows);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(size.columns);
    expect(rows.length).toBeGreaterThanOrEqual(Math.min(size.copying, size.rows - 15));
    expect(rows.filter((line) => !/ \d+ % +.*45\.8 MiB\/s +\d+.* left +pass 2/.test(line))).toEqual([]);
    // Columns stand below each other.
    expect(new Set(rows.map((line) => line.indexOf(' MiB/s'))).size).toBe(1);
    expect(squeezed(lines)).toContain(`30 directories: ${size.copying} copying, ${30 - size.copying} pending`);
    expect(squeezed(lines)).toMatch(/more(, pending|: \d+ copying, \d+ pending)|opensearch-29/);
  });

  it('are worth more rows than phases to come', () => {
    const { status, progress } = moving(16, '');
    const folded = squeezed(screen(status, { columns: 120, rows: 34 }, { progress }));
    const unfolded = squeezed(screen(status, { columns: 120, rows: 48 }, { progress }));

    expect(folded).toContain('11 pending, next stop-apps');
    expect(folded).toContain('opensearch-15');
    expect(unfolded).toContain('start-host-services');
  });

  it('are counted where there is no room for one', () => {
    const { status, progress } = moving(16, '');
    const lines = screen(status, { columns: 40, rows: 12 }, { progress });

    expect(lines.length).toBeLessThan(12);
    expect(squeezed(lines)).toContain('30 directories: 16 copying');
    expect(squeezed(lines)).toContain('Ctrl-C leaves');
  });
});

describe('what happened, line by line', () => {
  const times = ['03:00:00', '03:01:00', '03:02:00', '03:03:00'].map((time) => `2026-11-24T${time}.000Z`);
  const [first = '', second = '', third = '', fourth = ''] = times;
  const [redis = transfer('')] = gate.transfers;
  const status = statusIn('stop-apps', {
    phases: gate.phases.map((phase) =>
      phase.name === 'replicate' ? { ...phase, startedAt: first, endedAt: fourth } : { ...phase, state: 'pending' },
    ),
    decisions: [
      {
        ...{ decision: 'tune', by: 'li', reason: '0 KiB/s', at: second, via: 'update', counted: true },
        planDigest: 'sha256:0',
      },
    ],
    transfers: [
      {
        ...redis,
        state: 'verified',
        passes: [
          {
            ...{ pass: 1, mode: 'live', startedAt: second, seconds: 60, files: 1, filesTransferred: 1, deleted: 0 },
            ...{ totalBytes: 10, literalBytes: 10, matchedBytes: 0, bytesPerSecond: 1, vanished: false },
          },
        ],
      },
    ],
  });

  it('carries the time at which it happened, also when nobody looked then', () => {
    const changes = changesBetween(undefined, status, workflowId);

    expect(changes.map(({ at: when, text }) => [when, text.split(' ').slice(0, 2).join(' ')])).toEqual([
      [second, 'li sent'],
      [third, 'copy redis-0'],
      [fourth, 'phase replicate'],
      [undefined, 'copy redis-0'],
    ]);
  });

  it('that has ended is told with the times of its end, and with what was projected when the window opened', () => {
    const ended: MigrationStatus = {
      ...status,
      state: 'completed',
      phases: status.phases.map((phase) => (phase.name === 'final-copy' ? { ...phase, endedAt: fourth } : phase)),
      decisions: status.decisions.map((decision) => ({
        ...{ ...decision, decision: 'approve', gate: 'open-downtime', projectedDowntimeSeconds: 600 },
      })),
      downtime: { ...status.downtime, projectedSeconds: 5, startedAt: third, endedAt: fourth, spentSeconds: 5 },
    };
    const changes = changesBetween(undefined, ended, workflowId);

    expect(changes).toContainEqual({ at: fourth, text: 'copy redis-0 verified, ' });
    expect(changes).toContainEqual({ at: fourth, text: 'migration completed' });
    expect(changes).toContainEqual({ at: third, text: 'downtime begins (projected 10m00s, budget 30m00s)' });
  });

  it('is told once', () => {
    expect(changesBetween(status, status, workflowId)).toEqual([]);
  });

  it('tells every block once, also those that came in one moment or are shortened since', () => {
    const stop = { ...blocked.blocked!, cause: `the latest so far: ${'x'.repeat(600)}` };
    const later = { ...stop, cause: 'later', phase: 'uninstall' as const };
    const one = { ...blocked, blocked: stop };
    const two = { ...blocked, blocked: later, alsoBlocked: [{ ...stop, cause: `${stop.cause.slice(0, 500)}…` }] };
    const causes = (before: MigrationStatus | undefined, after: MigrationStatus): string[] =>
      changesBetween(before, after, workflowId)
        .filter(({ text }) => text.startsWith('BLOCKED in '))
        .map(({ text }) => text.slice(11).split(';')[0] ?? '');

    expect(causes(one, two)).toEqual(['uninstall: later']);
    expect(causes(undefined, two)).toHaveLength(2);
    expect(causes(undefined, manyBlocked)).toHaveLength(6);
    expect(causes(two, two)).toEqual([]);
    expect(causes(two, one)).toEqual([]);
  });
});

describe('what is tried again', () => {
  it('stands below the clock, three at most, in one line each', () => {
    const retries = Array.from({ length: 5 }, (_, index) => ({
      activity: 'applyConfig',
      attempt: index + 2,
      failure: `proton-cli ended with 1\n  ${'and said much more about it '.repeat(9)}`,
    }));
    const lines = screen(statusIn('reinstall', {}), undefined, { retries });

    expect(lines.filter((line) => line.startsWith('applyConfig, try '))).toHaveLength(3);
    expect(lines).toContain('and 2 more are tried again');
    expect(lines.length).toBeLessThanOrEqual(23);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
    expect(squeezed(lines)).toContain('applyConfig, try 2: proton-cli ended with 1 and said');
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

  it('gets everything that is blocked, with what helps each', () => {
    const lines = renderStatus(manyBlocked, { workflowId, now: 0, columns: Infinity, progress: new Map() });
    const text = stripVTControlCharacters(lines.join('\n'));

    for (const stop of [manyBlocked.blocked!, ...manyBlocked.alsoBlocked!]) {
      for (const part of [stop.cause, `untouched: ${stop.untouched}`, `next: ${stop.next}`])
        expect(text).toContain(part);
    }
    expect(text).toContain('\nand 2 more are blocked\nresume tries all of it again\n');
  });

  it('hears of what is permanent that trying again does not help', () => {
    const show = (heals: 'human' | 'never'): string =>
      renderStatus(
        { ...manyBlocked, blocked: { ...manyBlocked.blocked!, heals } },
        { workflowId, now: 0, columns: Infinity, progress: new Map() },
      ).join('\n');

    expect(show('never')).toContain('trying again does not help');
    expect(show('human')).not.toContain('trying again does not help');
  });
});

describe('--quiet', () => {
  it.each([gate, blocked, manyBlocked])('leaves out what to type, and nothing else', (status) => {
    const options = { workflowId, now: 0, columns: Infinity, progress: new Map<string, never>() };
    const text = renderStatus(status, { ...options, quiet: true }).join('\n');

    expect(text).not.toMatch(/ferry (approve|reject|resume|abort)|resume tries/);
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

describe('a worker that cannot go on', () => {
  it.each([
    ['no such phase', 'Run the version of ferry that began it'],
    ['Unknown encoding: binary/encrypted', 'ferry worker --codec-keys-file FILE'],
  ])('because of "%s" is told with what helps', (workerFails, helps) => {
    const text = missingWorker({ workerFails });

    expect(text).toContain(workerFails);
    expect(text).toContain(helps);
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

  const asks = /awaits|gate open-downtime|awaiting-gate|next: |ferry (approve|reject|resume|abort)|goes on/;

  it.each(['TERMINATED', 'FAILED', 'TIMED_OUT', 'CANCELLED'])(
    'from outside (%s) leaves nothing on the screen or in the log that asks for an answer',
    (execution) => {
      for (const status of [gate, blocked]) {
        const lines = screen(status, { columns: 120, rows: 60 }, { execution });
        const log = changesBetween(undefined, status, workflowId, true).map(({ text }) => text);

        expect(lines[0]).toContain(`  ${execution.toLowerCase()}  ${status.phase ?? ''}`);
        expect(lines.join('\n')).toContain('preflight');
        expect(lines.join('\n')).not.toMatch(asks);
        expect(log.join('\n')).not.toMatch(asks);
        // What happened is told all the same.
        expect(log.join('\n')).toContain(status.blocked?.cause ?? '');
      }
    },
  );

  it('is not seen in one that runs', () => {
    for (const status of [gate, blocked]) {
      expect(screen(status).join('\n')).toMatch(asks);
      expect(
        changesBetween(undefined, status, workflowId)
          .map(({ text }) => text)
          .join('\n'),
      ).toMatch(asks);
    }
  });

  it.each([
    ['TERMINATED', false],
    ['RUNNING', true],
  ])('says of %s that a worker helps: %s', (execution, helps) => {
    const text = describeServerView({ workflowId, runId: 'r', execution });

    expect(text.includes('ferry worker')).toBe(helps);
    // Ended from outside, it left things as they were.
    expect(text.includes('ferry break-glass')).toBe(!helps);
  });
});
