import { z } from 'zod';
import type { Plan } from '../plan/plan.ts';
import { gateNames } from '../plan/plan.ts';
import type { DecisionRecord, GateStatus } from '../workflows/messages.ts';
import { byTime } from './report-calls.ts';
import type { ReportEvent } from './report-events.ts';
import type { ReportDecision, ReportGate } from './report-model.ts';
import type { AttributeChange, Known } from './report-words.ts';

/* Gates, and what people decided. Pure. */

export function gatesOf(
  status: Known | undefined,
  plan: Plan | undefined,
  changes: readonly AttributeChange[],
  decisions: readonly ReportDecision[],
  isLastWord: boolean,
): ReportGate[] {
  return gateNames.map((name) => {
    const known = status?.gates.find((gate) => gate.name === name);
    // One that still waits in the last word was left by an abort: when, its attributes tell.
    const isSettled = known?.state === 'approved' || known?.state === 'rejected';
    if (known !== undefined && (isSettled || (isLastWord && known.state !== 'awaiting'))) return gateRow(known);
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

const sentSchema = z.looseObject({
  by: z.string().default('(nobody)'),
  reason: z.string().default(''),
  gate: z.string().optional(),
});

/**
 * The workflow's records, each with the identity that the server wrote beside the message. Where they are not its last word, the messages
 * that came since stand beside them.
 */
export function decisionsOf(
  records: readonly DecisionRecord[],
  events: readonly ReportEvent[],
  isLastWord: boolean,
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
  // In its last word the workflow told all that it kept; what is left over are copies of messages it never recorded.
  const rest = isLastWord && records.length > 0 ? [] : open;
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
