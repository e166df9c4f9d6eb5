import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GateName } from '../../../src/plan/plan.ts';
import type { MigrationState } from '../../../src/workflows/state.ts';
import {
  approveCommand,
  awaitingGate,
  decisionCommand,
  describe as describeStatus,
  duration,
  viewStatus,
} from '../../../src/workflows/status.ts';
import { at, atGate, author, blockedIn, fresh, parked, pausedBy, plan, start, startTime, withPhase } from './states.ts';

const workflowId = 'migrate-unit';
const running = withPhase(fresh(), 'preflight', { state: 'running', startedAt: start });
const first = atGate('open-downtime');

function view(state: MigrationState, seconds = 0): ReturnType<typeof viewStatus> {
  return viewStatus(plan, state, startTime + seconds * 1000);
}

function markdown(state: MigrationState, seconds = 0): string {
  return describeStatus(plan, view(state, seconds), workflowId);
}

/** What a shell makes of a command line. */
function words(command: string): string[] {
  const out = execFileSync('sh', ['-c', `temporal() { printf '%s\\0' "$@"; }; ${command}`], { encoding: 'utf8' });
  return out.split('\0').slice(0, -1);
}

describe('the overall state', () => {
  it.each<[string, MigrationState, string]>([
    ['work goes on', running, 'running'],
    ['a gate waits', first, 'awaiting-gate'],
    ['a pause', pausedBy('li', running), 'paused'],
    ['a pause at a gate', pausedBy('li', first), 'paused'],
    ['a block', blockedIn('uninstall'), 'blocked'],
    ['a block beside a gate and a pause', blockedIn('uninstall', pausedBy('li', first)), 'blocked'],
    ['a block that was resumed', resumed(blockedIn('uninstall', running)), 'running'],
    ['rejected and sent back', parked(fresh(), { kind: 'sent-back', gate: 'close-downtime' }), 'blocked'],
    ['an abort too late', parked(running, { kind: 'no-way-back', by: 'li', reason: 'x' }), 'blocked'],
    ['an abort', { ...running, abort: { by: 'li', reason: 'x', at: start } }, 'rolling-back'],
    ['an undo that is stuck', { ...blockedIn('add-nodes'), abort: { by: 'li', reason: 'x', at: start } }, 'blocked'],
    ['the end', { ...running, outcome: 'migrated' }, 'completed'],
    ['the end of a rollback', { ...running, outcome: 'rolled-back' }, 'rolled-back'],
  ])('%s', (_name, state, expected) => {
    expect(view(state).state).toBe(expected);
  });

  function resumed(state: MigrationState): MigrationState {
    return { ...state, parked: state.parked.map((one) => ({ ...one, outcome: 'resumed' as const })) };
  }
});

