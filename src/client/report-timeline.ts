import type { Html } from './html.ts';
import { html } from './html.ts';
import { seconds } from './output.ts';
import type { ReportModel } from './report-model.ts';

/* The ladder of phases as an inline picture. Pure. */

interface Row {
  kind: 'phase' | 'gate';
  name: string;
  state: string;
  start: number;
  end: number;
  isOpen: boolean;
}

const width = 960;
const labels = 170;
const figures = 110;
const rowHeight = 22;
const top = 30;

/** Places of moments on the axis. Intervals grow with the square root of their length: a night's wait must not hide a minute's work. */
export function timeScale(moments: readonly number[], from: number, to: number): (moment: number) => number {
  const sorted = [...new Set(moments)].toSorted((a, b) => a - b);
  const weights = sorted.slice(1).map((moment, index) => 1 + Math.sqrt((moment - (sorted[index] ?? moment)) / 1000));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const places = new Map<number, number>();
  let place = 0;
  sorted.forEach((moment, index) => {
    if (index > 0) place += weights[index - 1] ?? 0;
    places.set(moment, from + (total === 0 ? 0 : (place / total) * (to - from)));
  });
  return (moment) => Math.round((places.get(moment) ?? from) * 10) / 10;
}

export function timelineRows(model: ReportModel): Row[] {
  const now = Date.parse(model.endedAt ?? model.madeAt);
  const phases = model.phases.flatMap((phase): Row[] => {
    if (phase.startedAt === undefined || phase.state === 'skipped' || phase.state === 'pending') return [];
    const start = Date.parse(phase.startedAt);
    const end = phase.endedAt === undefined ? now : Date.parse(phase.endedAt);
    const isOpen = phase.endedAt === undefined;
    return [{ kind: 'phase', name: phase.name, state: phase.state, start, end: Math.max(start, end), isOpen }];
  });
  const gates = model.gates.flatMap((gate): Row[] => {
    if (gate.openedAt === undefined) return [];
    const start = Date.parse(gate.openedAt);
    const end = gate.decidedAt === undefined ? now : Date.parse(gate.decidedAt);
    const isOpen = gate.decidedAt === undefined;
    return [{ kind: 'gate', name: `gate ${gate.name}`, state: gate.state, start, end: Math.max(start, end), isOpen }];
  });
  return [...phases, ...gates].toSorted((a, b) => a.start - b.start || a.end - b.end);
}

/** An SVG without any reference to something outside of it; nothing when nothing began yet. */
export function timeline(model: ReportModel): Html {
  const rows = timelineRows(model);
  if (rows.length === 0) return html`<p>Nothing has begun yet.</p>`;
  const down = downtimeSpan(model);
  const moments = [...rows.flatMap(({ start, end }) => [start, end]), ...(down ?? [])];
  const right = width - figures;
  const at = timeScale(moments, labels, right);
  const bottom = top + rows.length * rowHeight;
  const height = bottom + 26;
  return html`<svg
    viewBox="0 0 ${width} ${height}"
    role="img"
    aria-label="Timeline of the phases and gates"
    xmlns="http://www.w3.org/2000/svg"
  >
    ${down === undefined ? [] : [downtimeArea(at, down, bottom)]} ${ticks(moments, at, bottom)}
    ${rows.map((row, index) => rowPicture(row, at, top + index * rowHeight))}
  </svg>`;
}

function downtimeSpan({ downtime, endedAt, madeAt }: ReportModel): [number, number] | undefined {
  if (downtime.startedAt === undefined) return undefined;
  return [Date.parse(downtime.startedAt), Date.parse(downtime.endedAt ?? endedAt ?? madeAt)];
}

function downtimeArea(at: (moment: number) => number, [start, end]: [number, number], bottom: number): Html {
  const [x, last] = [at(start), at(end)];
  return html`<rect
      class="down"
      x="${x}"
      y="${top - 6}"
      width="${Math.max(1, last - x)}"
      height="${bottom - top + 8}"
    />
    <text class="downLabel" x="${(x + last) / 2}" y="${top - 12}">downtime ${seconds((end - start) / 1000)}</text>`;
}

/** Times under the picture, as many as there is room for. */
function ticks(moments: readonly number[], at: (moment: number) => number, bottom: number): Html[] {
  const shown: Html[] = [];
  let last = -Infinity;
  const sorted = [...new Set(moments)].toSorted((a, b) => a - b);
  // Over several days the hour alone says nothing.
  const isLong = (sorted.at(-1) ?? 0) - (sorted[0] ?? 0) > 86_400_000;
  for (const moment of sorted) {
    const x = at(moment);
    if (x - last < 70) continue;
    last = x;
    const time = new Date(moment).toISOString();
    shown.push(
      html`<line class="tick" x1="${x}" x2="${x}" y1="${top - 6}" y2="${bottom + 4}" />
        <text class="time" x="${x}" y="${bottom + 18}"
          >${isLong ? time.slice(5, 16).replace('T', ' ') : time.slice(11, 19)}</text
        >`,
    );
  }
  return shown;
}

function rowPicture(row: Row, at: (moment: number) => number, y: number): Html {
  const [x, last] = [at(row.start), at(row.end)];
  const middle = y + rowHeight / 2;
  const text = `${seconds((row.end - row.start) / 1000)}${row.isOpen ? ' …' : ''}`;
  const body =
    row.kind === 'phase'
      ? html`<rect
          class="bar ${stateClass(row.state)}"
          x="${x}"
          y="${y + 4}"
          width="${Math.max(2, last - x)}"
          height="${rowHeight - 8}"
          rx="2"
        />`
      : html`<line class="wait" x1="${x}" x2="${last}" y1="${middle}" y2="${middle}" />
          <path class="gate ${stateClass(row.state)}" d="M${last} ${middle - 7} l7 7 l-7 7 l-7 -7 z" />`;
  return html`<g>
    <title>${row.name}: ${row.state}, ${text}</title>
    <text class="label" x="${labels - 10}" y="${middle + 4}">${row.name}</text>
    ${body}
    <text class="figure" x="${last + 12}" y="${middle + 4}">${text}</text>
  </g>`;
}

function stateClass(state: string): string {
  return `s-${state.replaceAll(/[^a-z]+/g, '-')}`;
}
