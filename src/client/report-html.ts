import { formatBytes } from '../plan/amounts.ts';
import type { Html } from './html.ts';
import { html } from './html.ts';
import { seconds } from './output.ts';
import type { ReportModel } from './report-model.ts';
import { describeTry, gateWait, phaseSeconds, retriesNote } from './report-model.ts';
import {
  describeEarlier,
  describeOutcome,
  describePasses,
  downtimeText,
  moment,
  verdictOnDowntime,
} from './report-text.ts';
import { timeline } from './report-timeline.ts';

const style = `
:root { --ink: #1b2530; --soft: #5b6875; --line: #d6dde4; --good: #1d7a46; --bad: #b3261e; --warn: #9a6200; --bar: #3b6ea5; --paper: #fff; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem; max-width: 62rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid var(--line); }
p { margin: .3rem 0; } .soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1.2rem 0; }
.figures div { border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; } .figures b { display: block; font-size: 1.3rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; } th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; } .long { overflow-wrap: anywhere; } td.short { white-space: nowrap; }
code.name { white-space: nowrap; } code { font: .82rem ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--ink); }
svg .label { text-anchor: end; } svg .time { text-anchor: middle; fill: var(--soft); font-size: 9.5px; } svg .figure { fill: var(--soft); }
svg .tick { stroke: var(--line); } svg .down { fill: #b3261e; opacity: .09; } svg .downLabel { text-anchor: middle; fill: var(--bad); font-weight: 600; }
svg .bar { fill: var(--bar); } svg .bar.s-undone { fill: var(--warn); } svg .bar.s-blocked, svg .bar.s-broken-off { fill: var(--bad); } svg .bar.s-running { opacity: .6; }
svg .wait { stroke: var(--warn); stroke-width: 2; stroke-dasharray: 4 3; } svg .gate { fill: var(--warn); } svg .gate.s-approved { fill: var(--good); } svg .gate.s-rejected { fill: var(--bad); }
footer { margin-top: 2.5rem; color: var(--soft); font-size: .82rem; }
@media print {
  @page { margin: 14mm; @bottom-right { content: counter(page) " / " counter(pages); font: 8pt system-ui, sans-serif; color: #5b6875; } }
  body { padding: 0; max-width: none; font-size: 10.5pt; } h2 { break-after: avoid; } tr, svg, .figures div { break-inside: avoid; }
  .wide { overflow: visible; } .few { break-inside: avoid; } .figures { grid-template-columns: repeat(4, 1fr); } table { font-size: .78rem; } code { font-size: .74rem; }
  thead { display: table-header-group; } * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}`;

