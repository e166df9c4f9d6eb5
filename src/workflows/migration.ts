import type { CancellationScope, ChildWorkflowHandle, Workflow } from '@temporalio/workflow';
import {
  log,
  proxyActivities,
  setCurrentDetails,
  startChild,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { MigrationActivities } from '../activities/contract.ts';
import type { GateName, Host, Plan } from '../plan/plan.ts';
import type { PhaseName } from './messages.ts';
import { searchAttributes } from './messages.ts';
import type { ActivityName } from './policies.ts';
import { activityOptions } from './policies.ts';
import type { MigrationState } from './state.ts';
import { awaitingGate, describe, viewStatus } from './status.ts';
import { currentPhase } from './gates.ts';
import type { tellPeople } from './tell-people.ts';

/** A migration at work: what was planned, what is known, and what runs. */
export interface Migration {
  readonly plan: Plan;
  /** One object for good, see `adopt`. */
  readonly state: MigrationState;
  /** Around everything: cancelling the workflow itself is a request to us, not an end. */
  readonly shield: CancellationScope;
  /** Holds all forward work; cancelled by an abort. Undo runs outside of it. */
  readonly forward: CancellationScope;
  /** Holds messages to people that are under way; cancelled at the end, when what they say is over. */
  readonly messages: CancellationScope;
  /** Copies that run now, by transfer id. */
  readonly copies: Map<string, ChildWorkflowHandle<Workflow>>;
  /** Work that nobody waits for, e.g. notifications in flight. */
  background: number;
  /** Search attributes as last written, so that only changes become history. */
  published: string;
}

/** One section of the runbook. `run` and `undo` observe before they act and answer what they proved, in one line. */
export interface Phase {
  name: PhaseName;
  section: number;
  run: (migration: Migration) => Promise<string>;
  /** Registered before `run` acts; runs when the migration is rolled back. */
  undo?: (migration: Migration) => Promise<string>;
  /** Why this plan has nothing to do here; absent or undefined: it has. */
  skip?: (plan: Plan) => string | undefined;
}

export type Input<Name extends ActivityName> = Parameters<MigrationActivities[Name]>;
export type Output<Name extends ActivityName> = Awaited<ReturnType<MigrationActivities[Name]>>;

/** One activity under its row of the policy table, labelled on the timeline. Failures are thrown as they come. */
export async function callActivity<Name extends ActivityName>(
  migration: Migration,
  name: Name,
  summary: string,
  ...input: Input<Name>
): Promise<Output<Name>> {
  const proxy = proxyActivities<MigrationActivities>(activityOptions(name, migration.plan, summary));
  const activity = proxy[name] as unknown as (...args: Input<Name>) => Promise<Output<Name>>;
  return activity(...input);
}

/** Time of the workflow, the same on every replay. */
export function now(): string {
  return new Date().toISOString();
}

/** Makes the state visible: current details, and search attributes where they changed. */
export function publish(migration: Migration): void {
  const { plan, state } = migration;
  setCurrentDetails(describe(plan, viewStatus(plan, state, Date.now()), workflowInfo().workflowId));
  const phase = state.outcome ?? currentPhase(state);
  const gate = awaitingGate(state) ?? null;
  const downtimeStart = state.downtime[0]?.startedAt;
  const published = JSON.stringify([phase, gate, downtimeStart]);
  if (published === migration.published) {
    return;
  }
  migration.published = published;
  upsertSearchAttributes([
    { key: searchAttributes.cluster, value: plan.cluster },
    { key: searchAttributes.phase, value: phase },
    { key: searchAttributes.awaitingGate, value: gate },
    ...(downtimeStart === undefined ? [] : [{ key: searchAttributes.downtimeStart, value: new Date(downtimeStart) }]),
  ]);
}

/** Starts work that nobody waits for. It outlives an abort; its failures are nobody's. */
export function inBackground(migration: Migration, work: () => Promise<unknown>): void {
  migration.background += 1;
  void migration.shield
    .run(work)
    .catch(() => undefined)
    .finally(() => {
      migration.background -= 1;
    });
}

type Message = Input<'notify'>[0];
type Event = Message['event'];

/** Tells the targets of the plan; never blocks and never fails the migration. */
export function notify(
  migration: Migration,
  event: Event,
  text: string,
  about: { gate?: GateName; command?: string } = {},
): void {
  const message = messageOf(migration, event, text, about);
  if (message.targets.length > 0) {
    inBackground(migration, () => migration.messages.run(() => tell(migration, message)));
  }
}

/**
 * The last message of a migration, which nothing may keep from ending: what half a minute does not deliver, a workflow of its own goes on
 * trying. Messages that are still under way are given up.
 */
export async function notifyLast(migration: Migration, event: Event, text: string): Promise<void> {
  migration.messages.cancel();
  const message = messageOf(migration, event, text);
  if (message.targets.length === 0) {
    return;
  }
  try {
    const { failed } = await tell(migration, { ...message, brief: true });
    if (failed.length > 0) {
      const late: Message = { ...message, targets: failed.map(({ target }) => target) };
      await startChild<typeof tellPeople>('tellPeople', {
        workflowId: `${message.workflowId}/last-message`,
        args: [late],
        parentClosePolicy: 'ABANDON',
        staticSummary: `goes on telling ${late.targets.join(', ')}: ${event}`,
      });
    }
  } catch (error) {
    // Whom it did not reach stands in the report; the migration has ended all the same.
    log.warn('the last message did not go out', { error });
  }
}

function messageOf(
  { plan }: Migration,
  event: Event,
  text: string,
  about: { gate?: GateName; command?: string } = {},
): Message {
  const { workflowId } = workflowInfo();
  return { targets: plan.notify, event, cluster: plan.cluster, workflowId, text, ...about };
}

function tell(migration: Migration, message: Message): Promise<Output<'notify'>> {
  return callActivity(migration, 'notify', `tell ${message.targets.join(', ')}: ${message.event}`, message);
}

/**
 * Takes on what a decision made of the state. The object stays the same: `state.x = await step()` looks its object up before it waits, and
 * would write into one that a signal has replaced meanwhile.
 */
export function adopt(migration: Migration, next: MigrationState): void {
  Object.assign(migration.state, next);
}

/** A host of the plan by name. */
export function hostNamed(plan: Plan, name: string): Host {
  const host = plan.hosts.find((candidate) => candidate.name === name);
  if (host === undefined) {
    throw new TypeError(`host ${name} is not in the plan`);
  }
  return host;
}
