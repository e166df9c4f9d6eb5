import type { Client } from '@temporalio/client';
import type { Payload } from '@temporalio/common';
import { z } from 'zod';
import type { Try } from '../activities/contract.ts';
import { decodePayload, failureMessage } from './payloads.ts';

/* What a report needs of an event of a history: decoded, and without the shapes of the wire. */

export interface EventFailure {
  message: string;
  /** `Transient`, `NeedsHuman`, …; or `timeout` with what ran out. */
  type: string;
  /** What the tries before it said, as the worker handed it on. */
  earlier?: Try[];
}

export type ReportEvent = { at: string } & (
  | { kind: 'started'; workflowType: string; input: unknown[]; identity: string; continuedFrom?: string }
  | { kind: 'activity-scheduled'; id: number; activity: string; input: unknown[]; summary?: string }
  | { kind: 'activity-started'; scheduled: number; attempt: number; identity: string; lastFailure?: EventFailure }
  | { kind: 'activity-completed'; scheduled: number; result: unknown }
  | { kind: 'activity-failed'; scheduled: number; failure: EventFailure }
  | { kind: 'decision'; via: 'signal' | 'update' | 'cancel'; name: string; input: unknown; identity: string }
  | { kind: 'timer-started'; id: number; label: string }
  | { kind: 'timer-canceled'; started: number }
  | { kind: 'child-started'; workflowId: string; runId: string }
  | { kind: 'child-completed'; workflowId: string; result: unknown }
  | { kind: 'child-failed'; workflowId: string; failure: EventFailure }
  | { kind: 'attributes'; attributes: Record<string, unknown> }
  | { kind: 'task-started'; identity: string }
  | { kind: 'task-failed'; failure: EventFailure; identity: string }
  | { kind: 'continued'; runId: string; input: unknown[] }
  | { kind: 'ended'; how: 'completed'; result: unknown }
  | { kind: 'ended'; how: 'failed' | 'timed-out' | 'terminated' | 'canceled'; why: string; identity?: string }
);

/** One run: a workflow that was continued as new has several, oldest first. */
export interface RunHistory {
  workflowId: string;
  runId: string;
  events: ReportEvent[];
}

/** The parts of an event as the server sends it that are read here. */
type History = Awaited<ReturnType<ReturnType<Client['workflow']['getHandle']>['fetchHistory']>>;
export type WireEvent = NonNullable<History['events']>[number];
type WireFailure = NonNullable<NonNullable<WireEvent['activityTaskFailedEventAttributes']>['failure']>;

/** Decodes what matters of one event; undefined for events that say nothing to people. */
export async function decodeEvent(client: Client, event: WireEvent): Promise<ReportEvent | undefined> {
  const at = timeOf(event.eventTime);
  const body = await decodeBody(client, event);
  return body === undefined ? undefined : { at, ...body };
}

type Body = ReportEvent extends infer Each ? (Each extends { at: string } ? Omit<Each, 'at'> : never) : never;

async function decodeBody(client: Client, event: WireEvent): Promise<Body | undefined> {
  return (
    (await decodeStart(client, event)) ??
    (await decodeActivity(client, event)) ??
    (await decodeDecision(client, event)) ??
    (await decodeTimer(client, event)) ??
    (await decodeChild(client, event)) ??
    (await decodeTask(client, event)) ??
    (await decodeEnd(client, event))
  );
}

async function decodeStart(client: Client, event: WireEvent): Promise<Body | undefined> {
  const started = event.workflowExecutionStartedEventAttributes ?? undefined;
  if (started !== undefined) {
    const continuedFrom = started.continuedExecutionRunId ?? '';
    return {
      kind: 'started',
      workflowType: started.workflowType?.name ?? '',
      input: await values(client, started.input?.payloads),
      identity: started.identity ?? '',
      ...(continuedFrom === '' ? {} : { continuedFrom }),
    };
  }
  const upserted = event.upsertWorkflowSearchAttributesEventAttributes ?? undefined;
  if (upserted === undefined) return undefined;
  const fields = Object.entries(upserted.searchAttributes?.indexedFields ?? {});
  const attributes: Record<string, unknown> = {};
  // Search attributes go past the codecs: the server reads them.
  for (const [name, payload] of fields) attributes[name] = plainValue(payload);
  return { kind: 'attributes', attributes };
}