/** The report as one page that needs nothing else, on a screen or on paper. */
export function reportHtml(model: ReportModel): string {
  const outcome = describeOutcome(model);
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'" />
        <title>${model.cluster}: ${outcome.text}</title>
        <style>
          ${{ markup: style }}
        </style>
      </head>
      <body>
        <h1>${model.cluster}: <span class="${outcome.tone}">${outcome.text}</span></h1>
        <p>${model.mapping.map(({ from, to }) => `${from} → ${to}`).join(', ')}</p>
        <p class="soft">
          ${moment(model.startedAt)} to ${model.endedAt === undefined ? 'now' : moment(model.endedAt)} · workflow
          <code>${model.workflowId}</code> · plan <code>${model.planDigest}</code> by ${model.author}
        </p>
        ${describeEarlier(model).map((text) => html`<p class="soft">Earlier try: ${text}</p>`)} ${figures(model)}
        <h2>Timeline</h2>
        <div class="wide">${timeline(model)}</div>
        <p class="soft">
          Widths grow with the square root of time, so that waiting does not hide work; all times are UTC.
        </p>
        ${gapList(model)} ${phaseSection(model)} ${decisionSection(model)} ${transferSection(model)}
        ${placementSection(model)} ${probeSection(model)} ${retrySection(model)} ${failureSection(model)}
        ${noticeSection(model)} ${backupSection(model)} ${versionSection(model)}
        <footer>
          Made ${moment(model.madeAt)} by ${model.madeBy} from the history of the workflow alone
          (${model.runs.map(({ runId, events }) => `run ${runId}, ${events} events read`).join('; ')}).
        </footer>
      </body>
    </html>`;
  return `${page.markup}\n`;
}

function figures(model: ReportModel): Html {
  const { downtime, transfers } = model;
  const verdict = verdictOnDowntime(model);
  const moved = transfers.reduce((sum, { movedBytes }) => sum + movedBytes, 0);
  const size = transfers.reduce((sum, { totalBytes }) => sum + (totalBytes ?? 0), 0);
  const verified = transfers.filter(({ digest }) => digest !== undefined).length;
  const figure = (name: string, value: string, more: string, tone = ''): Html =>
    html`<div>${name}<b class="${tone}">${value}</b><span class="soft">${more}</span></div>`;
  const projected = downtime.projectedSeconds;
  return html`<div class="figures">
    ${figure('Downtime', downtimeText(model), verdict.text, verdict.tone)}
    ${figure('Projected', projected === undefined ? '?' : seconds(projected), downtime.projectedFrom === 'approval' ? 'when the window was opened' : 'by the plan')}
    ${figure('Budget', downtime.budgetSeconds === undefined ? '?' : seconds(downtime.budgetSeconds), 'by the plan')}
    ${figure('Data', formatBytes(size), `${formatBytes(moved)} moved, ${verified} of ${transfers.length} directories proved`)}
  </div>`;
}

/** So many rows are not torn apart by the end of a page. */
const few = 5;

function section(title: string, headers: readonly string[], rows: readonly Html[], empty: string): Html {
  if (rows.length === 0)
    return html`<h2>${title}</h2>
      <p class="soft">${empty}</p>`;
  return html`<h2>${title}</h2>
    <div class="wide${rows.length > few ? '' : ' few'}">
      <table>
        <thead>
          <tr>
            ${headers.map((name) => html`<th scope="col">${name}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${rows}
        </tbody>
      </table>
    </div>`;
}

function row(...cells: (string | number | undefined | Html)[]): Html {
  return html`<tr>
    ${cells.map((cell) => html`<td class="${widthOf(cell)}">${cell}</td>`)}
  </tr>`;
}

/** Names, times and sizes stay in one line; a word that is longer than a column may be broken: paths, names of the platform, causes. */
function widthOf(cell: string | number | undefined | Html): string {
  if (typeof cell === 'number') return 'short';
  if (typeof cell !== 'string') return '';
  if (isLong(cell)) return 'long';
  return cell.length < 25 ? 'short' : '';
}

function isLong(cell: string): boolean {
  return /\S{25}/.test(cell);
}

function code(text: string | undefined): Html {
  return text === undefined ? html`` : html`<code class="${text.length < 20 ? 'name' : ''}">${text}</code>`;
}

function time(at: string | undefined): string {
  return at === undefined ? '' : moment(at);
}

function span(count: number | undefined): string {
  return count === undefined ? '' : seconds(count);
}

function gapList({ gaps }: ReportModel): Html {
  return gaps.length === 0
    ? html``
    : html`<h2>What is not in this report</h2>
        <ul>
          ${gaps.map((gap) => html`<li>${gap}</li>`)}
        </ul>`;
}

function phaseSection(model: ReportModel): Html {
  const rows = model.phases.map((phase) =>
    row(
      phase.section === undefined ? '' : `§${phase.section}`,
      phase.name,
      phase.state,
      time(phase.startedAt),
      span(phaseSeconds(phase)),
      phase.detail,
    ),
  );
  const gates = model.gates.map((gate) =>
    row(
      gate.name,
      gate.state,
      time(gate.openedAt),
      time(gate.decidedAt),
      span(gateWait(gate)),
      gate.unproved?.join('; '),
    ),
  );
  return html`${section('Phases', ['§', 'phase', 'state', 'began', 'took', 'what was proved'], rows, 'none')}
  ${section('Gates', ['gate', 'state', 'opened', 'decided', 'waited', 'not proved, and accepted'], gates, 'none')}`;
}

function decisionSection(model: ReportModel): Html {
  const rows = model.decisions.map((decision) => {
    const tone = decision.counted === false ? 'warn' : '';
    const counted =
      decision.counted === undefined ? 'not told yet' : decision.counted ? 'yes' : `no: ${decision.why ?? ''}`;
    return row(
      moment(decision.at),
      `${decision.decision}${decision.gate === undefined ? '' : ` ${decision.gate}`}`,
      decision.by,
      decision.reason,
      html`${code(decision.identity ?? 'not recorded')} <span class="soft">(${decision.via})</span>`,
      html`<span class="${tone}">${counted}</span>`,
    );
  });
  return section(
    'Decisions',
    ['when', 'what', 'who', 'why', 'identity recorded by the server', 'counted'],
    rows,
    'Nobody has decided anything.',
  );
}

function transferSection(model: ReportModel): Html {
  const rows = model.transfers.map((transfer) =>
    row(
      transfer.id,
      html`<span class="long">${transfer.source} → ${transfer.destination}</span>`,
      transfer.state,
      transfer.totalBytes === undefined ? '' : formatBytes(transfer.totalBytes),
      formatBytes(transfer.movedBytes),
      describePasses(transfer),
      html`${code(transfer.digest)} <span class="soft">${transfer.proof}</span>`,
    ),
  );
  return section(
    'Transfers',
    ['transfer', 'way', 'state', 'size', 'moved', 'passes', 'verified'],
    rows,
    'No data moved.',
  );
}

function placementSection(model: ReportModel): Html {
  const rows = model.placement.map(({ component, ordinal, pv, before, after, path, ready }) =>
    row(
      `${component}-${ordinal}`,
      pv,
      before,
      after ?? 'not proved yet',
      code(path),
      ready === undefined ? '' : ready ? 'ready' : 'not ready',
    ),
  );
  return section('Placement', ['replica', 'volume', 'before', 'now', 'path', 'pod'], rows, 'No component moves.');
}

function probeSection(model: ReportModel): Html {
  const rows = model.probes.map(({ component, ordinal, name, before, after, verdict, why, withApplications }) =>
    row(
      `${component}-${ordinal}`,
      name,
      code(before),
      code(after),
      html`<span class="${verdict === 'same' ? 'good' : verdict === 'not compared yet' ? '' : 'bad'}"
        >${why === undefined ? verdict : `${verdict}: ${why}`}</span
      >`,
      code(withApplications),
    ),
  );
  return section(
    'Integrity probes',
    ['replica', 'probe', 'before', 'after', 'verdict', 'with applications'],
    rows,
    'No probes were taken.',
  );
}

function retrySection(model: ReportModel): Html {
  const rows = model.retries.map(({ at, summary, activity, workflowId, attempts, tries }) =>
    row(
      moment(at),
      html`${summary} ${code(activity)}`,
      code(workflowId),
      attempts,
      html`${tries.map((each) => html`<div class="long">${describeTry(each)}</div>`)}`,
    ),
  );
  const headers = ['first try', 'what', 'workflow', 'tries', 'what each failed try said'];
  const table = section('Retries', headers, rows, 'Everything went well at the first try.');
  return rows.length === 0
    ? table
    : html`${table}
        <p class="soft">${retriesNote}</p>`;
}

function failureSection(model: ReportModel): Html {
  const rows = model.failures.map(({ at, what, workflowId, type, cause }) =>
    row(moment(at), what, code(workflowId), type, cause),
  );
  return section('Failures', ['when', 'what', 'workflow', 'kind', 'cause'], rows, 'Nothing failed for good.');
}

function noticeSection(model: ReportModel): Html {
  const rows = model.notifications.map(({ at, event, gate, delivered, failed }) =>
    row(
      moment(at),
      `${event} ${gate ?? ''}`.trim(),
      delivered.join(', '),
      html`<span class="warn long">${failed.map(({ target, why }) => `${target}: ${why}`).join('; ')}</span>`,
    ),
  );
  const headers = ['when', 'what', 'reached', 'not reached, and why'];
  return section('Messages to people', headers, rows, 'The plan names nobody to tell.');
}

function backupSection(model: ReportModel): Html {
  const rows = model.backup.map(({ name, digest }) => row(name, code(digest)));
  return section('Backup', ['file on the control host', 'digest'], rows, 'No backup was made.');
}

function versionSection(model: ReportModel): Html {
  const rows = model.versions.map(({ name, version }) => row(name, code(version)));
  return section('Versions', ['what', 'version'], rows, 'none');
}
