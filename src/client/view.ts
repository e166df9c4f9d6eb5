import { stripVTControlCharacters } from 'node:util';
import { counted } from '../plan/counted.ts';
import type {
  BlockedStatus,
  DecisionRecord,
  MigrationStatus,
  PhaseState,
  PhaseStatus,
  TransferStatus,
} from '../workflows/messages.ts';
import { describeAwaited, triedInVain } from '../workflows/status.ts';
import { formatBytes } from '../plan/amounts.ts';
import { pc } from './colors.ts';
import type { CopyActivity, Retry } from './migrations.ts';
import { pad, seconds, width } from './output.ts';

/* What a migration looks like on a terminal. Pure: status and heartbeats in, lines out. */

export interface ViewOptions {
  workflowId: string;
  /** Milliseconds since the epoch. */
  now: number;
  /** Infinity where nothing is cut, in files and pipes. */
  columns: number;
  /** Lines that there are; without it everything is shown. */
  rows?: number;
  /** The workflow was ended from outside: nobody is awaited any more, whatever the status says. Without a text where that is said below. */
  brokenOff?: { execution: string; text?: string };
  /** No hints: nothing about what to type. */
  quiet?: boolean;
  progress: ReadonlyMap<string, CopyActivity>;
  /** What was tried and failed, and is tried again. */
  retries?: readonly Retry[];
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
    ...renderRetries(options),
  ];
  const free = rows - top.length;
  const full = ladder(status, options);
  const atWork = status.transfers.filter(({ state }) => workOrder.includes(state)).length;
  // Two blank lines, the line above the transfers, all that are at work, and what stands for the rest.
  const steps = full.length + 4 + Math.max(2, atWork) <= free ? full : foldedLadder(status, options);
  // Where every line counts, none is blank.
  const gap = steps.length + 6 <= free ? [''] : [];
  const transfers = renderTransfers(status, options, free - steps.length - 2 * gap.length);
  const body = [...gap, ...steps, ...gap, ...transfers];
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
  const hasGate = status.awaitingGate !== undefined && options.brokenOff === undefined;
  const what = [status.phase, hasGate ? `gate ${status.awaitingGate}` : undefined];
  const where = what.filter((part) => part !== undefined).join(', ');
  const state =
    options.brokenOff === undefined
      ? stateColors[status.state](status.state)
      : pc.red(options.brokenOff.execution.toLowerCase());
  const noReturn = status.pointOfNoReturn ? pc.dim('  past the point of no return') : '';
  const line = `${pc.bold(status.cluster)}  ${state}${where === '' ? '' : `  ${where}`}${noReturn}`;
  const id = `  ${pc.dim(options.workflowId)}`;
  // The id stands in every command below as well.
  return width(line) + width(id) > options.columns ? line : `${line}${id}`;
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
    const next = kind === 'pending' ? `, next ${first?.name ?? ''}` : '';
    return [paintOf(kind)(`${marks[kind]} ${text}${next}`)];
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

function routeOf({ source, destination }: TransferStatus): string {
  return `${source.split(':')[0] ?? ''} → ${destination.split(':')[0] ?? ''}`;
}

/** First what needs people, then what is at work; the rest may be counted. */
const workOrder: TransferStatus['state'][] = ['failed', 'final', 'copying'];
const restOrder: TransferStatus['state'][] = ['pending', 'fresh', 'verified'];

