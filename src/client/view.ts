import { stripVTControlCharacters } from 'node:util';
import type {
  DecisionRecord,
  MigrationStatus,
  PhaseState,
  PhaseStatus,
  TransferStatus,
} from '../workflows/messages.ts';
import { pc } from './colors.ts';
import type { CopyActivity } from './migrations.ts';
import { bytes, pad, seconds, width } from './output.ts';

/* What a migration looks like on a terminal. Pure: status and heartbeats in, lines out. */

export interface ViewOptions {
  workflowId: string;
  /** Milliseconds since the epoch. */
  now: number;
  /** Infinity where nothing is cut, in files and pipes. */
  columns: number;
  /** Lines that there are; without it everything is shown. */
  rows?: number;
  /** No hints: nothing about what to type. */
  quiet?: boolean;
  progress: ReadonlyMap<string, CopyActivity>;
}

const marks: Record<PhaseState, string> = {
  pending: '·',
  running: '▶',
  parked: '⏸',
  blocked: '■',
  done: '✔',
  skipped: '-',
  undoing: '◀',
  undone: '↩',
};

function paintOf(state: PhaseState): (text: string) => string {
  switch (state) {
    case 'done':
      return pc.green;
    case 'blocked':
      return pc.red;
    case 'parked':
    case 'undoing':
      return pc.yellow;
    case 'running':
      return pc.cyan;
    default:
      return pc.dim;
  }
}

/**
 * What has to be decided stands at the top and is wrapped, never cut: a small terminal must still show the cause, the command and the
 * clock. Ladder and transfers give way.
 */
export function renderStatus(status: MigrationStatus, options: ViewOptions): string[] {
  const { columns, rows = Infinity } = options;
  const top = [
    clipColumns(headline(status, options), columns),
    ...renderWaiting(status, options),
    '',
    ...renderDowntime(status, options),
  ];
  const free = rows - top.length;
  const transfers = status.transfers.length;
  const full = ladder(status, options);
  // Two blank lines, and as much of the transfers as tells how they stand.
  const steps = full.length + 2 + Math.min(3, Math.max(1, transfers)) <= free ? full : foldedLadder(status, options);
  const body = ['', ...steps, '', ...renderTransfers(status, options, free - steps.length - 2)];
  return [...top, ...body.map((line) => clipColumns(line, columns)).slice(0, Math.max(0, free))];
}

const stateColors: Record<MigrationStatus['state'], (text: string) => string> = {
  running: pc.cyan,
  'awaiting-gate': pc.yellow,
  paused: pc.yellow,
  blocked: pc.red,
  'rolling-back': pc.yellow,
  'rolled-back': pc.yellow,
  completed: pc.green,
};

function headline(status: MigrationStatus, options: ViewOptions): string {
  const what = [status.phase, status.awaitingGate === undefined ? undefined : `gate ${status.awaitingGate}`];
  const where = what.filter((part) => part !== undefined).join(', ');
  const noReturn = status.pointOfNoReturn ? pc.dim('  past the point of no return') : '';
  return `${pc.bold(status.cluster)}  ${stateColors[status.state](status.state)}${where === '' ? '' : `  ${where}`}${noReturn}  ${pc.dim(options.workflowId)}`;
}

function ladder(status: MigrationStatus, options: ViewOptions): string[] {
  return status.phases.map((phase) => ladderLine(phase, status, options));
}

function ladderLine(phase: PhaseStatus, { phases }: MigrationStatus, options: ViewOptions): string {
  const names = Math.max(...phases.map(({ name }) => name.length));
  const paint = paintOf(phase.state);
  const section = `§${phase.section}`.padEnd(4);
  const time = pad(phaseTime(phase, options.now), 7);
  return `${paint(marks[phase.state])} ${pc.dim(section)} ${paint(phase.name.padEnd(names))}  ${time} ${detailOf(phase)}`.trimEnd();
}

/** Phases that are over and phases to come as one line each; what happens now stays. */
function foldedLadder(status: MigrationStatus, options: ViewOptions): string[] {
  const runs: PhaseStatus[][] = [];
  for (const phase of status.phases) {
    const run = runs.at(-1);
    const kind = foldKind(phase.state);
    if (run?.[0] !== undefined && kind !== undefined && foldKind(run[0].state) === kind) run.push(phase);
    else runs.push([phase]);
  }
  return runs.flatMap((run) => {
    const [first] = run;
    const kind = first === undefined ? undefined : foldKind(first.state);
    if (kind === undefined || run.length === 1) return run.map((phase) => ladderLine(phase, status, options));
    const states = Map.groupBy(run, ({ state }) => state);
    const text = [...states].map(([state, group]) => `${group.length} ${state}`).join(', ');
    return [paintOf(kind)(`${marks[kind]} ${text}`)];
  });
}

