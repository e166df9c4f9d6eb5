import { formatBytes } from '../plan/amounts.ts';
import { seconds } from './output.ts';
import type { ReportModel, ReportTransfer } from './report-model.ts';
import { describeTry, gateWait, phaseSeconds, retriesNote } from './report-model.ts';

/* Words that both kinds of report use, and the report as Markdown. Pure. */

export interface Said {
  text: string;
  tone: 'good' | 'bad' | 'warn' | '';
}

/** `2026-11-24 03:12:05 UTC`. */
export function moment(at: string): string {
  const date = new Date(at);
  return Number.isNaN(date.valueOf()) ? at : `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

export function describeOutcome({ outcome, why }: ReportModel): Said {
  switch (outcome) {
    case 'migrated':
      return { text: 'migrated', tone: 'good' };
    case 'rolled-back':
      return { text: 'rolled back to the old machines', tone: 'warn' };
    case 'running':
      return { text: 'still running', tone: '' };
    default:
      return { text: `${outcome.replace('-', ' ')}${why === undefined ? '' : `: ${why}`}`, tone: 'bad' };
  }
}

/** What became of the tries before this one, and how to get their reports. */
export function describeEarlier({ workflowId, earlier = [] }: ReportModel): string[] {
  return earlier.map(({ runId, startedAt, endedAt, outcome }) => {
    const end = endedAt === undefined ? 'not ended' : moment(endedAt);
    return `${moment(startedAt)} to ${end}, ${outcome}: ferry report ${workflowId} --run-id ${runId}`;
  });
}

/** `16m00s`; while applications are away, or were when the workflow ended, that too. */
export function downtimeText({ downtime, endedAt }: ReportModel): string {
  if (downtime.spentSeconds === undefined) return 'none';
  const spent = seconds(downtime.spentSeconds);
  if (downtime.endedAt !== undefined) return spent;
  return `${spent} ${endedAt === undefined ? 'so far' : 'until the workflow ended'}`;
}

/** How the measured downtime stands to what was projected and allowed; one that has not ended is compared with nothing projected. */
export function verdictOnDowntime(model: ReportModel): Said {
  const { spentSeconds, budgetSeconds, projectedSeconds, startedAt, endedAt } = model.downtime;
  if (spentSeconds === undefined || startedAt === undefined)
    return { text: 'applications were never stopped', tone: '' };
  const over = budgetSeconds === undefined ? 0 : spentSeconds - budgetSeconds;
  const budget = over > 0 ? `${seconds(over)} over the budget` : 'within the budget';
  if (endedAt === undefined) {
    const since = moment(startedAt);
    if (model.endedAt !== undefined) {
      const how = model.outcome.replace('-', ' ');
      const text = `applications were down, since ${since}, when the workflow ended (${how}) at ${moment(model.endedAt)}`;
      return { text, tone: 'bad' };
    }
    const tone = over > 0 ? 'bad' : '';
    const against = budgetSeconds === undefined ? '' : `, ${budget}${over > 0 ? '' : ' so far'}`;
    return { text: `open since ${since}${against}`, tone };
  }
  const against = projectedSeconds === undefined ? '' : `, ${differenceText(spentSeconds, projectedSeconds)}`;
  if (budgetSeconds === undefined) return { text: `measured${against}`, tone: '' };
  return { text: `${budget}${against}`, tone: over > 0 ? 'bad' : 'good' };
}

function differenceText(spent: number, projected: number): string {
  const difference = spent - projected;
  if (Math.abs(difference) < 1) return 'as projected';
  return `${seconds(Math.abs(difference))} ${difference > 0 ? 'more' : 'less'} than projected`;
}

export function describePasses({ passes }: ReportTransfer): string {
  const final = passes.filter(({ mode }) => mode === 'final');
  const online = passes.length - final.length;
  const moved = final.reduce((sum, { literalBytes }) => sum + literalBytes, 0);
  const took = final.reduce((sum, pass) => sum + pass.seconds, 0);
  const last = final.length === 0 ? '' : `, last delta ${formatBytes(moved)} in ${seconds(took)}`;
  return `${online} online${last}`;
}

/** The report as Markdown, with tables. What people and machines wrote cannot become markup. */
export function reportMarkdown(model: ReportModel): string {
  const { downtime } = model;
  const outcome = describeOutcome(model);
  const facts = [
    ['workflow', model.workflowId],
    ['plan', `${model.planDigest} by ${model.author}`],
    ['mapping', model.mapping.map(({ from, to }) => `${from} → ${to}`).join(', ')],
    ['began', moment(model.startedAt)],
    ['ended', model.endedAt === undefined ? 'still running' : moment(model.endedAt)],
    ['downtime', downtimeText(model)],
    [
      'projected',
      downtime.projectedSeconds === undefined
        ? ''
        : `${seconds(downtime.projectedSeconds)} (${downtime.projectedFrom === 'approval' ? 'when the window was opened' : 'by the plan'})`,
    ],
    ['budget', downtime.budgetSeconds === undefined ? '' : seconds(downtime.budgetSeconds)],
    ['verdict', verdictOnDowntime(model).text],
    ...describeEarlier(model).map((text) => ['earlier try', text]),
  ];
  return [
    `# ${inline(model.cluster)}: ${inline(outcome.text)}`,
    table(['', ''], facts),
    ...(model.gaps.length === 0
      ? []
      : [`## What is not in this report\n\n${model.gaps.map((gap) => `- ${inline(gap)}`).join('\n')}`]),
    ...sections(model).map(({ title, headers, rows, empty, note }) =>
      [
        `## ${title}`,
        rows.length === 0 ? empty : table(headers, rows),
        ...(note === undefined || rows.length === 0 ? [] : [note]),
      ].join('\n\n'),
    ),
    `Made ${moment(model.madeAt)} by ${inline(model.madeBy)} from the history of the workflow alone (${inline(model.runs.map(({ runId }) => `run ${runId}`).join(', '))}).`,
  ]
    .join('\n\n')
    .concat('\n');
}