function renderTransfers(status: MigrationStatus, options: ViewOptions, rows: number): string[] {
  const { transfers } = status;
  if (transfers.length === 0) return [pc.dim('no data moves')];
  const order = [...workOrder, ...restOrder];
  const sorted = transfers.toSorted((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
  const room = rows - 1;
  const shown = sorted.slice(0, sorted.length <= room ? sorted.length : Math.max(0, room - 1));
  const hidden = sorted.slice(shown.length);
  const lines = [transfersLine(sorted, options), ...transferRows(shown, options)];
  if (shown.length > 0 && hidden.length > 0) {
    const [only, ...more] = new Set(hidden.map(({ state }) => state));
    const what = more.length === 0 ? `, ${only ?? ''}` : `: ${countedStates(hidden)}`;
    lines.push(pc.dim(`  and ${hidden.length} more${what}`));
  }
  return lines;
}

/** All of them in one line. */
function transfersLine(transfers: readonly TransferStatus[], { progress }: ViewOptions): string {
  const rate = [...progress.values()].reduce((sum, { progress: now }) => sum + (now?.bytesPerSecond ?? 0), 0);
  const together = rate === 0 ? '' : `; ${formatBytes(rate)}/s in all`;
  return pc.dim(`${counted(transfers.length, 'directory', 'directories')}: ${countedStates(transfers)}${together}`);
}

function countedStates(transfers: readonly TransferStatus[]): string {
  const states = Map.groupBy(transfers, ({ state }) => state);
  return [...states].map(([state, group]) => `${group.length} ${state}`).join(', ');
}

/** A part of a line, and from which narrowness on it gives way. */
interface Cell {
  text: string;
  until: number;
  /** Numbers stand right. */
  right?: boolean;
}

interface Row {
  cells: Cell[];
  /** What may be cut where the line ends. */
  rest: string;
}

/** What gives way first: the step, the bytes, half the bar, the route, the pass. */
const leastDetail = 6;

/** Rows whose columns stand below each other, with as much as fits for the ones that are at work. */
function transferRows(transfers: readonly TransferStatus[], options: ViewOptions): string[] {
  for (let level = 0; ; level += 1) {
    const rows = transfers.map((transfer) => transferRow(transfer, options.progress.get(transfer.id), level));
    const kept = rows.map(({ cells }) => cells.filter(({ until }) => until >= level));
    const places = Math.max(0, ...kept.map((cells) => cells.length));
    const widths = Array.from({ length: places }, (_, place) =>
      Math.max(...kept.map((cells) => width(cells[place]?.text ?? ''))),
    );
    const lines = rows.map(({ rest }, index) => {
      const cells = (kept[index] ?? []).map(({ text, right }, place) => {
        const columns = widths[place] ?? 0;
        return right === true ? ' '.repeat(Math.max(0, columns - width(text))) + text : pad(text, columns);
      });
      return `  ${[...cells, rest].join('  ')}`.trimEnd();
    });
    const longest = Math.max(0, ...lines.map((line, index) => width(line) - width(rows[index]?.rest ?? '')));
    if (level >= leastDetail || longest <= options.columns) return lines;
  }
}

function transferRow(transfer: TransferStatus, activity: CopyActivity | undefined, level: number): Row {
  const cells: Cell[] = [
    { text: transfer.id, until: leastDetail },
    { text: pc.dim(routeOf(transfer)), until: 3 },
  ];
  const last = transfer.passes.at(-1);
  switch (transfer.state) {
    case 'pending':
      return { cells, rest: pc.dim('pending') };
    case 'failed':
      return { cells, rest: pc.red(`failed${activity?.lastFailure === undefined ? '' : `: ${activity.lastFailure}`}`) };
    case 'copying':
    case 'final':
      return copyRow(cells, transfer, activity, level);
    case 'fresh': {
      const projected = transfer.projectedFinalSeconds;
      const final = projected === undefined ? '' : `  last delta about ${seconds(projected)}`;
      return { cells, rest: `${pc.green('fresh')}${final}  ${passText(transfer)}` };
    }
    case 'verified': {
      const size = last === undefined ? '' : `  ${formatBytes(last.totalBytes)}`;
      return { cells, rest: `${pc.green('verified')}${size}  ${pc.dim((transfer.digest ?? '').slice(0, 19))}` };
    }
  }
}

function barColumns(level: number): number {
  return level < 3 ? 20 : level < 6 ? 10 : 6;
}

function copyRow(cells: Cell[], transfer: TransferStatus, activity: CopyActivity | undefined, level: number): Row {
  const paint = transfer.state === 'final' ? pc.yellow : pc.cyan;
  const label = transfer.state === 'final' ? 'last delta' : 'copying';
  const retry =
    (activity?.attempt ?? 1) > 1
      ? pc.yellow(`try ${activity?.attempt ?? 1}: ${activity?.lastFailure ?? 'the worker was lost'}`)
      : '';
  const progress = activity?.progress;
  if (progress === undefined) {
    return { cells, rest: `${paint(label)}  ${passText(transfer)}${retry === '' ? '' : `  ${retry}`}` };
  }
  const share = progress.total === 0 ? 0 : Math.min(1, progress.bytes / progress.total);
  const eta = progress.etaSeconds === undefined ? '' : `${seconds(progress.etaSeconds)} left`;
  return {
    cells: [
      ...cells,
      { text: paint(label), until: 1 },
      { text: paint(bar(share, barColumns(level))), until: leastDetail },
      { text: `${Math.round(share * 100)} %`, until: leastDetail, right: true },
      { text: `${formatBytes(progress.bytes)} of ${formatBytes(progress.total)}`, until: 1, right: true },
      { text: `${formatBytes(progress.bytesPerSecond)}/s`, until: leastDetail, right: true },
      { text: eta, until: leastDetail, right: true },
      { text: pc.dim(`pass ${progress.pass}`), until: 4 },
      { text: pc.dim(progress.step), until: 0 },
    ],
    rest: retry,
  };
}

function passText({ passes }: TransferStatus): string {
  const last = passes.at(-1);
  if (last === undefined) return pc.dim('first pass');
  return `${formatBytes(last.totalBytes)}  ${pc.dim(`pass ${last.pass} moved ${formatBytes(last.literalBytes)} in ${seconds(last.seconds)}`)}`;
}

export function bar(share: number, columns: number): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * columns);
  return `${'█'.repeat(full)}${'░'.repeat(columns - full)}`;
}