function foldKind(state: PhaseState): PhaseState | undefined {
  if (state === 'skipped') return 'done';
  return state === 'done' || state === 'pending' || state === 'undone' ? state : undefined;
}

function detailOf(phase: PhaseStatus): string {
  const detail = phase.detail?.replaceAll(/\s+/g, ' ') ?? '';
  const state = phase.state === 'done' || phase.state === 'running' || phase.state === 'pending' ? '' : phase.state;
  return [state, detail].filter((part) => part !== '').join(': ');
}

/** Seconds a phase took or has taken so far, as text. */
export function phaseTime(phase: PhaseStatus, now: number): string {
  if (phase.startedAt === undefined || phase.state === 'skipped') return '';
  const end = phase.endedAt === undefined ? now : Date.parse(phase.endedAt);
  return seconds((end - Date.parse(phase.startedAt)) / 1000);
}

function renderTransfers(status: MigrationStatus, options: ViewOptions, rows: number): string[] {
  const { transfers } = status;
  if (transfers.length === 0) return [pc.dim('no data moves')];
  const order: TransferStatus['state'][] = ['failed', 'final', 'copying', 'pending', 'fresh', 'verified'];
  const sorted = transfers.toSorted((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
  const isAll = sorted.length <= rows;
  const most = isAll ? sorted.length : Math.max(0, rows - 1);
  const shown = sorted.slice(0, most);
  const hidden = sorted.slice(most);
  const names = Math.max(...shown.map(({ id }) => id.length));
  const routes = Math.max(...shown.map((transfer) => routeOf(transfer).length));
  const lines = shown.map((transfer) => {
    const name = pad(transfer.id, names);
    return `  ${name}  ${pc.dim(pad(routeOf(transfer), routes))}  ${describeTransfer(transfer, options.progress.get(transfer.id))}`;
  });
  if (hidden.length > 0) {
    const states = Map.groupBy(hidden, ({ state }) => state);
    const parts = [...states].map(([state, group]) => `${group.length} ${state}`);
    const what = shown.length === 0 ? `${hidden.length} transfers` : `and ${hidden.length} more`;
    lines.push(pc.dim(`  ${what}: ${parts.join(', ')}`));
  }
  return lines;
}

function routeOf({ source, destination }: TransferStatus): string {
  return `${source.split(':')[0] ?? ''} → ${destination.split(':')[0] ?? ''}`;
}

function describeTransfer(transfer: TransferStatus, activity: CopyActivity | undefined): string {
  const last = transfer.passes.at(-1);
  switch (transfer.state) {
    case 'pending':
      return pc.dim('pending');
    case 'failed':
      return pc.red(`failed${activity?.lastFailure === undefined ? '' : `: ${activity.lastFailure}`}`);
    case 'copying':
    case 'final':
      return describeCopy(transfer, activity);
    case 'fresh': {
      const projected = transfer.projectedFinalSeconds;
      const final = projected === undefined ? '' : `, last delta about ${seconds(projected)}`;
      return `${pc.green('fresh')}  ${passText(transfer)}${final}`;
    }
    case 'verified': {
      const size = last === undefined ? '' : `  ${bytes(last.totalBytes)}`;
      return `${pc.green('verified')}${size}  ${pc.dim((transfer.digest ?? '').slice(0, 19))}`;
    }
  }
}

function describeCopy(transfer: TransferStatus, activity: CopyActivity | undefined): string {
  const label = transfer.state === 'final' ? pc.yellow('last delta') : pc.cyan('copying');
  const progress = activity?.progress;
  const retry =
    (activity?.attempt ?? 1) > 1
      ? pc.yellow(`  try ${activity?.attempt ?? 1}: ${activity?.lastFailure ?? 'the worker was lost'}`)
      : '';
  if (progress === undefined) return `${label}  ${passText(transfer)}${retry}`;
  const share = progress.total === 0 ? 0 : Math.min(1, progress.bytes / progress.total);
  const eta = progress.etaSeconds === undefined ? '' : `  ${seconds(progress.etaSeconds)} left`;
  return `${label}  ${bar(share, 20)} ${String(Math.round(share * 100)).padStart(3)} %  ${bytes(progress.bytes)} of ${bytes(progress.total)}  ${bytes(progress.bytesPerSecond)}/s${eta}  ${pc.dim(`pass ${progress.pass}, ${progress.step}`)}${retry}`;
}

function passText({ passes }: TransferStatus): string {
  const last = passes.at(-1);
  if (last === undefined) return pc.dim('first pass');
  return `${bytes(last.totalBytes)}  ${pc.dim(`pass ${last.pass} moved ${bytes(last.literalBytes)} in ${seconds(last.seconds)}`)}`;
}

export function bar(share: number, columns: number): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * columns);
  return `${'█'.repeat(full)}${'░'.repeat(columns - full)}`;
}

