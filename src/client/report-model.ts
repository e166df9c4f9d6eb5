import { z } from 'zod';
import type { PlacementRow, Probe, Try } from '../activities/contract.ts';
import type { Plan } from '../plan/plan.ts';
import { addTry, briefly } from '../activities/earlier-tries.ts';
import { gateNames } from '../plan/plan.ts';
import { parsePlanData } from '../plan/validate.ts';
import { version } from '../version.ts';
import type {
  DecisionRecord,
  GateStatus,
  MigrationStatus,
  PassSummary,
  PhaseName,
  PhaseStatus,
  TransferStatus,
} from '../workflows/messages.ts';
import { phaseNames } from '../workflows/messages.ts';
import { afterRound } from '../workflows/copy-outcome.ts';
import type { DowntimeSpan } from '../workflows/downtime.ts';
import { begin, end, expectedSeconds, isDown, spentSeconds } from '../workflows/downtime.ts';
import type { TransferOutcome } from '../workflows/replicate-messages.ts';
import type { MigrationState } from '../workflows/state.ts';
import { initialState } from '../workflows/state.ts';
import { projectedDowntime } from './plan-view.ts';
import { provedBy, sections, stepsOf } from './report-evidence.ts';
import type { EventFailure, ReportEvent, RunHistory } from './report-events.ts';
import type { EarlierTry, MigrationHistory } from './report-history.ts';

/* What a report says, made from decoded histories and nothing else. Pure. */

export type Outcome = 'running' | 'migrated' | 'rolled-back' | 'failed' | 'terminated' | 'timed-out' | 'canceled';

export interface ReportPhase {
  name: string;
  section?: number;
  state: string;
  startedAt?: string;
  endedAt?: string;
  /** When it was done on the way forward. */
  doneAt?: string;
  detail?: string;
}

export interface ReportGate {
  name: string;
  state: string;
  required?: number;
  openedAt?: string;
  decidedAt?: string;
  /** What nobody could prove; whoever approved it accepted that. */
  unproved?: string[];
}

export interface ReportDecision {
  at: string;
  decision: string;
  gate?: string;
  by: string;
  reason: string;
  via: string;
  /** Absent: the workflow has not told yet. */
  counted?: boolean;
  why?: string;
  /** Who the server recorded as the sender; absent: not found in the history. */
  identity?: string;
  projectedDowntimeSeconds?: number;
}

export interface ReportTransfer {
  id: string;
  source: string;
  destination: string;
  state: string;
  passes: PassSummary[];
  /** Size of the tree in its last pass. */
  totalBytes?: number;
  /** Bytes of content that went over the wire, all passes. */
  movedBytes: number;
  digest?: string;
  proof?: string;
}

export interface ReportPlacement {
  component: string;
  ordinal: number;
  pv: string;
  before: string;
  after?: string;
  path?: string;
  ready?: boolean;
}

export interface ReportProbe {
  component: string;
  ordinal: number;
  name: string;
  /** At rest on the old machines. */
  before?: string;
  /** At rest on the new machines. */
  after?: string;
  /** On the new machines once applications wrote there: it may have moved on, and proves nothing. */
  withApplications?: string;
  verdict: 'same' | 'different' | 'not compared yet' | 'missing' | 'never taken';
  /** Why it was never taken on the old machines. */
  why?: string;
}

export interface ReportRetry {
  at: string;
  workflowId: string;
  activity: string;
  summary: string;
  attempts: number;
  /** What the last failed try said. */
  cause: string;
  /** What each try said that another one followed, in order. */
  tries: Try[];
}

/** One message to people, and whom of the plan's targets it reached. */
export interface ReportNotification {
  at: string;
  event: string;
  gate?: string;
  delivered: string[];
  failed: { target: string; why: string }[];
}

export interface ReportFailure {
  at: string;
  workflowId: string;
  what: string;
  type: string;
  cause: string;
}