describe('the status', () => {
  it('shows a phase as parked or blocked while it is, and keeps the stored state', () => {
    const stateOf = (state: MigrationState, name: string): string | undefined =>
      view(state).phases.find((phase) => phase.name === name)?.state;

    expect(stateOf(first, 'replicate')).toBe('parked');
    expect(stateOf(blockedIn('uninstall'), 'uninstall')).toBe('blocked');
    expect(stateOf(blockedIn('replicate', first), 'replicate')).toBe('blocked');
    expect(first.phases.find(({ name }) => name === 'replicate')?.state).toBe('pending');
  });

  it('has no phase at work and awaits nobody when it is over', () => {
    const status = view({ ...running, outcome: 'migrated' });

    expect(status).not.toHaveProperty('phase');
    expect(status).not.toHaveProperty('awaitingGate');
  });

  it('awaits a gate until it is decided', () => {
    const decided = { ...first, parked: first.parked.map((one) => ({ ...one, outcome: 'approved' as const })) };

    expect(awaitingGate(first)).toBe('open-downtime');
    expect(awaitingGate(decided)).toBeUndefined();
  });

  it('says who paused, since when and why', () => {
    expect(view(pausedBy('li')).paused).toEqual({ by: 'li', reason: 'phone call', since: start });
  });

  it('shows the last of several blocks with everything a person needs', () => {
    const status = view(blockedIn('final-copy', blockedIn('uninstall')));

    expect(status.blocked).toEqual({
      phase: 'final-copy',
      since: start,
      cause: 'disk full',
      untouched: 'nothing was written',
      next: 'make room',
      heals: 'human',
      choices: ['resume', 'abort'],
    });
  });

  it('names what else is blocked, in the order in which it happened, short and not too much of it', () => {
    const names = ['uninstall', 'stop-host-services', 'final-copy'] as const;
    const state = Array.from({ length: 14 }).reduce<MigrationState>(
      (before, _, index) =>
        parked(before, {
          kind: 'blocked',
          phase: names[index % 3]!,
          blocked: { cause: `${index}: ${'数'.repeat(900)}`, untouched: 'u', next: 'n', heals: 'human' },
        }),
      fresh(),
    );
    const status = view(state);

    expect(status.blocked?.cause).toMatch(/^13: 数{900}$/);
    expect(status.alsoBlocked?.map(({ cause }) => Number.parseInt(cause, 10))).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(status.alsoBlocked?.[1]).toEqual({
      ...{ phase: 'stop-host-services', since: start, untouched: 'u', next: 'n', heals: 'human' },
      cause: expect.stringMatching(/^1: 数{165}…$/) as string,
    });
    expect(status.moreBlocked).toBe(3);
    expect(markdown(state)).toContain('- and 3 more');
  });

  it('says nothing of others where one is blocked, or where those have been resumed', () => {
    const two = blockedIn('final-copy', blockedIn('uninstall', pausedBy('li', first)));
    const [gate, pause, old, last] = two.parked;
    const resumed = { ...two, parked: [gate!, pause!, { ...old!, outcome: 'resumed' as const }, last!] };

    expect(view(two).alsoBlocked?.map(({ phase }) => phase)).toEqual(['uninstall']);
    for (const state of [resumed, blockedIn('uninstall'), fresh()]) {
      expect(view(state)).not.toHaveProperty('alsoBlocked');
      expect(view(state)).not.toHaveProperty('moreBlocked');
      expect(markdown(state)).not.toContain('Also blocked');
    }
  });

  it('explains a result that was sent back and an abort that came too late', () => {
    const sentBack = view(parked(fresh(), { kind: 'sent-back', gate: 'close-downtime', by: 'li', reason: 'slow' }));
    const tooLate = view(parked(fresh(), { kind: 'no-way-back', by: 'li', reason: 'panic' }));

    expect(sentBack.blocked?.cause).toBe('li (slow) sent gate close-downtime back');
    expect(tooLate.blocked?.cause).toContain('li (panic) asked to abort after the old nodes began to be removed');
  });

  it('shows the downtime of the first stop, open or over', () => {
    const down = { ...running, downtime: [{ startedAt: at(0), endedAt: at(10) }, { startedAt: at(100) }] };

    expect(view(down, 160).downtime).toMatchObject({ startedAt: at(0), spentSeconds: 70 });
    expect(view(down, 160).downtime).not.toHaveProperty('endedAt');
    expect(view({ ...down, downtime: down.downtime.slice(0, 1) }, 160).downtime).toMatchObject({ endedAt: at(10) });
  });

  it('does not change what it looks at', () => {
    const state = blockedIn('uninstall', pausedBy('li', first));
    const before = structuredClone(state);
    view(state, 100);

    expect(state).toEqual(before);
  });
});