function renderDowntime(status: MigrationStatus, { columns }: ViewOptions): string[] {
  const { downtime } = status;
  const over = downtime.projectedSeconds > downtime.budgetSeconds;
  const paint = over ? pc.red : (text: string) => text;
  const projected = paint(
    `projected ${seconds(downtime.projectedSeconds)} ± ${seconds(downtime.projectedErrorSeconds)}`,
  );
  const budget = `budget ${seconds(downtime.budgetSeconds)}${over ? pc.red(' (exceeded)') : ''}`;
  if (downtime.startedAt === undefined) return fold(['downtime  not begun', projected, budget], columns);
  const spent = downtime.spentSeconds;
  const clock =
    downtime.endedAt === undefined
      ? pc.bold(pc.yellow(`running ${seconds(spent)}`))
      : pc.green(`over after ${seconds(spent)}`);
  const share = downtime.budgetSeconds === 0 ? 1 : spent / downtime.budgetSeconds;
  const line = `downtime  ${clock}  ${bar(share, columns < 90 ? 10 : 20)}`;
  // Nothing is projected any more once it is over.
  return fold([line, ...(downtime.endedAt === undefined ? [projected] : []), budget], columns);
}

const mostRetries = 3;

/** Otherwise a step that fails again and again would look like one that takes its time. */
function renderRetries({ retries = [], columns }: ViewOptions): string[] {
  const lines = retries.slice(0, mostRetries).map(describeRetry);
  const more = retries.length > mostRetries ? [`and ${retries.length - mostRetries} more are tried again`] : [];
  return [...lines, ...more].map((line) => clipColumns(pc.yellow(line), columns));
}

/** `applyConfig, try 2: proton-cli ended with 1`, always one line. */
export function describeRetry({ activity, attempt, failure }: Retry): string {
  return `${activity}, try ${attempt}: ${oneLine(failure)}`;
}