/** Seconds of downtime until now; the status was answered a moment ago, the clock goes on. */
export function downtimeNow(status: MigrationStatus, answeredAt: number, now: number): number {
  const { startedAt, endedAt, spentSeconds } = status.downtime;
  return startedAt !== undefined && endedAt === undefined
    ? spentSeconds + Math.max(0, (now - answeredAt) / 1000)
    : spentSeconds;
}

function renderDowntime(status: MigrationStatus, { now, columns }: ViewOptions): string[] {
  const { downtime } = status;
  const over = downtime.projectedSeconds > downtime.budgetSeconds;
  const paint = over ? pc.red : (text: string) => text;
  const projected = paint(
    `projected ${seconds(downtime.projectedSeconds)} ± ${seconds(downtime.projectedErrorSeconds)}`,
  );
  const budget = `budget ${seconds(downtime.budgetSeconds)}${over ? pc.red(' (exceeded)') : ''}`;
  if (downtime.startedAt === undefined) return fold(['downtime  not begun', projected, budget], columns);
  const spent = downtime.endedAt === undefined ? downtimeNow(status, now, now) : downtime.spentSeconds;
  const clock =
    downtime.endedAt === undefined
      ? pc.bold(pc.yellow(`running ${seconds(spent)}`))
      : pc.green(`over after ${seconds(spent)}`);
  const share = downtime.budgetSeconds === 0 ? 1 : spent / downtime.budgetSeconds;
  return fold([`downtime  ${clock}  ${bar(share, 20)}`, projected, budget], columns);
}

/** Parts in one line, or in several that hold them whole. */
function fold(parts: readonly string[], columns: number): string[] {
  const lines: string[] = [];
  for (const part of parts) {
    const line = lines.at(-1);
    if (line !== undefined && width(line) + 2 + width(part) <= columns) lines[lines.length - 1] = `${line}  ${part}`;
    else lines.push(line === undefined ? part : `          ${part}`);
  }
  return lines;
}

function renderWaiting(status: MigrationStatus, { workflowId, columns, quiet }: ViewOptions): string[] {
  const lines: string[] = [];
  const say = (text: string, paint: (line: string) => string = (line) => line): void => {
    lines.push(...wrapColumns(text, columns).map(paint));
  };
  const hint = (text: string, paint?: (line: string) => string): void => {
    if (quiet !== true) say(text, paint);
  };
  const important = (paint: (line: string) => string) => (line: string) => pc.bold(paint(line));
  if (status.blocked !== undefined) {
    const { phase, cause, untouched, next } = status.blocked;
    lines.push('');
    say(`blocked in ${phase}: ${cause}`, important(pc.red));
    say(`untouched: ${untouched}`);
    say(`next: ${next}`, pc.bold);
    hint(`  ferry resume ${workflowId}`, pc.bold);
    if (!status.pointOfNoReturn) hint(`  ferry abort ${workflowId} --reason "…"`);
  }
  if (status.paused !== undefined) {
    lines.push('');
    say(`paused by ${status.paused.by}: ${status.paused.reason}`, pc.yellow);
    hint(`next: ferry resume ${workflowId}`, pc.bold);
  }
  if (status.awaitingGate !== undefined && status.blocked === undefined) {
    const gate = status.gates.find(({ name }) => name === status.awaitingGate);
    const given = gate?.approvals.map(({ by }) => by).join(', ') ?? '';
    lines.push('');
    say(
      `gate ${status.awaitingGate} awaits ${gate?.required ?? 1} approval(s), ${gate?.approvals.length ?? 0} given${given === '' ? '' : ` (${given})`}`,
      important(pc.yellow),
    );
    hint(`  ferry approve ${status.awaitingGate} ${workflowId} --reason "…"`, pc.bold);
    hint(`  ferry reject ${status.awaitingGate} ${workflowId} --reason "…"`);
  }
  return lines;
}

/** Lines that fit, broken at blanks where there are any. The text has no colours; escape codes that somebody wrote are taken out. */
export function wrapColumns(text: string, columns: number): string[] {
  return stripVTControlCharacters(text)
    .split('\n')
    .flatMap((paragraph) => {
      const lines: string[] = [];
      let line = '';
      for (const word of paragraph.split(/(?<=\s)(?=\S)/)) {
        if (width(line) + width(word.trimEnd()) <= columns) {
          line += word;
          continue;
        }
        if (line.trim() !== '') {
          lines.push(line.trimEnd());
          line = '';
        }
        for (const character of word) {
          if (width(line) + width(character) > columns) {
            lines.push(line);
            line = '';
          }
          line += character;
        }
      }
      return [...lines, line.trimEnd()];
    });
}