describe('the current details', () => {
  it('begin with cluster and state, and hold one row per phase in order', () => {
    const text = markdown(withPhase(running, 'prewarm', { state: 'skipped', detail: 'a | b\nc' }));
    const rows = text.split('\n').filter((line) => /^\| \d+ \|/.test(line));

    expect(text.startsWith('## unit: running, preflight')).toBe(true);
    expect(rows.map((row) => row.split(' | ')[1])).toEqual(fresh().phases.map(({ name }) => name));
    expect(rows[1]).toContain('| skipped | a \\| b c |');
  });

  it('hold one row per transfer, with the last pass', () => {
    const state = fresh();
    const [one] = state.transfers;
    const passed = {
      ...state,
      transfers: [
        {
          ...one!,
          passes: [
            {
              pass: 3,
              mode: 'live' as const,
              startedAt: start,
              seconds: 1,
              files: 1,
              filesTransferred: 1,
              deleted: 0,
              totalBytes: 99,
              literalBytes: 11,
              matchedBytes: 0,
              bytesPerSecond: 1,
              vanished: false,
            },
          ],
        },
      ],
    };

    expect(markdown(passed)).toContain('11 of 99 bytes in pass 3 |');
    expect(markdown({ ...state, transfers: [] })).toContain('No data moves.');
  });

  it('hold the exact command that approves the open gate, with the digest', () => {
    const text = markdown(first);
    const command = approveCommand(plan, workflowId, 'open-downtime');

    expect(text).toContain(`\n${command}\n`);
    expect(text).toContain('**Gate `open-downtime` awaits 2 approvals: li or zhao.**');
    expect(words(command)).toEqual([
      'workflow',
      'signal',
      '--workflow-id',
      'migrate-unit',
      '--name',
      'approve',
      '--input',
      JSON.stringify({ gate: 'open-downtime', by: 'li', reason: 'WHY', planDigest: plan.digest }),
    ]);
  });

  it('offer abort while blocked only where there is a way back', () => {
    const blocked = blockedIn('uninstall');

    expect(markdown(blocked)).toContain('--name resume');
    expect(markdown(blocked)).toContain('--name abort');
    expect(markdown({ ...blocked, pointOfNoReturn: true })).not.toContain('--name abort');
    expect(markdown({ ...blocked, finishing: true })).not.toContain('--name abort');
    expect(markdown({ ...blocked, abort: { by: 'li', reason: 'x', at: start } })).not.toContain('--name abort');
  });

  it('name everything that is blocked, each with what helps', () => {
    const text = markdown(
      parked(blockedIn('uninstall'), {
        kind: 'blocked',
        phase: 'final-copy',
        blocked: { cause: 'new2 is full', untouched: 'all', next: 'make room on new2', heals: 'human' },
      }),
    );

    expect(text).toContain('**Blocked in `final-copy`:** new2 is full');
    expect(text).toContain('\n- `uninstall`: disk full Next: make room\n');
    expect(text.match(/--name resume/g)).toHaveLength(1);
  });

  it('say of what is permanent that trying again does not help', () => {
    const blocked = { cause: 'too old', untouched: 'all', next: 'install it', heals: 'never' } as const;
    const text = markdown(parked(fresh(), { kind: 'blocked', phase: 'replicate', choices: ['resume'], blocked }));

    expect(text).toContain('trying again does not help');
    expect(markdown(blockedIn('uninstall'))).not.toContain('trying again');
  });

  it('say nothing of a downtime that has not begun, and everything of one that has', () => {
    expect(markdown(running)).toContain('Downtime: not begun; projected');
    expect(markdown({ ...running, downtime: [{ startedAt: at(0) }] }, 60)).toContain(`since ${at(0)}, 60 s spent`);
    expect(markdown({ ...running, downtime: [{ startedAt: at(0), endedAt: at(60) }] })).toContain(`over at ${at(60)}`);
  });

  it('stay below the limit of the server, the command of the gate always in them', () => {
    const state: MigrationState = {
      ...first,
      phases: first.phases.map((phase) => ({ ...phase, detail: '数据'.repeat(5000) })),
      transfers: Array.from({ length: 400 }, () => first.transfers[0]!),
    };
    const text = markdown(state);

    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(18_000);
    expect(text).toContain(approveCommand(plan, workflowId, 'open-downtime'));
  });
});

describe('a command to copy', () => {
  it('arrives as it was meant, whatever is in it', () => {
    const texts = fc.string({ unit: 'grapheme', maxLength: 20 }).filter((text) => !text.includes('\0'));
    fc.assert(
      fc.property(fc.array(texts, { minLength: 1, maxLength: 4 }), (values) => {
        const input = Object.fromEntries(values.map((value, index) => [`field${index}`, value]));
        expect(JSON.parse(words(decisionCommand(workflowId, 'abort', input)).at(-1)!)).toEqual(input);
      }),
      { numRuns: 30, examples: [[["it's"]], [["'; touch /tmp/x; '"]], [['$(id)`id`\\"']]] },
    );
  });

  it('names the workflow, whatever its id is', () => {
    const ids = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }).filter((text) => !text.includes('\0'));
    fc.assert(
      fc.property(ids, (id) => {
        expect(words(decisionCommand(id, 'abort', {}))[3]).toBe(id);
      }),
      { numRuns: 30, examples: [["it's mine"], ['a; touch /tmp/x'], ['$(id)'], ['-x']] },
    );
  });

  it('is for the next who may approve, not for one who has', () => {
    const given = [{ by: 'li', reason: 'x', at: start }];

    expect(approveCommand(plan, workflowId, 'open-downtime', given)).toContain('"by":"zhao"');
    expect(
      approveCommand(plan, workflowId, 'open-downtime', [...given, { by: 'zhao', reason: 'x', at: start }]),
    ).toContain('"by":"YOUR-NAME"');
  });

  it('leaves the name to be filled in where the plan names nobody', () => {
    expect(approveCommand(plan, workflowId, 'close-downtime')).toContain('"by":"YOUR-NAME"');
  });

  it.each<GateName>(['open-downtime', 'remove-nodes', 'close-downtime'])(
    'never offers the author %s where somebody else has to approve',
    (gate) => {
      const own = {
        ...plan,
        gates: { ...plan.gates, [gate]: { approvers: [author, 'li'], required: 1, selfApproval: false } },
      };

      expect(approveCommand(own, workflowId, gate)).toContain('"by":"li"');
    },
  );
});

describe('durations', () => {
  it.each([
    [0, '0 s'],
    [59.6, '60 s'],
    [119, '119 s'],
    [120, '2 min'],
    [3600, '60 min'],
    [7199, '2 h 00 min'],
    [11_100, '3 h 05 min'],
    [100 * 3600, '100 h 00 min'],
  ])('%d seconds are %s', (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });
});