export interface ReportModel {
  madeAt: string;
  madeBy: string;
  workflowId: string;
  runs: { runId: string; startedAt: string; events: number }[];
  /** Earlier migrations under the same id; absent: the server keeps none, or did not say. */
  earlier?: EarlierTry[];
  cluster: string;
  planDigest: string;
  author: string;
  mapping: { from: string; to: string }[];
  outcome: Outcome;
  why?: string;
  startedAt: string;
  endedAt?: string;
  phases: ReportPhase[];
  gates: ReportGate[];
  downtime: {
    startedAt?: string;
    endedAt?: string;
    spentSeconds?: number;
    budgetSeconds?: number;
    /** As people saw it when they opened the window; before that from the plan alone. */
    projectedSeconds?: number;
    projectedFrom?: 'approval' | 'plan';
  };
  transfers: ReportTransfer[];
  placement: ReportPlacement[];
  probes: ReportProbe[];
  decisions: ReportDecision[];
  retries: ReportRetry[];
  failures: ReportFailure[];
  notifications: ReportNotification[];
  backup: { name: string; digest: string }[];
  versions: { name: string; version: string }[];
  /** What is missing here, and why. */
  gaps: string[];
}

interface Call {
  /** Number of the event that scheduled it. */
  id: number;
  workflowId: string;
  activity: string;
  input: unknown;
  summary: string;
  scheduledAt: string;
  endedAt?: string;
  attempts: number;
  lastFailure?: EventFailure;
  failure?: EventFailure;
  result?: unknown;
}

/** Makes the report of a history. `madeAt` is the time of the report itself. */
export function reportOf(history: MigrationHistory, madeAt: string): ReportModel {
  const { runs } = history;
  const events = runs.flatMap((run) => run.events);
  const started = events.find((event) => event.kind === 'started');
  const plan = planOf(started?.input[0]);
  const calls = runs.flatMap(callsOf);
  const copyCalls = history.copies.flatMap(callsOf);
  const ended = endOf(events);
  const status = statusOf(ended) ?? carriedStatus(runs);
  const outcome = outcomeOf(ended);
  const attributes = attributeChanges(events);
  const decisions = decisionsOf(status?.decisions ?? [], events, ended !== undefined);
  const outcomes = outcomesOf(events);
  const gates = gatesOf(status, plan, attributes, decisions, ended !== undefined);
  const downtime = {
    ...(plan === undefined ? {} : { budgetSeconds: plan.downtime.budgetSeconds }),
    ...projectionOf(plan, status, gates, decisions, outcomes),
    ...downtimeOf(status, attributes, runs, ended?.at ?? madeAt),
  };
  const why = whyOf(ended);
  return {
    madeAt,
    madeBy: `ferry ${version}`,
    workflowId: history.workflowId,
    runs: runs.map((run) => ({ runId: run.runId, startedAt: run.events[0]?.at ?? '', events: run.events.length })),
    ...(history.earlier === undefined ? {} : { earlier: history.earlier }),
    cluster: plan?.cluster ?? history.workflowId.replace(/^migrate-/, ''),
    planDigest: plan?.digest ?? 'not readable',
    author: plan?.author ?? 'not readable',
    mapping: plan?.mapping ?? [],
    outcome,
    ...(why === undefined ? {} : { why }),
    startedAt: started?.at ?? runs[0]?.events[0]?.at ?? madeAt,
    ...(ended === undefined ? {} : { endedAt: ended.at }),
    phases: phasesOf(status, plan, runs, ended),
    gates,
    downtime,
    transfers: transfersOf(status, plan, outcomes, copyCalls),
    placement: placementOf(plan, calls),
    probes: probesOf(calls),
    decisions,
    retries: [...calls, ...copyCalls].flatMap(retriesOf).toSorted(byTime),
    failures: failuresOf(history, calls, copyCalls),
    notifications: notificationsOf([...calls, ...copyCalls]).toSorted(byTime),
    backup: backupOf(calls),
    versions: versionsOf(plan, [...events, ...history.copies.flatMap((copy) => copy.events)]),
    gaps: [
      ...history.gaps,
      ...(plan === undefined ? ['the plan in this history cannot be read by this version of ferry'] : []),
      ...(ended === undefined
        ? [
            'the migration is still running: its phases are read from the timeline, what they proved from the answers of their steps, and figures may still change',
          ]
        : []),
    ],
  };
}