/** Cuts a line to the width of the terminal; colour codes stay whole and are ended. */
export function clipColumns(line: string, columns: number): string {
  if (width(line) <= columns) return line;
  let shown = 0;
  let kept = '';
  let hasColor = false;

  for (const [part] of line.matchAll(/\u001b\[[0-9;]*m|./gsu)) {
    if (part.startsWith('\u001b')) {
      hasColor = true;
      kept += part;
      continue;
    }
    if (shown + width(part) > columns - 1) break;
    shown += width(part);
    kept += part;
  }
  return `${kept}…${hasColor ? '\u001b[0m' : ''}`;
}

/** What happened between two looks, one line each; for logs and terminals that cannot be redrawn. */
export function changesBetween(
  before: MigrationStatus | undefined,
  after: MigrationStatus,
  workflowId: string,
): string[] {
  const lines: string[] = [];
  const phasesBefore = new Map(before?.phases.map((phase) => [phase.name, phase.state]));
  for (const phase of after.phases) {
    const was = phasesBefore.get(phase.name) ?? 'pending';
    if (was === phase.state || phase.state === 'parked' || phase.state === 'blocked') continue;
    const detail = phase.detail === undefined ? '' : `: ${phase.detail.replaceAll(/\s+/g, ' ')}`;
    lines.push(
      `phase ${phase.name} (§${phase.section}) ${phase.state}${phase.state === 'done' ? ` in ${phaseTime(phase, 0)}` : ''}${detail}`,
    );
  }
  const transfersBefore = new Map(before?.transfers.map((transfer) => [transfer.id, transfer]));
  for (const transfer of after.transfers) lines.push(...transferChanges(transfersBefore.get(transfer.id), transfer));
  if (before?.downtime.startedAt === undefined && after.downtime.startedAt !== undefined) {
    lines.push(
      `downtime begins (projected ${seconds(after.downtime.projectedSeconds)}, budget ${seconds(after.downtime.budgetSeconds)})`,
    );
  }
  if (before?.downtime.endedAt === undefined && after.downtime.endedAt !== undefined) {
    lines.push(
      `downtime over after ${seconds(after.downtime.spentSeconds)} (budget ${seconds(after.downtime.budgetSeconds)})`,
    );
  }
  for (const decision of after.decisions.slice(before?.decisions.length ?? 0)) lines.push(describeDecision(decision));
  if (after.blocked !== undefined && before?.blocked?.since !== after.blocked.since) {
    lines.push(
      `BLOCKED in ${after.blocked.phase}: ${after.blocked.cause}; untouched: ${after.blocked.untouched}; next: ${after.blocked.next}; then: ferry resume ${workflowId}`,
    );
  }
  if (after.awaitingGate !== undefined && before?.awaitingGate !== after.awaitingGate) {
    lines.push(
      `gate ${after.awaitingGate} awaits a decision (projected downtime ${seconds(after.downtime.projectedSeconds)} ± ${seconds(after.downtime.projectedErrorSeconds)}): ferry approve ${after.awaitingGate} ${workflowId} --reason "…"`,
    );
  }
  if (
    before?.state !== after.state &&
    (after.state === 'completed' || after.state === 'rolled-back' || after.state === 'rolling-back')
  ) {
    lines.push(`migration ${after.state}`);
  }
  return lines;
}

function transferChanges(before: TransferStatus | undefined, after: TransferStatus): string[] {
  const lines: string[] = [];
  const seen = new Set(before?.passes.map(({ startedAt, pass }) => `${startedAt}/${pass}`));
  for (const pass of after.passes) {
    if (seen.has(`${pass.startedAt}/${pass.pass}`)) continue;
    lines.push(
      `copy ${after.id} ${routeOf(after)} pass ${pass.pass} (${pass.mode}): moved ${bytes(pass.literalBytes)} of ${bytes(pass.totalBytes)} in ${seconds(pass.seconds)}`,
    );
  }
  if (before !== undefined && before.state === after.state) return lines;
  if (after.state === 'verified') lines.push(`copy ${after.id} verified, ${after.digest ?? ''}`);
  if (after.state === 'failed') lines.push(`copy ${after.id} failed`);
  return lines;
}

export function describeDecision(decision: DecisionRecord): string {
  const gate = decision.gate === undefined ? '' : ` ${decision.gate}`;
  const verdict = decision.counted ? '' : `; it does not count: ${decision.why ?? ''}`;
  return `${decision.by} sent ${decision.decision}${gate} (${decision.via})${decision.reason === '' ? '' : `: ${decision.reason}`}${verdict}`;
}
