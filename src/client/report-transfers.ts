import { z } from 'zod';
import type { Plan } from '../plan/plan.ts';
import type { PassSummary, TransferStatus } from '../workflows/messages.ts';
import type { TransferOutcome } from '../workflows/replicate-messages.ts';
import type { Call } from './report-calls.ts';
import type { ReportEvent } from './report-events.ts';
import type { ReportTransfer } from './report-model.ts';
import type { Known } from './report-words.ts';

/* Copies and their passes, from wherever a history tells of them. Pure. */

const outcomeSchema = z.looseObject({ passes: z.array(z.looseObject({ pass: z.number() })) });
const reportSchema = z.looseObject({ startedAt: z.string(), seconds: z.number(), literalBytes: z.number() });
const passInputSchema = z.looseObject({ pass: z.number(), mode: z.enum(['live', 'final']) });

export type CopyOutcome = { at: string; workflowId: string } & TransferOutcome;

/** Results of copies, in order. */
export function outcomesOf(events: readonly ReportEvent[]): CopyOutcome[] {
  return events.flatMap((event) => {
    const parsed = event.kind === 'child-completed' ? outcomeSchema.safeParse(event.result) : undefined;
    return event.kind === 'child-completed' && parsed?.success === true
      ? [{ at: event.at, workflowId: event.workflowId, ...(parsed.data as unknown as TransferOutcome) }]
      : [];
  });
}

export function transfersOf(
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
