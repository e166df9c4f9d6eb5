/* What was measured, and how people read it. */

export interface Row {
  name: string;
  isOurs: boolean;
  /** One per round. */
  seconds: number[];
  /** Bytes that left the source, one per round; absent where they belong to another row. */
  wire?: number[];
  /** Processor seconds of both machines together, one per round. */
  cpu?: number[];
}

export interface CaseResult {
  id: string;
  title: string;
  /** What is copied, and from what state. */
  what: string;
  /** Size of the tree. */
  bytes: number;
  /** Megabits per second that the link was limited to. */
  megabits?: number;
  rows: Row[];
  /** What ours chose and said about it. */
  explanations: string[];
}

/** Small transfers that begin at once, through one worker. */
export interface CrowdResult {
  count: number;
  /** From the first start to the last end. */
  seconds: number;
  /** Peak of the worker's resident memory. */
  peakBytes: number;
  /** Of one transfer, on average. */
  events: number;
  historyBytes: number;
}

export interface Surroundings {
  command: string;
  date: string;
  rounds: number;
  cpu: string;
  cores: number;
  memoryGiB: number;
  kernel: string;
  versions: string[];
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

/** Markdown of everything that one run measured. */
export function render(
  surroundings: Surroundings,
  cases: readonly CaseResult[],
  crowds: readonly CrowdResult[],
): string {
  const { command, date, rounds, cpu, cores, memoryGiB, kernel, versions } = surroundings;
  const head = [
    `Measured ${date} by \`${command}\`, ${rounds} interleaved rounds: medians, and the fastest and the slowest round.`,
    `Machine: ${cores} cores of ${cpu}, ${memoryGiB} GiB, Linux ${kernel}; source and destination are two machines of the lab on it and share the cores. ${versions.join(', ')}.`,
  ];
  return [...head, ...cases.map(renderCase), ...(crowds.length === 0 ? [] : [renderCrowds(crowds)])].join('\n\n');
}

function renderCrowds(crowds: readonly CrowdResult[]): string {
  const columns = ['transfers', 'seconds', 'seconds each', 'memory of the worker', 'events each', 'history each'];
  const lines = crowds.map(({ count, seconds, peakBytes, events, historyBytes }) => [
    count.toLocaleString('en'),
    digits(seconds),
    digits(seconds / count),
    `${digits(peakBytes / 1024 ** 2)} MiB`,
    digits(events),
    `${digits(historyBytes / 1024)} KiB`,
  ]);
  const table = [columns, columns.map(() => '---:'), ...lines];
  return [
    '### (g) Many small transfers at once',
    'Every one is a workflow of its own with a directory of ten files of 4 KiB: checks, one pass, tidying. All begin at once, through one worker and the sshd of two machines, whose limits of sessions and logins are those of the distribution. Every copy was compared afterwards.',
    table.map((cells) => `| ${cells.join(' | ')} |`).join('\n'),
  ].join('\n\n');
}

function renderCase(result: CaseResult): string {
  const ours = median(result.rows.find((row) => row.isOurs)?.seconds ?? []);
  const columns = [
    '',
    'median',
    'range',
    'MB/s',
    ...(result.megabits === undefined ? [] : ['of the link']),
    'sent',
    'processors',
    '× ours',
  ];
  const lines = result.rows.map((row) => {
    const middle = median(row.seconds);
    const rate = result.bytes / middle / 1e6;
    return [
      row.isOurs ? `**${row.name}**` : row.name,
      `${digits(middle)} s`,
      `${digits(Math.min(...row.seconds))} – ${digits(Math.max(...row.seconds))}`,
      digits(rate),
      ...(result.megabits === undefined ? [] : [digits((rate * 8) / result.megabits)]),
      row.wire === undefined ? '' : `${digits(median(row.wire) / 1e6)} MB`,
      row.cpu === undefined ? '' : `${digits(median(row.cpu))} s`,
      ours > 0 ? digits(middle / ours) : '',
    ];
  });
  const table = [columns, columns.map((_, index) => (index === 0 ? '---' : '---:')), ...lines];
  return [
    `### (${result.id}) ${result.title}`,
    result.what,
    table.map((cells) => `| ${cells.join(' | ')} |`).join('\n'),
    ...(result.explanations.length === 0
      ? []
      : [`What ours said: ${[...new Set(result.explanations)].map((text) => `“${text}”`).join(', ')}.`]),
  ].join('\n\n');
}

/** Two or three digits that mean something. */
function digits(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
