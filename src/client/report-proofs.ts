import { z } from 'zod';
import type { PlacementRow, Probe } from '../activities/contract.ts';
import type { Plan } from '../plan/plan.ts';
import type { Call } from './report-calls.ts';
import type { ReportModel, ReportNotification, ReportPlacement, ReportProbe } from './report-model.ts';

/* What activities proved or told: placement, probes, backup, messages to people. Pure. */

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
export function placementOf(plan: Plan | undefined, calls: readonly Call[]): ReportPlacement[] {
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
export function probesOf(calls: readonly Call[]): ReportProbe[] {
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

export function notificationsOf(calls: readonly Call[]): ReportNotification[] {
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

export function backupOf(calls: readonly Call[]): ReportModel['backup'] {
  const saved = calls.findLast(({ activity, result }) => activity === 'backupSecrets' && result !== undefined);
  const parsed = backupSchema.safeParse(saved?.result);
  return parsed.success ? parsed.data.files.map(({ name, digest }) => ({ name, digest })) : [];
}