function byTime(a: { at: string }, b: { at: string }): number {
  return Date.parse(a.at) - Date.parse(b.at);
}

function planOf(input: unknown): Plan | undefined {
  const result = parsePlanData(input);
  return result.ok ? result.plan : undefined;
}

type Ended = Extract<ReportEvent, { kind: 'ended' }>;

function endOf(events: readonly ReportEvent[]): Ended | undefined {
  return events.findLast((event) => event.kind === 'ended');
}

const resultSchema = z.looseObject({ outcome: z.enum(['migrated', 'rolled-back']), status: z.looseObject({}) });

function outcomeOf(ended: Ended | undefined): Outcome {
  if (ended === undefined) return 'running';
  if (ended.how !== 'completed') return ended.how;
  const result = resultSchema.safeParse(ended.result);
  return result.success ? result.data.outcome : 'failed';
}

function whyOf(ended: Ended | undefined): string | undefined {
  if (ended === undefined || ended.how === 'completed') return undefined;
  const by = ended.identity === undefined || ended.identity === '' ? '' : ` (by ${ended.identity})`;
  return `${ended.why === '' ? 'no reason was given' : ended.why}${by}`;
}

/** The workflow's own last word; its shape is that of the messages, which stay compatible. */
function statusOf(ended: Ended | undefined): MigrationStatus | undefined {
  if (ended?.how !== 'completed') return undefined;
  const result = resultSchema.safeParse(ended.result);
  return result.success ? (result.data.status as unknown as MigrationStatus) : undefined;
}

type Known = Pick<MigrationStatus, 'phases' | 'gates' | 'decisions' | 'transfers'> & {
  downtime?: MigrationStatus['downtime'];
  /** Stretches without applications until the last run began, where it was handed them. */
  spans?: DowntimeSpan[];
};

const stateSchema = z.looseObject({
  phases: z.array(z.unknown()),
  gates: z.looseObject({}),
  decisions: z.array(z.unknown()),
});

/** What the last of several runs was handed; what happened since is added from its events. */
function carriedStatus(runs: readonly RunHistory[]): Known | undefined {
  const first = runs.at(-1)?.events.find((event) => event.kind === 'started');
  const parsed = stateSchema.safeParse(first?.input[1]);
  if (!parsed.success) return undefined;
  const state = parsed.data as unknown as MigrationState;
  return {
    phases: state.phases,
    gates: gateNames.map((name) => state.gates[name]),
    decisions: state.decisions,
    transfers: state.transfers,
    spans: state.downtime,
  };
}

interface AttributeChange {
  at: string;
  /** Null: no gate awaits any more. */
  gate?: string | null;
  downtimeStart?: string;
}

function attributeChanges(events: readonly ReportEvent[]): AttributeChange[] {
  return events.flatMap((event) => {
    if (event.kind !== 'attributes') return [];
    const { FerryAwaitingGate: gate, FerryDowntimeStart: downtimeStart } = event.attributes;
    return [
      {
        at: event.at,
        gate: typeof gate === 'string' ? gate : null,
        ...(typeof downtimeStart === 'string' ? { downtimeStart } : {}),
      },
    ];
  });
}

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