async function decodeActivity(client: Client, event: WireEvent): Promise<Body | undefined> {
  const scheduled = event.activityTaskScheduledEventAttributes ?? undefined;
  if (scheduled !== undefined) {
    const [summary] = await values(client, one(event.userMetadata?.summary));
    return {
      kind: 'activity-scheduled',
      id: Number(event.eventId ?? 0),
      activity: scheduled.activityType?.name ?? '',
      input: await values(client, scheduled.input?.payloads),
      ...(typeof summary === 'string' ? { summary } : {}),
    };
  }
  const started = event.activityTaskStartedEventAttributes ?? undefined;
  if (started !== undefined) {
    return {
      kind: 'activity-started',
      scheduled: Number(started.scheduledEventId ?? 0),
      attempt: started.attempt ?? 1,
      identity: started.identity ?? '',
      ...(started.lastFailure ? { lastFailure: await failureOf(client, started.lastFailure) } : {}),
    };
  }
  const completed = event.activityTaskCompletedEventAttributes ?? undefined;
  if (completed !== undefined) {
    const [result] = await values(client, completed.result?.payloads);
    return { kind: 'activity-completed', scheduled: Number(completed.scheduledEventId ?? 0), result };
  }
  const failed = event.activityTaskFailedEventAttributes ?? event.activityTaskTimedOutEventAttributes ?? undefined;
  if (failed === undefined) return undefined;
  return {
    kind: 'activity-failed',
    scheduled: Number(failed.scheduledEventId ?? 0),
    failure: await failureOf(client, failed.failure),
  };
}

/** What the sender's program said of itself and, where the server authenticates its callers, whom it found behind it. */
function senderOf({ principal }: WireEvent, claimed: string | null | undefined): string {
  const said = claimed ?? '';
  const name = principal?.name ?? '';
  if (name === '') return said;
  const authenticated = `authenticated as ${[principal?.type ?? '', name].filter((part) => part !== '').join(' ')}`;
  return said === '' ? authenticated : `${said} (${authenticated})`;
}

async function decodeDecision(client: Client, event: WireEvent): Promise<Body | undefined> {
  const signal = event.workflowExecutionSignaledEventAttributes ?? undefined;
  if (signal !== undefined) {
    const [input] = await values(client, signal.input?.payloads);
    return {
      kind: 'decision',
      via: 'signal',
      name: signal.signalName ?? '',
      input,
      identity: senderOf(event, signal.identity),
    };
  }
  const update = event.workflowExecutionUpdateAcceptedEventAttributes?.acceptedRequest ?? undefined;
  if (update !== undefined) {
    const [input] = await values(client, update.input?.args?.payloads);
    return {
      kind: 'decision',
      via: 'update',
      name: update.input?.name ?? '',
      input,
      identity: senderOf(event, update.meta?.identity),
    };
  }
  const cancel = event.workflowExecutionCancelRequestedEventAttributes ?? undefined;
  if (cancel === undefined) return undefined;
  const input = { by: 'temporal cancel', reason: cancel.cause ?? '' };
  return { kind: 'decision', via: 'cancel', name: 'abort', input, identity: senderOf(event, cancel.identity) };
}

/** Timers with a label are the bars of the timeline: phases, gates and waiting. */
async function decodeTimer(client: Client, event: WireEvent): Promise<Body | undefined> {
  const canceled = event.timerCanceledEventAttributes ?? undefined;
  if (canceled !== undefined) return { kind: 'timer-canceled', started: Number(canceled.startedEventId ?? 0) };
  if (!event.timerStartedEventAttributes) return undefined;
  const [label] = await values(client, one(event.userMetadata?.summary));
  return typeof label === 'string' ? { kind: 'timer-started', id: Number(event.eventId ?? 0), label } : undefined;
}

async function decodeChild(client: Client, event: WireEvent): Promise<Body | undefined> {
  const started = event.childWorkflowExecutionStartedEventAttributes ?? undefined;
  if (started !== undefined) {
    const { workflowId, runId } = started.workflowExecution ?? {};
    return { kind: 'child-started', workflowId: workflowId ?? '', runId: runId ?? '' };
  }
  const completed = event.childWorkflowExecutionCompletedEventAttributes ?? undefined;
  if (completed !== undefined) {
    const [result] = await values(client, completed.result?.payloads);
    return { kind: 'child-completed', workflowId: completed.workflowExecution?.workflowId ?? '', result };
  }
  const failed = event.childWorkflowExecutionFailedEventAttributes ?? undefined;
  if (failed !== undefined) {
    return {
      kind: 'child-failed',
      workflowId: failed.workflowExecution?.workflowId ?? '',
      failure: await failureOf(client, failed.failure),
    };
  }
  const lost = {
    terminated: event.childWorkflowExecutionTerminatedEventAttributes,
    'timed out': event.childWorkflowExecutionTimedOutEventAttributes,
  };
  for (const [what, attributes] of Object.entries(lost)) {
    if (!attributes) continue;
    const workflowId = attributes.workflowExecution?.workflowId ?? '';
    return { kind: 'child-failed', workflowId, failure: { message: `the copy was ${what}`, type: what } };
  }
  return undefined;
}

