import { counted } from '../plan/counted.ts';
import type { GateName, Plan } from '../plan/plan.ts';
import { gateNames } from '../plan/plan.ts';
import { isDown, projectDowntime, spentSeconds } from './downtime.ts';
import { choicesOf, currentPhase } from './gates.ts';
import type { ApproveInput, BlockedStatus, GateStatus, MigrationStatus, PhaseStatus } from './messages.ts';
import { clip } from './policies.ts';
import type { MigrationState, Parked } from './state.ts';

/** The server's limit on current details, with room to spare. */
const detailsBytes = 18_000;

/** Blocks told beside the latest, and bytes of each of their texts: a status has to fit into one message. */
const othersTold = 10;
const otherBytes = 500;

const nbsp = '\u00a0';

/** What people and programs see of a migration at a moment (`now`: ms since the epoch). A pure view of the state. */
export function viewStatus(plan: Plan, state: MigrationState, now: number): MigrationStatus {
  const undo = state.abort === undefined ? undefined : state.undo;
  const projection = projectDowntime(plan, state.phases, state.transfers, state.downtime, now, undo);
  const awaiting = awaitingGate(state);
  const stops = state.parked.filter((parked) => blockedBy(parked) !== undefined);
  const blocked = stops.at(-1);
  const paused = state.parked.find((parked) => parked.kind === 'paused');
  const startedAt = state.downtime[0]?.startedAt;
  const endedAt = isDown(state.downtime) ? undefined : state.downtime.at(-1)?.endedAt;
  return {
    cluster: plan.cluster,
    planDigest: plan.digest,
    state: overallState(state),
    ...(state.outcome === undefined ? { phase: currentPhase(state) } : {}),
    ...(awaiting === undefined ? {} : { awaitingGate: awaiting }),
    pointOfNoReturn: state.pointOfNoReturn,
    phases: state.phases.map((phase) => viewPhase(phase, state.parked)),
    gates: gateNames.map((name) => viewGate(plan, state.gates[name])),
    decisions: state.decisions,
    transfers: state.transfers,
    ...(blocked === undefined ? {} : { blocked: { ...viewBlocked(blocked), choices: choicesOf(state) } }),
    ...viewOthers(stops.slice(0, -1)),
    ...(paused === undefined
      ? {}
      : { paused: { by: paused.by ?? '', reason: paused.reason ?? '', since: paused.since } }),
    downtime: {
      budgetSeconds: plan.downtime.budgetSeconds,
      projectedSeconds: Math.round(projection.seconds),
      projectedErrorSeconds: Math.round(projection.errorSeconds),
      ...(startedAt === undefined ? {} : { startedAt }),
      ...(endedAt === undefined ? {} : { endedAt }),
      spentSeconds: Math.round(spentSeconds(state.downtime, now)),
      asOf: new Date(now).toISOString(),
    },
  };
}

/** The stored gate, and whom it waits for as the plan has it. */
function viewGate(plan: Plan, gate: GateStatus): GateStatus {
  return {
    ...gate,
    approvers: awaitedApprovers(plan, gate.name, gate.approvals),
    ...(plan.gates[gate.name].selfApproval ? {} : { barred: plan.author }),
  };
}

function awaitedApprovers(plan: Plan, gate: GateName, given: GateStatus['approvals']): string[] {
  const { approvers, selfApproval } = plan.gates[gate];
  return approvers.filter((name) => (selfApproval || name !== plan.author) && !given.some(({ by }) => by === name));
}

/** `awaits 2 approvals, 1 given (li): zhao or qian`. */
export function describeAwaited(gate: GateStatus | undefined): string {
  const { required = 1, approvals = [], approvers, barred } = gate ?? {};
  const names = approvals.map(({ by }) => by).join(', ');
  const given = approvals.length === 0 ? '' : `, ${approvals.length} given (${names})`;
  const anybody = barred === undefined ? 'anybody' : `anybody but ${barred}, who made the plan`;
  // An older worker does not say who.
  const who = approvers === undefined ? '' : `: ${approvers.length === 0 ? anybody : approvers.join(' or ')}`;
  return `awaits ${counted(required, 'approval')}${given}${who}`;
}

export function awaitingGate(state: MigrationState): GateName | undefined {
  return state.parked.find((parked) => parked.kind === 'gate' && parked.outcome === undefined)?.gate;
}

function overallState(state: MigrationState): MigrationStatus['state'] {
  if (state.outcome !== undefined) {
    return state.outcome === 'migrated' ? 'completed' : 'rolled-back';
  }
  if (state.parked.some((parked) => blockedBy(parked) !== undefined)) {
    return 'blocked';
  }
  if (state.parked.some((parked) => parked.kind === 'paused')) {
    return 'paused';
  }
  if (state.abort !== undefined) {
    return 'rolling-back';
  }
  return awaitingGate(state) === undefined ? 'running' : 'awaiting-gate';
}