function oneLine(text: string): string {
  return stripVTControlCharacters(text).replaceAll(/\s+/g, ' ').trim();
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

function renderWaiting(status: MigrationStatus, options: ViewOptions): string[] {
  const { workflowId, columns, quiet, brokenOff } = options;
  const lines: string[] = [];
  const say = (text: string, paint: (line: string) => string = (line) => line): void => {
    lines.push(...wrapColumns(text, columns).map(paint));
  };
  const hint = (text: string, paint?: (line: string) => string): void => {
    if (quiet !== true) say(text, paint);
  };
  const important = (paint: (line: string) => string) => (line: string) => pc.bold(paint(line));
  if (brokenOff !== undefined) {
    if (brokenOff.text !== undefined) {
      lines.push('');
      say(brokenOff.text, important(pc.red));
    }
    return lines;
  }
  if (status.blocked !== undefined) {
    const { phase, cause, untouched, next, choices, heals } = status.blocked;
    lines.push('');
    say(`blocked in ${phase}: ${cause}`, important(pc.red));
    if (heals === 'never') say(triedInVain, pc.red);
    say(`untouched: ${untouched}`);
    say(`next: ${next}`, pc.bold);
    hint(`  ferry resume ${workflowId}`, pc.bold);
    if (choices?.includes('abort') ?? !status.pointOfNoReturn) hint(`  ferry abort ${workflowId} --reason "…"`);
    lines.push(...renderOthers(status, options));
  }
  if (status.paused !== undefined) {
    lines.push('');
    say(`paused by ${status.paused.by}: ${status.paused.reason}`, pc.yellow);
    hint(`next: ferry resume ${workflowId}`, pc.bold);
  }
  if (status.awaitingGate !== undefined && status.blocked === undefined) {
    const gate = status.gates.find(({ name }) => name === status.awaitingGate);
    lines.push('');
    say(`gate ${status.awaitingGate} ${describeAwaited(gate)}`, important(pc.yellow));
    if (gate?.unproved !== undefined) say(`not proved, and accepted: ${shortly(gate.unproved)}`, pc.yellow);
    hint(`  ferry approve ${status.awaitingGate} ${workflowId} --reason "…"`, pc.bold);
    hint(`  ferry reject ${status.awaitingGate} ${workflowId} --reason "…"`);
  }
  return lines;
}

const mostOthers = 3;

/** What is blocked beside the latest: whole where there is room, else a line each, so that the clock stays on the screen. */
function renderOthers(status: MigrationStatus, { workflowId, columns, rows, quiet }: ViewOptions): string[] {
  const { alsoBlocked = [], moreBlocked = 0 } = status;
  if (alsoBlocked.length === 0) return [];
  const shown = rows === undefined ? alsoBlocked : alsoBlocked.slice(0, mostOthers);
  const hidden = alsoBlocked.length - shown.length + moreBlocked;
  const more = hidden === 0 ? [] : [`and ${hidden} more ${hidden === 1 ? 'is' : 'are'} blocked`];
  const all =
    rows === undefined
      ? 'resume tries all of it again'
      : `resume tries all of it again; whole: ferry status ${workflowId}`;
  const told = shown.flatMap(({ phase, cause, untouched, next }) => {
    const what = `also blocked in ${phase}: ${cause}`;
    if (rows !== undefined) return [clipColumns(pc.red(oneLine(what)), columns)];
    return [
      ...wrapColumns(what, columns).map((line) => pc.red(line)),
      ...wrapColumns(`untouched: ${untouched}`, columns),
      ...wrapColumns(`next: ${next}`, columns).map((line) => pc.bold(line)),
    ];
  });
  return [...told, ...more, ...(quiet === true ? [] : wrapColumns(all, columns))];
}

/** The first of some clauses, and how to see the others. */
function shortly(clauses: readonly string[]): string {
  const [first = '', ...others] = clauses;
  return others.length === 0 ? first : `${first}; and ${others.length} more: ferry status -o json`;
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

/** Something that happened, for logs and terminals that cannot be redrawn. */
export interface Change {
  /** When it happened, as the migration has it; absent where it keeps no time. */
  at?: string;
  text: string;
}

/**
 * What happened between two looks, in the order in which it happened; what has no time comes last. Of one that was ended from outside
 * (`isBroken`) nothing is asked any more.
 */
export function changesBetween(
  before: MigrationStatus | undefined,
  after: MigrationStatus,
  workflowId: string,
  isBroken = false,
): Change[] {
  const changes = [
    ...phaseChanges(before, after),
    ...transfersChanges(before, after),
    ...downtimeChanges(before, after),
    ...after.decisions
      .slice(before?.decisions.length ?? 0)
      .map((decision): Change => ({ at: decision.at, text: describeDecision(decision) })),
    ...waitingChanges(before, after, workflowId, isBroken),
  ];
  const timed = changes.filter(({ at }) => at !== undefined);
  // Times of the migration are ISO 8601 in UTC throughout.
  return [
    ...timed.toSorted((a, b) => Date.parse(a.at ?? '') - Date.parse(b.at ?? '')),
    ...changes.filter(({ at }) => at === undefined),
  ];
}

function phaseChanges(before: MigrationStatus | undefined, after: MigrationStatus): Change[] {
  const states = new Map(before?.phases.map((phase) => [phase.name, phase.state]));
  return after.phases.flatMap((phase): Change[] => {
    const was = states.get(phase.name) ?? 'pending';
    if (was === phase.state || phase.state === 'parked' || phase.state === 'blocked') return [];
    const detail = phase.detail === undefined ? '' : `: ${phase.detail.replaceAll(/\s+/g, ' ')}`;
    const took = phase.state === 'done' ? ` in ${phaseTime(phase, 0)}` : '';
    const at = phase.endedAt ?? phase.startedAt;
    return [
      {
        ...(at === undefined ? {} : { at }),
        text: `phase ${phase.name} (§${phase.section}) ${phase.state}${took}${detail}`,
      },
    ];
  });
}

function downtimeChanges(before: MigrationStatus | undefined, { downtime, decisions }: MigrationStatus): Change[] {
  const budget = seconds(downtime.budgetSeconds);
  const changes: Change[] = [];
  if (before?.downtime.startedAt === undefined && downtime.startedAt !== undefined) {
    // What was projected then; by now the projection may have come to its end.
    const opened = decisions.findLast(({ gate, counted: isCounted }) => gate === 'open-downtime' && isCounted);
    const projected = seconds(opened?.projectedDowntimeSeconds ?? downtime.projectedSeconds);
    changes.push({ at: downtime.startedAt, text: `downtime begins (projected ${projected}, budget ${budget})` });
  }
  if (before?.downtime.endedAt === undefined && downtime.endedAt !== undefined) {
    changes.push({
      at: downtime.endedAt,
      text: `downtime over after ${seconds(downtime.spentSeconds)} (budget ${budget})`,
    });
  }
  return changes;
}

function waitingChanges(
  before: MigrationStatus | undefined,
  after: MigrationStatus,
  workflowId: string,
  isBroken: boolean,
): Change[] {
  const { awaitingGate, downtime } = after;
  const changes: Change[] = [];
  const known = new Set(stopsOf(before).map(keyOf));
  for (const stop of stopsOf(after)) {
    if (known.has(keyOf(stop))) continue;
    const { phase, cause, untouched, next, since } = stop;
    changes.push({
      at: since,
      text: `BLOCKED in ${phase}: ${cause}; untouched: ${untouched}${isBroken ? '' : `; next: ${next}; then: ferry resume ${workflowId}`}`,
    });
  }
  if (awaitingGate !== undefined && before?.awaitingGate !== awaitingGate && !isBroken) {
    const gate = after.gates.find(({ name }) => name === awaitingGate);
    const band = `${seconds(downtime.projectedSeconds)} ± ${seconds(downtime.projectedErrorSeconds)}`;
    changes.push({
      ...(gate?.openedAt === undefined ? {} : { at: gate.openedAt }),
      text: `gate ${awaitingGate} ${describeAwaited(gate)} (projected downtime ${band}${gate?.unproved === undefined ? '' : `; not proved, and accepted: ${shortly(gate.unproved)}`}): ferry approve ${awaitingGate} ${workflowId} --reason "…"`,
    });
  }
  const { state } = after;
  if (before?.state !== state && (state === 'completed' || state === 'rolled-back' || state === 'rolling-back')) {
    const ends = after.phases.flatMap(({ endedAt }) => endedAt ?? []).toSorted();
    const last = state === 'rolling-back' ? undefined : ends.at(-1);
    changes.push({ ...(last === undefined ? {} : { at: last }), text: `migration ${state}` });
  }
  return changes;
}

/** Everything that is blocked. */
function stopsOf(status: MigrationStatus | undefined): BlockedStatus[] {
  return [...(status?.alsoBlocked ?? []), ...(status?.blocked === undefined ? [] : [status.blocked])];
}

/** Two may stop in one moment, and the text of one that is not the latest any more is shortened. */
function keyOf({ phase, since, cause }: BlockedStatus): string {
  return `${phase}/${since}/${cause.slice(0, 100)}`;
}

function transfersChanges(before: MigrationStatus | undefined, after: MigrationStatus): Change[] {
  const known = new Map(before?.transfers.map((transfer) => [transfer.id, transfer]));
  // No transfer tells when it was verified; whoever looks for the first time long afterwards learns when all were.
  const all = before === undefined ? after.phases.find(({ name }) => name === 'final-copy')?.endedAt : undefined;
  return after.transfers.flatMap((transfer) => transferChanges(known.get(transfer.id), transfer, all));
}

function transferChanges(
  before: TransferStatus | undefined,
  after: TransferStatus,
  verifiedAt: string | undefined,
): Change[] {
  const seen = new Set(before?.passes.map(({ startedAt, pass }) => `${startedAt}/${pass}`));
  const changes = after.passes
    .filter(({ startedAt, pass }) => !seen.has(`${startedAt}/${pass}`))
    .map((pass): Change => ({
      at: new Date(Date.parse(pass.startedAt) + pass.seconds * 1000).toISOString(),
      text: `copy ${after.id} ${routeOf(after)} pass ${pass.pass} (${pass.mode}): moved ${formatBytes(pass.literalBytes)} of ${formatBytes(pass.totalBytes)} in ${seconds(pass.seconds)}`,
    }));
  if (before?.state === after.state) return changes;
  if (after.state === 'verified') {
    const at = verifiedAt === undefined ? {} : { at: verifiedAt };
    changes.push({ ...at, text: `copy ${after.id} verified, ${after.digest ?? ''}` });
  }
  if (after.state === 'failed') changes.push({ text: `copy ${after.id} failed` });
  return changes;
}

export function describeDecision(decision: DecisionRecord): string {
  const gate = decision.gate === undefined ? '' : ` ${decision.gate}`;
  const verdict = decision.counted ? '' : `; it does not count: ${decision.why ?? ''}`;
  return `${decision.by} sent ${decision.decision}${gate} (${decision.via})${decision.reason === '' ? '' : `: ${decision.reason}`}${verdict}`;
}