async function decodeTask(client: Client, event: WireEvent): Promise<Body | undefined> {
  const started = event.workflowTaskStartedEventAttributes ?? undefined;
  if (started !== undefined) return { kind: 'task-started', identity: started.identity ?? '' };
  const failed = event.workflowTaskFailedEventAttributes ?? undefined;
  if (failed !== undefined) {
    return { kind: 'task-failed', failure: await failureOf(client, failed.failure), identity: failed.identity ?? '' };
  }
  if (!event.workflowTaskTimedOutEventAttributes) return undefined;
  return {
    kind: 'task-failed',
    failure: {
      type: 'timeout',
      message: 'the worker did not finish a step of the workflow in time; another took over',
    },
    identity: '',
  };
}

async function decodeEnd(client: Client, event: WireEvent): Promise<Body | undefined> {
  const completed = event.workflowExecutionCompletedEventAttributes ?? undefined;
  if (completed !== undefined) {
    const [result] = await values(client, completed.result?.payloads);
    return { kind: 'ended', how: 'completed', result };
  }
  const continued = event.workflowExecutionContinuedAsNewEventAttributes ?? undefined;
  if (continued !== undefined) {
    const input = await values(client, continued.input?.payloads);
    return { kind: 'continued', runId: continued.newExecutionRunId ?? '', input };
  }
  const failed = event.workflowExecutionFailedEventAttributes ?? undefined;
  if (failed !== undefined) {
    return { kind: 'ended', how: 'failed', why: (await failureOf(client, failed.failure)).message };
  }
  const terminated = event.workflowExecutionTerminatedEventAttributes ?? undefined;
  if (terminated !== undefined) {
    const why = terminated.reason ?? '';
    return { kind: 'ended', how: 'terminated', why, identity: terminated.identity ?? '' };
  }
  if (event.workflowExecutionTimedOutEventAttributes) {
    return { kind: 'ended', how: 'timed-out', why: 'the time limit of the workflow passed' };
  }
  return event.workflowExecutionCanceledEventAttributes
    ? { kind: 'ended', how: 'canceled', why: 'the workflow was cancelled' }
    : undefined;
}

/** The failure that says most: the innermost that carries a classification, else a timeout, else the innermost. */
async function failureOf(client: Client, failure: WireFailure | null | undefined): Promise<EventFailure> {
  let best: EventFailure = { message: 'no failure was recorded', type: '' };
  for (let current = failure, depth = 0; current && depth < 10; current = current.cause, depth += 1) {
    const message = await failureMessage(client, current);
    const application = current.applicationFailureInfo?.type ?? '';
    if (application !== '') {
      const earlier = await earlierTries(client, current.applicationFailureInfo?.details?.payloads?.[1]);
      return { message, type: application, ...earlier };
    }
    const timeout = current.timeoutFailureInfo ?? undefined;
    if (timeout !== undefined) {
      const earlier = await earlierTries(client, timeout.lastHeartbeatDetails?.payloads?.[0]);
      best = { message, type: 'timeout', ...earlier };
    }
    if (timeout === undefined && best.type !== 'timeout') best = { message, type: '' };
  }
  return best;
}

const triesSchema = z.looseObject({
  earlierTries: z.array(z.object({ from: z.int(), to: z.int(), cause: z.string() })),
});

async function earlierTries(client: Client, payload: Payload | undefined): Promise<{ earlier?: Try[] }> {
  if (payload === undefined) return {};
  const parsed = triesSchema.safeParse(await decodePayload(client, payload));
  return parsed.success ? { earlier: parsed.data.earlierTries } : {};
}

function one(payload: Payload | null | undefined): Payload[] {
  return payload ? [payload] : [];
}

async function values(client: Client, payloads: readonly Payload[] | null | undefined): Promise<unknown[]> {
  return Promise.all((payloads ?? []).map((payload) => decodePayload(client, payload)));
}

function plainValue(payload: { data?: Uint8Array | null }): unknown {
  try {
    return JSON.parse(Buffer.from(payload.data ?? []).toString('utf8')) as unknown;
  } catch {
    return undefined;
  }
}

function timeOf(time: WireEvent['eventTime']): string {
  const seconds = Number(time?.seconds?.toString() ?? 0);
  return new Date(seconds * 1000 + Math.floor((time?.nanos ?? 0) / 1e6)).toISOString();
}
