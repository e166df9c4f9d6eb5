import type { Plan } from '../plan/plan.ts';
import type { PhaseName, PhaseStatus } from '../workflows/messages.ts';
import { phaseNames } from '../workflows/messages.ts';
import type { Call } from './report-calls.ts';
import { callsOf } from './report-calls.ts';
import type { RunHistory } from './report-events.ts';
import { provedBy, sections, stepsOf } from './report-evidence.ts';
import type { ReportPhase } from './report-model.ts';
import type { Ended, Known } from './report-words.ts';

/* Phases: as the workflow told them at its end, and before that from the bars of the timeline. Pure. */

/** One bar of a phase on the timeline of its run. */
interface PhaseSpan {
  name: PhaseName;
  isUndo: boolean;
  startedAt: string;
  endedAt?: string;
  /** An abort took the bar away, not the end of the work. */
  isBroken?: true;
  /** What its steps did. */
  calls: Call[];
  /** Transfers whose copies came to their end in it. */
  copied: string[];
}

const barLabel = /^(?<undo>undo )?\u00a7\d+ (?<name>\S+)$/;
const endings: readonly string[] = ['abort', 'reject'];

/** The phases that began, as the bars of the timeline have them: the search attributes name a phase before it begins. */
function spansOf(run: RunHistory): PhaseSpan[] {
  const spans = new Map<number, PhaseSpan>();
  const calls = new Map(callsOf(run).map((call) => [call.id, call]));
  const open = (): PhaseSpan[] => [...spans.values()].filter(({ endedAt }) => endedAt === undefined);
  // Tasks since somebody asked to end the way forward: bars that the first one takes away are of work that did not come to its end.
  let tasksSince = Infinity;
  for (const event of run.events) {
    if (event.kind === 'timer-started') {
      const label = barLabel.exec(event.label)?.groups;
      const name = phaseNames.find((candidate) => candidate === label?.['name']);
      if (name === undefined) continue;
      spans.set(event.id, { name, isUndo: label?.['undo'] !== undefined, startedAt: event.at, calls: [], copied: [] });
    } else if (event.kind === 'timer-canceled') {
      const span = spans.get(event.started);
      if (span === undefined) continue;
      span.endedAt = event.at;
      if (tasksSince <= 1 && !span.isUndo) span.isBroken = true;
    } else if (event.kind === 'activity-scheduled') {
      const call = calls.get(event.id);
      if (call !== undefined) ownerOf(event.activity, open())?.calls.push(call);
    } else if (event.kind === 'child-completed') {
      const copying = open().find(({ name }) => name === 'replicate' || name === 'final-copy');
      copying?.copied.push(event.workflowId);
    } else if (event.kind === 'task-started') {
      tasksSince += 1;
    } else if (event.kind === 'decision' && endings.includes(event.name)) {
      tasksSince = 0;
    }
  }
  return [...spans.values()];
}

function ownerOf(activity: string, open: readonly PhaseSpan[]): PhaseSpan | undefined {
  return open.length === 1 ? open[0] : open.find(({ name }) => stepsOf[name]?.includes(activity) === true);
}

export function phasesOf(
  status: Known | undefined,
  plan: Plan | undefined,
  runs: readonly RunHistory[],
  ended: Ended | undefined,
): ReportPhase[] {
  if (status !== undefined && ended?.how === 'completed') return status.phases.map(phaseRow);
  const carried = new Map((status?.phases ?? []).map((phase) => [phase.name, phaseRow(phase)]));
  const spans = runs.flatMap(spansOf);
  const order = orderOf(plan);
  const last = Math.max(-1, ...spans.map(({ name }) => order.indexOf(name)));
  return order.map((name, index) => {
    const known = carried.get(name);
    const own = spans.filter((span) => span.name === name);
    const live = phaseFrom(own, ended);
    const base = { name, section: sections[name] };
    if (live === undefined) return known ?? { ...base, state: index < last ? 'skipped' : 'pending' };
    if (known?.state === 'done' && live.state === 'done') return known;
    const told = own.filter(({ isUndo }) => isUndo === own.at(-1)?.isUndo);
    const answers = told.flatMap(({ calls }) => calls).filter(({ result }) => result !== undefined);
    const copied = told.flatMap((span) => span.copied);
    const detail = provedBy(name, answers, copied, plan?.transfers.length ?? 0);
    return { ...known, ...base, ...live, ...(detail === undefined ? {} : { detail }) };
  });
}

/** Phases in the order in which the plan runs them. */
function orderOf(plan: Plan | undefined): PhaseName[] {
  if (plan?.gates.removeNodesAfter !== 'start-apps') return [...phaseNames];
  return [...phaseNames.filter((name) => name !== 'remove-nodes'), 'remove-nodes'];
}

function phaseFrom(spans: readonly PhaseSpan[], ended: Ended | undefined): Omit<ReportPhase, 'name'> | undefined {
  const [first] = spans;
  const last = spans.at(-1);
  if (first === undefined || last === undefined) return undefined;
  const { startedAt } = first;
  const forth = spans.findLast(({ isUndo }) => !isUndo);
  const done = forth?.endedAt === undefined || forth.isBroken === true ? {} : { doneAt: forth.endedAt };
  if (last.endedAt === undefined) {
    if (ended !== undefined) return { state: 'broken off', startedAt, endedAt: ended.at, ...done };
    return { state: last.isUndo ? 'undoing' : 'running', startedAt, ...done };
  }
  const state = last.isUndo ? 'undone' : last.isBroken === true ? 'broken off' : 'done';
  return { state, startedAt, endedAt: last.endedAt, ...done };
}

function phaseRow({ name, section, state, startedAt, endedAt, doneAt, detail }: PhaseStatus): ReportPhase {
  return {
    name,
    section,
    state,
    ...(startedAt === undefined ? {} : { startedAt }),
    ...(endedAt === undefined ? {} : { endedAt }),
    ...(doneAt === undefined ? {} : { doneAt }),
    ...(detail === undefined ? {} : { detail }),
  };
}
