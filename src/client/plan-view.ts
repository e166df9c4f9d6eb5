import { componentRows } from '../plan/components.ts';
import { counted } from '../plan/counted.ts';
import type { Plan, Transfer } from '../plan/plan.ts';
import { estimateOnline } from '../plan/projection.ts';
import type { Estimate } from '../plan/projection.ts';
import { exchangeOf, quorumSequence } from '../plan/quorum.ts';
import { expectedSeconds } from '../workflows/downtime.ts';
import type { PhaseName } from '../workflows/messages.ts';
import { phaseNames } from '../workflows/messages.ts';
import { formatBytes } from '../plan/amounts.ts';
import { pc } from './colors.ts';
import { seconds, table } from './output.ts';

/* How a plan looks to people. Pure: a plan in, text out. */

export interface ExpectedPhase {
  phase: PhaseName;
  /** Applications are away meanwhile. */
  down: boolean;
  expected: Estimate;
}

/** Seconds of every phase that the plan has. */
export function expectedPhases(plan: Plan): ExpectedPhase[] {
  const online = new Map<string, Estimate>(Object.entries(estimateOnline(plan)));
  const down = expectedSeconds(plan, []);
  return phaseNames.flatMap((phase): ExpectedPhase[] => {
    const inside = down.get(phase);
    if (inside !== undefined) return [{ phase, down: true, expected: inside }];
    const outside = online.get(phase);
    return outside === undefined ? [] : [{ phase, down: false, expected: outside }];
  });
}

/** Downtime as it looks from here: the sum over the phases in the window. People at gates are not in it. */
export function projectedDowntime(plan: Plan): Estimate {
  return expectedPhases(plan)
    .filter(({ down }) => down)
    .reduce(
      (sum, { expected }) => ({
        seconds: sum.seconds + expected.seconds,
        errorSeconds: sum.errorSeconds + expected.errorSeconds,
      }),
      { seconds: 0, errorSeconds: 0 },
    );
}

export function describePlan(plan: Plan, notes: readonly string[] = []): string {
  const pairs = plan.mapping.map(({ from, to }) => `${from} → ${to}`).join(', ');
  return [
    `${pc.bold(plan.cluster)}  ${pairs}  ${pc.dim(plan.digest)}`,
    '',
    ...(plan.transfers.length === 0 ? ['No data moves.'] : [transferTable(plan)]),
    '',
    ...describeAround(plan),
    '',
    phaseTable(plan),
    '',
    downtimeLine(plan),
    ...(notes.length === 0 ? [] : ['', ...notes.map((note) => `${pc.yellow('note:')} ${note}`)]),
  ].join('\n');
}

function transferTable(plan: Plan): string {
  const order = new Map(componentRows.map(({ kind }, index) => [kind, index]));
  const rank = ({ subject }: Transfer): number =>
    subject.type === 'component' ? (order.get(subject.component) ?? 0) * 1000 + subject.ordinal : 1_000_000;
  const rows = plan.transfers
    .toSorted((a, b) => rank(a) - rank(b))
    .map((transfer) => {
      const { subject, source, destination, observed } = transfer;
      const paths = source.path === destination.path ? source.path : `${source.path} → ${destination.path}`;
      return [
        subject.type === 'component' ? subject.component : subject.service,
        subject.type === 'component' ? String(subject.ordinal) : '',
        source.host,
        destination.host,
        paths,
        observed === undefined ? '?' : formatBytes(observed.bytes),
        observed === undefined ? '?' : freeText(observed),
      ];
    });
  const known = plan.transfers.flatMap(({ observed }) => (observed === undefined ? [] : [observed.bytes]));
  const sum = formatBytes(known.reduce((total, size) => total + size, 0));
  const unknown = plan.transfers.length - known.length;
  const all = `${counted(plan.transfers.length, 'directory', 'directories')}, ${sum} in all${unknown === 0 ? '' : ` without ${unknown} that ${unknown === 1 ? 'was' : 'were'} not measured`}`;
  return `${table(['COMPONENT', 'ORDINAL', 'FROM', 'TO', 'PATH', 'SIZE', 'FREE'], rows)}\n${pc.dim(all)}`;
}

function freeText({ bytes: size, freeBytes }: NonNullable<Transfer['observed']>): string {
  const text = formatBytes(freeBytes);
  return freeBytes < size ? pc.red(`${text} (too little)`) : text;
}

function describeAround(plan: Plan): string[] {
  const gates = (['open-downtime', 'remove-nodes', 'close-downtime'] as const).map((name) => {
    const { approvers, required, selfApproval } = plan.gates[name];
    const anybody = selfApproval ? 'anybody' : `anybody but ${plan.author}`;
    return [`gate ${name}`, `${required} of ${approvers.length === 0 ? anybody : approvers.join(', ')}`];
  });
  const removal =
    plan.nodes.remove.length === 0 ? 'none' : `${plan.nodes.remove.join(', ')} (after ${plan.gates.removeNodesAfter})`;
  const rows = [
    ['nodes added', plan.nodes.add.map(({ name, ip4 }) => `${name} (${ip4})`).join(', ') || 'none'],
    ['nodes removed', removal],
    ...membersRow(plan),
    ['applications', plan.applications.namespaces.join(', ') || 'none'],
    ['control host', `${plan.platform.controlHost}:${plan.platform.packageDirectory}`],
    ['registry', plan.containerRegistry],
    ['online limit', onlineLimit(plan)],
    ...gates,
  ];
  const width = Math.max(...rows.map(([name = '']) => name.length));
  return rows.map(([name = '', value = '']) => `${pc.dim(name.padEnd(width))}  ${value}`);
}

function onlineLimit({ limits }: Plan): string {
  const text = (limit: number): string => (limit === 0 ? 'none' : `${formatBytes(limit * 1024)}/s per host`);
  const hours = (limits.preCopySchedule ?? []).map(
    ({ from, to, limitKiBps }) => `; ${from} to ${to} UTC ${text(limitKiBps)}`,
  );
  return `${text(limits.preCopyKiBps)}${hours.join('')}`;
}

/** Members of etcd from step to step, and how many of them may be lost at the weakest. */
function membersRow(plan: Plan): string[][] {
  const exchange = exchangeOf(plan);
  if (exchange === undefined) return [];
  const steps = quorumSequence(exchange);
  const spare = Math.min(...steps.map((step) => step.spare));
  const counts = steps.map(({ members }) => members.length).join(' → ');
  const bare = pc.red('the loss of one stops the API at some step');
  return [['etcd members', `${counts}, ${spare < 1 ? bare : `${spare} may be lost at every step`}`]];
}

function phaseTable(plan: Plan): string {
  const rows = expectedPhases(plan).map(({ phase, down, expected }) => [
    phase,
    `${seconds(expected.seconds)} ± ${seconds(expected.errorSeconds)}`,
    down ? 'yes' : 'no',
  ]);
  return table(['PHASE', 'EXPECTED', 'DOWNTIME'], rows);
}

function downtimeLine(plan: Plan): string {
  const projected = projectedDowntime(plan);
  const { budgetSeconds } = plan.downtime;
  const text = `Projected downtime ${seconds(projected.seconds)} ± ${seconds(projected.errorSeconds)}, budget ${seconds(budgetSeconds)}`;
  return projected.seconds > budgetSeconds
    ? pc.red(`${text}: it does not fit`)
    : `${pc.bold(text)} ${pc.dim('(time that people take at gates is not in it)')}`;
}