interface Section {
  title: string;
  headers: string[];
  rows: (string | undefined)[][];
  empty: string;
  note?: string;
}

function sections(model: ReportModel): Section[] {
  const span = (count: number | undefined): string => (count === undefined ? '' : seconds(count));
  const time = (at: string | undefined): string => (at === undefined ? '' : moment(at));
  return [
    {
      title: 'Phases',
      headers: ['§', 'phase', 'state', 'began', 'took', 'what was proved'],
      rows: model.phases.map((phase) => [
        phase.section === undefined ? '' : String(phase.section),
        phase.name,
        phase.state,
        time(phase.startedAt),
        span(phaseSeconds(phase)),
        phase.detail,
      ]),
      empty: 'none',
    },
    {
      title: 'Gates',
      headers: ['gate', 'state', 'opened', 'decided', 'waited', 'not proved, and accepted'],
      rows: model.gates.map((gate) => [
        gate.name,
        gate.state,
        time(gate.openedAt),
        time(gate.decidedAt),
        span(gateWait(gate)),
        gate.unproved?.join('; '),
      ]),
      empty: 'none',
    },
    {
      title: 'Decisions',
      headers: ['when', 'what', 'who', 'why', 'identity recorded by the server', 'by', 'counted'],
      rows: model.decisions.map((decision) => [
        moment(decision.at),
        `${decision.decision} ${decision.gate ?? ''}`.trim(),
        decision.by,
        decision.reason,
        decision.identity ?? 'not recorded',
        decision.via,
        decision.counted === undefined ? 'not told yet' : decision.counted ? 'yes' : `no: ${decision.why ?? ''}`,
      ]),
      empty: 'Nobody has decided anything.',
    },
    {
      title: 'Transfers',
      headers: ['transfer', 'from', 'to', 'state', 'size', 'moved', 'passes', 'digest', 'proof'],
      rows: model.transfers.map((transfer) => [
        transfer.id,
        transfer.source,
        transfer.destination,
        transfer.state,
        transfer.totalBytes === undefined ? '' : formatBytes(transfer.totalBytes),
        formatBytes(transfer.movedBytes),
        describePasses(transfer),
        transfer.digest,
        transfer.proof,
      ]),
      empty: 'No data moved.',
    },
    {
      title: 'Placement',
      headers: ['replica', 'volume', 'before', 'now', 'path', 'pod'],
      rows: model.placement.map(({ component, ordinal, pv, before, after, path, ready }) => [
        `${component}-${ordinal}`,
        pv,
        before,
        after ?? 'not proved yet',
        path,
        ready === undefined ? '' : ready ? 'ready' : 'not ready',
      ]),
      empty: 'No component moves.',
    },
    {
      title: 'Integrity probes',
      headers: ['replica', 'probe', 'before', 'after', 'verdict', 'with applications'],
      rows: model.probes.map(({ component, ordinal, name, before, after, verdict, why, withApplications }) => [
        `${component}-${ordinal}`,
        name,
        before,
        after,
        why === undefined ? verdict : `${verdict}: ${why}`,
        withApplications,
      ]),
      empty: 'No probes were taken.',
    },
    {
      title: 'Retries',
      headers: ['first try', 'what', 'workflow', 'tries', 'what each failed try said'],
      rows: model.retries.map(({ at, summary, activity, workflowId, attempts, tries }) => [
        moment(at),
        `${summary} (${activity})`,
        workflowId,
        String(attempts),
        tries.map(describeTry).join('; '),
      ]),
      empty: 'Everything went well at the first try.',
      note: retriesNote,
    },
    {
      title: 'Failures',
      headers: ['when', 'what', 'workflow', 'kind', 'cause'],
      rows: model.failures.map(({ at, what, workflowId, type, cause }) => [moment(at), what, workflowId, type, cause]),
      empty: 'Nothing failed for good.',
    },
    {
      title: 'Messages to people',
      headers: ['when', 'what', 'reached', 'not reached, and why'],
      rows: model.notifications.map(({ at, event, gate, delivered, failed }) => [
        moment(at),
        `${event} ${gate ?? ''}`.trim(),
        delivered.join(', '),
        failed.map(({ target, why }) => `${target}: ${why}`).join('; '),
      ]),
      empty: 'The plan names nobody to tell.',
    },
    {
      title: 'Backup',
      headers: ['file on the control host', 'digest'],
      rows: model.backup.map(({ name, digest }) => [name, digest]),
      empty: 'No backup was made.',
    },
    {
      title: 'Versions',
      headers: ['what', 'version'],
      rows: model.versions.map(({ name, version }) => [name, version]),
      empty: 'none',
    },
  ];
}

function table(headers: readonly string[], rows: readonly (readonly (string | undefined)[])[]): string {
  const line = (cells: readonly (string | undefined)[]): string =>
    `| ${cells.map((cell) => inline(cell ?? '')).join(' | ')} |`;
  return [line(headers), `|${'---|'.repeat(headers.length)}`, ...rows.map(line)].join('\n');
}

/** Text that stays text in a paragraph or a cell. */
export function inline(text: string): string {
  return text
    .replaceAll(/[\s\p{Cc}]+/gu, ' ')
    .replaceAll(/[\\`*_{}[\]<>|#~&!]/g, (character) => `\\${character}`)
    .trim();
}