function phasesOf(
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

function gatesOf(
  status: Known | undefined,
  plan: Plan | undefined,
  changes: readonly AttributeChange[],
  decisions: readonly ReportDecision[],
  isOver: boolean,
): ReportGate[] {
  return gateNames.map((name) => {
    const known = status?.gates.find((gate) => gate.name === name);
    if (known !== undefined && (isOver || known.state === 'approved' || known.state === 'rejected')) {
      return gateRow(known);
    }
    // A fresh history opens a gate anew that waits, and so does who resumes one that was sent back.
    const index = changes.findLastIndex(({ gate }) => gate === name);
    const opened = changes[index];
    const required = plan?.gates[name].required;
    const base = { name, ...(required === undefined ? {} : { required }) };
    if (opened === undefined) return { ...base, state: 'pending' };
    const openedAt = (known?.state === 'awaiting' ? known.openedAt : undefined) ?? opened.at;
    const closed = changes.slice(index + 1).find(({ gate }) => gate !== name);
    if (closed === undefined) return { ...base, state: 'awaiting', openedAt };
    const last = decisions.findLast((decision) => decision.gate === name && decision.at <= closed.at);
    const state = last?.decision === 'reject' ? 'rejected' : last === undefined ? 'closed' : 'approved';
    return { ...base, state, openedAt, decidedAt: closed.at };
  });
}

function gateRow({ name, state, required, openedAt, decidedAt, unproved }: GateStatus): ReportGate {
  return {
    name,
    state,
    required,
    ...(openedAt === undefined ? {} : { openedAt }),
    ...(decidedAt === undefined ? {} : { decidedAt }),
    ...(unproved === undefined ? {} : { unproved }),
  };
}

/** What people saw when they opened the window: told by the workflow, or reckoned as it does from the copies that were measured by then. */
function projectionOf(
  plan: Plan | undefined,
  status: Known | undefined,
  gates: readonly ReportGate[],
  decisions: readonly ReportDecision[],
  outcomes: readonly CopyOutcome[],
): Pick<ReportModel['downtime'], 'projectedSeconds' | 'projectedFrom'> {
  const gate = gates.find(({ name }) => name === 'open-downtime');
  const opened = decisions.findLast(
    ({ at, decision, gate: about, counted }) =>
      about === 'open-downtime' && decision === 'approve' && counted !== false && at <= (gate?.decidedAt ?? at),
  );
  const told = opened?.projectedDowntimeSeconds;
  if (told !== undefined) return { projectedSeconds: told, projectedFrom: 'approval' };
  if (plan === undefined) return {};
  if (opened === undefined || gate?.state !== 'approved') {
    return { projectedSeconds: projectedDowntime(plan).seconds, projectedFrom: 'plan' };
  }
  const measured = initialState(plan, [], opened.at).transfers.map((transfer) => {
    const carried = status?.transfers.find(({ id }) => id === transfer.id) ?? transfer;
    return outcomes
      .filter(({ at, workflowId }) => workflowId === transfer.workflowId && at <= opened.at)
      .reduce((known, outcome) => afterRound(plan, known, 'live', outcome), carried);
  });
  const sum = [...expectedSeconds(plan, measured).values()].reduce((total, phase) => total + phase.seconds, 0);
  return { projectedSeconds: Math.round(sum), projectedFrom: 'approval' };
}

/** `until`: the end of the workflow, or now. */
function downtimeOf(
  status: Known | undefined,
  changes: readonly AttributeChange[],
  runs: readonly RunHistory[],
  until: string,
): Pick<ReportModel['downtime'], 'budgetSeconds' | 'startedAt' | 'endedAt' | 'spentSeconds'> {
  if (status?.downtime !== undefined) {
    const { budgetSeconds, startedAt, endedAt, spentSeconds: spent } = status.downtime;
    return {
      budgetSeconds,
      ...(startedAt === undefined ? {} : { startedAt, spentSeconds: spent }),
      ...(endedAt === undefined ? {} : { endedAt }),
    };
  }
  const begun = changes.find(({ downtimeStart }) => downtimeStart !== undefined)?.downtimeStart;
  if (begun === undefined) return {};
  // As the workflow counts it: from the first stop until the recorded applications run, and again where the way back stops them.
  let spans: DowntimeSpan[] = status?.spans?.length ? status.spans : [{ startedAt: begun }];
  for (const { activity, scheduledAt, endedAt, result } of runs.slice(-1).flatMap(callsOf)) {
    if (activity === 'stopApplications') spans = begin(spans, scheduledAt);
    if (activity === 'startApplications' && result !== undefined) spans = end(spans, endedAt ?? scheduledAt);
  }
  const endedAt = isDown(spans) ? undefined : spans.at(-1)?.endedAt;
  return {
    startedAt: begun,
    ...(endedAt === undefined ? {} : { endedAt }),
    spentSeconds: Math.round(spentSeconds(spans, Date.parse(until))),
  };
}

const sentSchema = z.looseObject({
  by: z.string().default('(nobody)'),
  reason: z.string().default(''),
  gate: z.string().optional(),
});

/** The workflow's records, each with the identity that the server wrote beside the message; running, the messages themselves. */
function decisionsOf(
  records: readonly DecisionRecord[],
  events: readonly ReportEvent[],
  isOver: boolean,
): ReportDecision[] {
  const open = events.flatMap((event) => {
    if (event.kind !== 'decision') return [];
    const parsed = sentSchema.safeParse(event.input);
    const sent = parsed.success ? parsed.data : { by: '(nobody)', reason: '', gate: undefined };
    return [{ ...event, by: sent.by.trim(), reason: sent.reason.trim(), gate: sent.gate }];
  });
  const take = (record: DecisionRecord): string | undefined => {
    const index = open.findIndex(
      (event) =>
        event.via === record.via &&
        event.name === record.decision &&
        (record.via === 'cancel' || (event.by === record.by && (event.gate ?? '') === (record.gate ?? ''))),
    );
    return index < 0 ? undefined : open.splice(index, 1)[0]?.identity;
  };
  const told = records.map((record): ReportDecision => {
    const identity = take(record);
    return {
      at: record.at,
      decision: record.decision,
      ...(record.gate === undefined ? {} : { gate: record.gate }),
      by: record.by,
      reason: record.reason,
      via: record.via,
      counted: record.counted,
      ...(record.why === undefined ? {} : { why: record.why }),
      ...(identity === undefined || identity === '' ? {} : { identity }),
      ...(record.projectedDowntimeSeconds === undefined
        ? {}
        : { projectedDowntimeSeconds: record.projectedDowntimeSeconds }),
    };
  });
  // Ended, the workflow told all that it kept; what is left over are copies of messages it never recorded.
  const rest = isOver && records.length > 0 ? [] : open;
  return [
    ...told,
    ...rest.map(({ at, name, gate, by, reason, via, identity }) => ({
      at,
      decision: name,
      ...(gate === undefined ? {} : { gate }),
      by,
      reason,
      via,
      // A validator lets nothing through that does not count.
      ...(via === 'update' ? { counted: true } : {}),
      ...(identity === '' ? {} : { identity }),
    })),
  ].toSorted(byTime);
}

function callsOf({ workflowId, events }: RunHistory): Call[] {
  const calls = new Map<number, Call>();
  for (const event of events) {
    if (event.kind === 'activity-scheduled') {
      calls.set(event.id, {
        id: event.id,
        workflowId,
        activity: event.activity,
        input: event.input[0],
        summary: event.summary ?? event.activity,
        scheduledAt: event.at,
        attempts: 0,
      });
    } else if (event.kind === 'activity-started') {
      const call = calls.get(event.scheduled);
      if (call === undefined) continue;
      call.attempts = event.attempt;
      if (event.lastFailure !== undefined) call.lastFailure = event.lastFailure;
    } else if (event.kind === 'activity-completed' || event.kind === 'activity-failed') {
      const call = calls.get(event.scheduled);
      if (call === undefined) continue;
      call.endedAt = event.at;
      if (event.kind === 'activity-completed') call.result = event.result;
      else call.failure = event.failure;
    }
  }
  return [...calls.values()];
}

/** What a history holds of tries, for whoever reads a report. */
export const retriesNote =
  'Each try hands on what the ones before it said. A try whose worker was lost leaves no word; of very many only the first and the last ones are kept. The last try of one that failed for good stands under failures.';

const noWord = 'left no word: its worker was lost, or it took longer than it may';

function retriesOf(call: Call): ReportRetry[] {
  if (call.attempts < 2) return [];
  const tries = triesOf(call);
  return [
    {
      at: call.scheduledAt,
      workflowId: call.workflowId,
      activity: call.activity,
      summary: call.summary,
      attempts: call.attempts,
      cause: call.lastFailure?.message ?? tries.at(-1)?.cause ?? noWord,
      tries,
    },
  ];
}

/** Every try before the last one: what was handed on, what the server kept of the last failed one, and gaps as what they are. */
function triesOf({ attempts, failure, lastFailure }: Call): Try[] {
  // A failure that ended it says what all tries before it said.
  const handedOn = failure?.earlier ?? lastFailure?.earlier ?? [];
  const isWhole = handedOn.some(({ to }) => to === attempts - 1);
  const last = lastFailure === undefined ? noWord : briefly(lastFailure.message);
  const known = isWhole ? handedOn : addTry(handedOn, attempts - 1, last);
  const tries: Try[] = [];
  for (const entry of known) {
    const next = (tries.at(-1)?.to ?? 0) + 1;
    if (entry.from > next) tries.push({ from: next, to: entry.from - 1, cause: noWord });
    tries.push(entry);
  }
  return tries;
}

/** `1: …`, `2–4: …`. */
export function describeTry({ from, to, cause }: Try): string {
  return `${from === to ? from : `${from}–${to}`}: ${cause}`;
}

function failuresOf(history: MigrationHistory, calls: readonly Call[], copyCalls: readonly Call[]): ReportFailure[] {
  const failed = [...calls, ...copyCalls].flatMap(({ workflowId, summary, endedAt, scheduledAt, failure }) =>
    failure === undefined
      ? []
      : [{ at: endedAt ?? scheduledAt, workflowId, what: summary, type: failure.type, cause: failure.message }],
  );
  const others = [...history.runs, ...history.copies].flatMap(({ workflowId, events }) =>
    events.flatMap((event): ReportFailure[] => {
      if (event.kind === 'child-failed') {
        const { type, message } = event.failure;
        return [{ at: event.at, workflowId: event.workflowId, what: 'copy', type, cause: message }];
      }
      if (event.kind === 'task-failed') {
        const { type, message } = event.failure;
        return [{ at: event.at, workflowId, what: 'step of the workflow', type, cause: message }];
      }
      return event.kind === 'ended' && event.how !== 'completed'
        ? [{ at: event.at, workflowId, what: `the workflow was ${event.how}`, type: event.how, cause: event.why }]
        : [];
    }),
  );
  // A failed activity of a copy is the failure of the copy as well: said once.
  const seen = new Set<string>();
  return [...failed, ...others].toSorted(byTime).filter(({ workflowId, cause }) => {
    const key = `${workflowId}\n${cause}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}

const outcomeSchema = z.looseObject({ passes: z.array(z.looseObject({ pass: z.number() })) });
const reportSchema = z.looseObject({ startedAt: z.string(), seconds: z.number(), literalBytes: z.number() });
const passInputSchema = z.looseObject({ pass: z.number(), mode: z.enum(['live', 'final']) });

type CopyOutcome = { at: string; workflowId: string } & TransferOutcome;

/** Results of copies, in order. */
function outcomesOf(events: readonly ReportEvent[]): CopyOutcome[] {
  return events.flatMap((event) => {
    const parsed = event.kind === 'child-completed' ? outcomeSchema.safeParse(event.result) : undefined;
    return event.kind === 'child-completed' && parsed?.success === true
      ? [{ at: event.at, workflowId: event.workflowId, ...(parsed.data as unknown as TransferOutcome) }]
      : [];
  });
}

function transfersOf(
  status: Known | undefined,
  plan: Plan | undefined,
  outcomes: readonly CopyOutcome[],
  copyCalls: readonly Call[],
): ReportTransfer[] {
  const planned = plan?.transfers ?? [];
  const ids = new Set([...planned.map(({ id }) => id), ...(status?.transfers ?? []).map(({ id }) => id)]);
  return [...ids].map((id) => {
    const known = status?.transfers.find((transfer) => transfer.id === id);
    const definition = planned.find((transfer) => transfer.id === id);
    const own = outcomes.filter(({ workflowId }) => workflowId.endsWith(`/${id}`));
    const last = own.findLast((outcome) => outcome.digest !== undefined);
    const passes = passesOf(id, known, own, copyCalls);
    const digest = known?.digest ?? last?.digest;
    const total = passes.at(-1)?.totalBytes;
    return {
      id,
      source: known?.source ?? endText(definition?.source),
      destination: known?.destination ?? endText(definition?.destination),
      state: stateOf(known, own, passes),
      passes,
      ...(total === undefined ? {} : { totalBytes: total }),
      movedBytes: passes.reduce((sum, { literalBytes }) => sum + literalBytes, 0),
      ...(digest === undefined ? {} : { digest }),
      ...(last?.proof === undefined ? {} : { proof: last.proof }),
    };
  });
}

function stateOf(
  known: TransferStatus | undefined,
  own: readonly TransferOutcome[],
  passes: readonly unknown[],
): string {
  if (own.at(-1)?.digest !== undefined) return 'verified';
  if (known !== undefined && known.state !== 'pending') return known.state;
  if (own.length > 0) return 'fresh';
  return passes.length > 0 ? 'copying' : 'pending';
}

/** Every pass that is told anywhere, once: results of copies, the workflow's own record, and what running copies did so far. */
function passesOf(
  id: string,
  known: TransferStatus | undefined,
  outcomes: readonly TransferOutcome[],
  copyCalls: readonly Call[],
): PassSummary[] {
  const live = copyCalls.flatMap((call): PassSummary[] => {
    if (call.activity !== 'runPass' || !call.workflowId.endsWith(`/${id}`)) return [];
    const input = passInputSchema.safeParse(call.input);
    const result = reportSchema.safeParse(call.result);
    if (!input.success || !result.success) return [];
    const report = result.data as unknown as PassSummary & { wireBytes?: number };
    const rate = report.seconds > 0 ? (report.wireBytes ?? report.literalBytes) / report.seconds : 0;
    return [{ ...report, pass: input.data.pass, mode: input.data.mode, bytesPerSecond: Math.round(rate) }];
  });
  const found = new Map<string, PassSummary>();
  for (const pass of [...live, ...(known?.passes ?? []), ...outcomes.flatMap((outcome) => outcome.passes)]) {
    found.set(pass.startedAt, pass);
  }
  return [...found.values()].toSorted((a, b) => Date.parse(a.startedAt) - Date.parse(b.startedAt));
}

function endText(end: { host: string; path: string } | undefined): string {
  return end === undefined ? '' : `${end.host}:${end.path}`;
}

const rowsSchema = z.looseObject({
  rows: z.array(
    z.looseObject({
      component: z.string(),
      ordinal: z.number(),
      node: z.string(),
      path: z.string(),
      ready: z.boolean(),
    }),
  ),
});

/** From the plan's snapshot to the last placement that was proved, on either side. */
function placementOf(plan: Plan | undefined, calls: readonly Call[]): ReportPlacement[] {
  const proved = calls.findLast(({ activity, result }) => activity === 'provePlacement' && result !== undefined);
  const parsed = rowsSchema.safeParse(proved?.result);
  const rows = parsed.success ? (parsed.data.rows as unknown as PlacementRow[]) : [];
  return (plan?.components ?? []).flatMap((component) =>
    component.replicas.map((replica) => {
      const row = rows.find(({ component: kind, ordinal }) => kind === component.kind && ordinal === replica.ordinal);
      return {
        component: component.kind,
        ordinal: replica.ordinal,
        pv: replica.pv,
        before: replica.from,
        ...(row === undefined ? {} : { after: row.node, path: row.path, ready: row.ready }),
      };
    }),
  );
}

const sideSchema = z.looseObject({ side: z.enum(['from', 'to']) });
const probesSchema = z.array(
  z.looseObject({
    component: z.string(),
    ordinal: z.number(),
    name: z.string(),
    value: z.string(),
    untaken: z.string().optional(),
  }),
);

/** Probes at rest before against the last at rest after. Those taken once applications were started stand beside them. */
function probesOf(calls: readonly Call[]): ReportProbe[] {
  const start = calls.findIndex(({ activity }) => activity === 'startApplications');
  const taken = calls.flatMap(({ activity, input, result }, index) => {
    const parsed = activity === 'takeProbes' ? probesSchema.safeParse(result) : undefined;
    if (parsed?.success !== true) return [];
    const side = sideSchema.safeParse(input).data?.side;
    return [{ side, isAtRest: start === -1 || index < start, probes: parsed.data as unknown as Probe[] }];
  });
  const first = taken.find(({ side }) => side === 'from')?.probes ?? [];
  const last = taken.findLast(({ side, isAtRest }) => side === 'to' && isAtRest)?.probes;
  const busy = taken.findLast(({ side, isAtRest }) => side === 'to' && !isAtRest)?.probes;
  return first.map(({ component, ordinal, name, value, untaken }) => {
    if (untaken !== undefined) return { component, ordinal, name, verdict: 'never taken' as const, why: untaken };
    const valueIn = (probes: readonly Probe[] | undefined): string | undefined =>
      probes?.find(
        (probe) =>
          probe.component === component &&
          probe.ordinal === ordinal &&
          probe.name === name &&
          probe.untaken === undefined,
      )?.value;
    const after = valueIn(last);
    const withApplications = valueIn(busy);
    const verdict =
      last === undefined
        ? 'not compared yet'
        : after === undefined
          ? 'missing'
          : after === value
            ? 'same'
            : 'different';
    return {
      component,
      ordinal,
      name,
      before: value,
      ...(after === undefined ? {} : { after }),
      ...(withApplications === undefined ? {} : { withApplications }),
      verdict,
    };
  });
}

const noticeSchema = z.looseObject({
  event: z.string(),
  gate: z.string().optional(),
  targets: z.array(z.string()),
});
const deliverySchema = z.looseObject({
  delivered: z.array(z.string()),
  failed: z.array(z.looseObject({ target: z.string(), why: z.string() })),
});

function notificationsOf(calls: readonly Call[]): ReportNotification[] {
  return calls.flatMap(({ activity, input, result, failure, endedAt, scheduledAt }): ReportNotification[] => {
    const notice = activity === 'notify' ? noticeSchema.safeParse(input) : undefined;
    if (notice?.success !== true) return [];
    const { event, gate, targets } = notice.data;
    const delivery = deliverySchema.safeParse(result);
    const why = failure?.message ?? (endedAt === undefined ? 'still being tried' : 'not told');
    const outcome = delivery.success
      ? {
          delivered: delivery.data.delivered,
          failed: delivery.data.failed.map((one) => ({ target: one.target, why: one.why })),
        }
      : { delivered: [], failed: targets.map((target) => ({ target, why })) };
    return [{ at: scheduledAt, event, ...(gate === undefined ? {} : { gate }), ...outcome }];
  });
}

const backupSchema = z.looseObject({ files: z.array(z.looseObject({ name: z.string(), digest: z.string() })) });

function backupOf(calls: readonly Call[]): ReportModel['backup'] {
  const saved = calls.findLast(({ activity, result }) => activity === 'backupSecrets' && result !== undefined);
  const parsed = backupSchema.safeParse(saved?.result);
  return parsed.success ? parsed.data.files.map(({ name, digest }) => ({ name, digest })) : [];
}

function versionsOf(plan: Plan | undefined, events: readonly ReportEvent[]): ReportModel['versions'] {
  const workers = new Set(
    events.flatMap((event) =>
      (event.kind === 'task-started' || event.kind === 'activity-started') && event.identity !== ''
        ? [event.identity]
        : [],
    ),
  );
  return [
    { name: 'report', version: `ferry ${version}` },
    ...[...workers].toSorted().map((identity) => ({ name: 'worker', version: identity })),
    ...Object.entries(plan?.platform.versions ?? {}).map(([name, seen]) => ({ name, version: seen })),
  ];
}

/** Seconds that a gate was open; undefined while nobody can know. */
export function gateWait(gate: ReportGate): number | undefined {
  if (gate.openedAt === undefined || gate.decidedAt === undefined) return undefined;
  return (Date.parse(gate.decidedAt) - Date.parse(gate.openedAt)) / 1000;
}

/** How long a phase took, without what undoing it took. */
export function phaseSeconds({ startedAt, endedAt, doneAt = endedAt, state }: ReportPhase): number | undefined {
  if (startedAt === undefined || doneAt === undefined || state === 'skipped') return undefined;
  return (Date.parse(doneAt) - Date.parse(startedAt)) / 1000;
}
