/** Unified diff of two texts by lines; empty when they are equal. Pure; Myers' shortest edit. */
export function unifiedDiff(before: string, after: string, name: string, context = 3): string {
  if (before === after) return '';
  const edits = lineEdits(splitLines(before), splitLines(after));
  const hunks = groupHunks(edits, context);
  const body = hunks.map((hunk) => formatHunk(edits, hunk));
  return `--- ${name} (before)\n+++ ${name} (after)\n${body.join('')}`;
}

interface Edit {
  kind: ' ' | '-' | '+';
  line: string;
}

function splitLines(text: string): string[] {
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines;
}

function lineEdits(before: readonly string[], after: readonly string[]): Edit[] {
  const traces: Map<number, number>[] = [];
  let furthest = new Map<number, number>([[1, 0]]);
  const limit = before.length + after.length;
  search: for (let distance = 0; distance <= limit; distance += 1) {
    traces.push(new Map(furthest));
    const next = new Map(furthest);
    for (let diagonal = -distance; diagonal <= distance; diagonal += 2) {
      const down = next.get(diagonal + 1) ?? -1;
      const right = next.get(diagonal - 1) ?? -1;
      let x = diagonal === -distance || (diagonal !== distance && right < down) ? down : right + 1;
      let y = x - diagonal;
      while (x < before.length && y < after.length && before[x] === after[y]) {
        x += 1;
        y += 1;
      }
      next.set(diagonal, x);
      if (x >= before.length && y >= after.length) break search;
    }
    furthest = next;
  }
  return backtrack(traces, before, after);
}

function backtrack(
  traces: readonly Map<number, number>[],
  before: readonly string[],
  after: readonly string[],
): Edit[] {
  const edits: Edit[] = [];
  let x = before.length;
  let y = after.length;
  for (let distance = traces.length - 1; distance >= 0; distance -= 1) {
    const furthest = traces[distance] ?? new Map<number, number>();
    const diagonal = x - y;
    const down = furthest.get(diagonal + 1) ?? -1;
    const right = furthest.get(diagonal - 1) ?? -1;
    const fromDown = diagonal === -distance || (diagonal !== distance && right < down);
    const previousX = distance === 0 ? 0 : fromDown ? down : right;
    const previousY = distance === 0 ? 0 : previousX - (fromDown ? diagonal + 1 : diagonal - 1);
    while (x > previousX && y > previousY) {
      edits.push({ kind: ' ', line: before[x - 1] ?? '' });
      x -= 1;
      y -= 1;
    }
    if (distance === 0) break;
    if (fromDown) edits.push({ kind: '+', line: after[y - 1] ?? '' });
    else edits.push({ kind: '-', line: before[x - 1] ?? '' });
    x = previousX;
    y = previousY;
  }
  return edits.reverse();
}

function groupHunks(edits: readonly Edit[], context: number): [number, number][] {
  const hunks: [number, number][] = [];
  edits.forEach((edit, index) => {
    if (edit.kind === ' ') return;
    const start = Math.max(0, index - context);
    const end = Math.min(edits.length, index + context + 1);
    const last = hunks.at(-1);
    if (last !== undefined && start <= last[1]) last[1] = end;
    else hunks.push([start, end]);
  });
  return hunks;
}

function formatHunk(edits: readonly Edit[], [start, end]: [number, number]): string {
  const linesOf = (part: readonly Edit[], skipped: Edit['kind']): number =>
    part.filter((edit) => edit.kind !== skipped).length;
  const lead = edits.slice(0, start);
  const body = edits.slice(start, end);
  const range = (skipped: Edit['kind']): string => {
    const count = linesOf(body, skipped);
    const first = linesOf(lead, skipped) + (count === 0 ? 0 : 1);
    return `${first},${count}`;
  };
  const lines = body.map((edit) => `${edit.kind}${edit.line}\n`).join('');
  return `@@ -${range('+')} +${range('-')} @@\n${lines}`;
}