function viewPhase(phase: PhaseStatus, parked: readonly Parked[]): PhaseStatus {
  const own = parked.filter((candidate) => candidate.phase === phase.name && candidate.outcome === undefined);
  if (own.some((candidate) => blockedBy(candidate) !== undefined)) {
    return { ...phase, state: 'blocked' };
  }
  return own.some((candidate) => candidate.kind === 'gate') ? { ...phase, state: 'parked' } : phase;
}

/** Everything that keeps the work from going on and is not a plain question or a pause. */
function blockedBy(parked: Parked): BlockedStatus | undefined {
  return parked.kind === 'gate' || parked.kind === 'paused' || parked.outcome !== undefined
    ? undefined
    : viewBlocked(parked);
}

function viewBlocked(parked: Parked): BlockedStatus {
  return { phase: parked.phase, since: parked.since, ...explanation(parked) };
}

/** Steps at work side by side may fail side by side, and each needs its own repair before the one resume that tries them all again. */
function viewOthers(stops: readonly Parked[]): Pick<MigrationStatus, 'alsoBlocked' | 'moreBlocked'> {
  const more = stops.length - othersTold;
  const alsoBlocked = stops
    .slice(0, othersTold)
    .map(viewBlocked)
    .map((stop) => ({
      ...stop,
      cause: shortened(stop.cause),
      untouched: shortened(stop.untouched),
      next: shortened(stop.next),
    }));
  return { ...(alsoBlocked.length === 0 ? {} : { alsoBlocked }), ...(more > 0 ? { moreBlocked: more } : {}) };
}

function shortened(text: string): string {
  const kept = clip(text, otherBytes);
  return kept === text ? text : `${kept}…`;
}

function explanation(parked: Parked): Omit<BlockedStatus, 'phase' | 'since'> {
  if (parked.blocked !== undefined) {
    return parked.blocked;
  }
  const who = `${parked.by ?? 'somebody'} (${parked.reason ?? 'no reason given'})`;
  if (parked.kind === 'no-way-back') {
    return {
      cause: `${who} asked to abort after the old nodes began to be removed: there is no way back to them`,
      untouched: 'everything done so far stays as it is; the data on the old hosts was never written',
      next: 'send resume to go on; the migration stands still before its next step',
      heals: 'human',
    };
  }
  return {
    cause: `${who} sent gate ${parked.gate ?? ''} back`,
    untouched: 'everything done so far stays as it is and nothing more is done',
    next: 'set right what was found, then send resume: the checks run anew and the gate opens again; or abort where the way back is open',
    heals: 'human',
  };
}

/** The exact command that sends a decision, as a person types it. */
export function decisionCommand(workflowId: string, name: string, input: Record<string, unknown>): string {
  // An id is whatever was given at the start; an ordinary one stays readable.
  const id = /^[A-Za-z0-9_./:@%+,-]+$/.test(workflowId) ? workflowId : quoted(workflowId);
  return `temporal workflow signal --workflow-id ${id} --name ${name} --input ${quoted(JSON.stringify(input))}`;
}

/** A word for a POSIX shell; the rules of this house keep the hosts' own quoting out of workflows. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/** What approves an open gate, by the first who may and has not yet; else the name is left to be filled in. */
function approveInput(plan: Plan, gate: GateName, given: GateStatus['approvals']): ApproveInput {
  return {
    gate,
    by: awaitedApprovers(plan, gate, given)[0] ?? 'YOUR-NAME',
    reason: 'WHY',
    planDigest: plan.digest,
  };
}

/** The command that approves an open gate. */
export function approveCommand(
  plan: Plan,
  workflowId: string,
  gate: GateName,
  given: GateStatus['approvals'] = [],
): string {
  return decisionCommand(workflowId, 'approve', { ...approveInput(plan, gate, given) });
}

/** The current details of the workflow: Markdown, for the Web UI and `temporal workflow metadata`. */
export function describe(plan: Plan, status: MigrationStatus, workflowId: string): string {
  const text = [
    `## ${plan.cluster}: ${status.state}${status.phase === undefined ? '' : `, ${status.phase}`}`,
    ...describeParking(plan, status, workflowId),
    describeDowntime(status),
    describeLadder(status),
    describeTransfers(status),
  ].join('\n\n');
  return clip(text, detailsBytes);
}

/** Of a failure that is `Permanent`. */
export const triedInVain = 'trying again does not help before the cause is mended';

function describeParking(plan: Plan, status: MigrationStatus, workflowId: string): string[] {
  const lines: string[] = [];
  if (status.awaitingGate !== undefined) {
    const gate = status.gates.find((candidate) => candidate.name === status.awaitingGate);
    lines.push(
      `**Gate \`${status.awaitingGate}\` ${describeAwaited(gate)}.** Projected downtime: ${duration(status.downtime.projectedSeconds)} ± ${duration(status.downtime.projectedErrorSeconds)}.`,
      ...(gate?.unproved === undefined
        ? []
        : [`Not proved, and accepted with the approval: ${gate.unproved.join('; ')}.`]),
      fenced(approveCommand(plan, workflowId, status.awaitingGate, gate?.approvals)),
      'Or in the Web UI: More Actions, Send an Update, `approve`, with',
      fenced(JSON.stringify(approveInput(plan, status.awaitingGate, gate?.approvals ?? []), undefined, 2)),
    );
  }
  if (status.blocked !== undefined) {
    lines.push(
      `**Blocked in \`${status.blocked.phase}\`:** ${status.blocked.cause}`,
      ...(status.blocked.heals === 'never' ? [`**${triedInVain}**`] : []),
      `Left untouched: ${status.blocked.untouched}`,
      `Next: ${status.blocked.next}`,
      fenced(decisionCommand(workflowId, 'resume', { by: 'YOUR-NAME' })),
    );
    if (status.blocked.choices?.includes('abort') === true) {
      lines.push(fenced(decisionCommand(workflowId, 'abort', { by: 'YOUR-NAME', reason: 'WHY' })));
    }
    lines.push(...describeOthers(status));
  }
  if (status.paused !== undefined) {
    lines.push(
      `**Paused** by ${status.paused.by}: ${status.paused.reason}`,
      fenced(decisionCommand(workflowId, 'resume', { by: 'YOUR-NAME' })),
    );
  }
  return lines;
}

function describeOthers({ alsoBlocked = [], moreBlocked = 0 }: MigrationStatus): string[] {
  if (alsoBlocked.length === 0) {
    return [];
  }
  const items = alsoBlocked.map(({ phase, cause, next }) =>
    `- \`${phase}\`: ${cause} Next: ${next}`.replaceAll('\n', ' '),
  );
  const more = moreBlocked === 0 ? [] : [`- and ${moreBlocked} more`];
  return ['**Also blocked**; resume tries all of it again:', [...items, ...more].join('\n')];
}

function describeDowntime(status: MigrationStatus): string {
  const { downtime } = status;
  const spent =
    downtime.startedAt === undefined
      ? 'not begun'
      : `since ${downtime.startedAt}${downtime.endedAt === undefined ? '' : `, over at ${downtime.endedAt}`}, ${duration(downtime.spentSeconds)} spent`;
  return `Downtime: ${spent}; projected ${duration(downtime.projectedSeconds)} ± ${duration(downtime.projectedErrorSeconds)}, budget ${duration(downtime.budgetSeconds)}.`;
}

function describeLadder(status: MigrationStatus): string {
  const rows = status.phases.map(
    (phase) => `| ${phase.section} | ${phase.name} | ${phase.state} | ${cell(phase.detail ?? '')} |`,
  );
  return [header('§', 'phase', 'state', 'what'), '|---|---|---|---|', ...rows].join('\n');
}

function describeTransfers(status: MigrationStatus): string {
  if (status.transfers.length === 0) {
    return 'No data moves.';
  }
  const rows = status.transfers.map((transfer) => {
    const last = transfer.passes.at(-1);
    const moved = last === undefined ? '' : `${last.literalBytes} of ${last.totalBytes} bytes in pass ${last.pass}`;
    return `| ${transfer.id} | ${transfer.source} | ${transfer.destination} | ${transfer.state} | ${moved} |`;
  });
  return [header('transfer', 'from', 'to', 'state', 'last pass'), '|---|---|---|---|---|', ...rows].join('\n');
}

/** The Web UI draws tables without any space between columns; spaces that count make the columns wider than what is in them. */
function header(...names: string[]): string {
  return `| ${names.map((name) => `${nbsp.repeat(3)}${name}${nbsp.repeat(3)}`).join(' | ')} |`;
}

function fenced(command: string): string {
  return `\`\`\`\n${command}\n\`\`\``;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ').slice(0, 300);
}

/** Seconds for people: `45 s`, `12 min`, `3 h 05 min`. */
export function duration(seconds: number): string {
  if (seconds < 120) {
    return `${Math.round(seconds)} s`;
  }
  const minutes = Math.round(seconds / 60);
  return minutes < 120
    ? `${minutes} min`
    : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}
