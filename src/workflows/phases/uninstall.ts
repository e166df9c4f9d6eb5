import type { PlanReference, VolumeRecord } from '../../activities/contract.ts';
import { counted } from '../../plan/counted.ts';
import type { ComponentKind, PlannedComponent } from '../../plan/plan.ts';
import { condition } from '@temporalio/workflow';
import { apply, planReference } from '../apply-config.ts';
import { findLost, letLostGo } from '../lost.ts';
import type { PhaseName } from '../messages.ts';
import type { Migration, Phase } from '../migration.ts';
import { controlOf } from '../masters.ts';
import { callActivity, publish } from '../migration.ts';
import { act, needsHuman, step } from '../parking.ts';
import { uninstallsAtOnce } from '../policies.ts';
import { allOrFirstFailure, createSlots } from '../slots.ts';
import { rewriteHosts } from './edit-secrets.ts';
import { provePlaces } from '../placement.ts';
import { retire } from '../retirement.ts';

/** Components that must be gone before the one they use is, or they cannot shut down in order. */
const usedBy: Partial<Record<ComponentKind, readonly ComponentKind[]>> = {
  zookeeper: ['kafka'],
  etcd: ['policy-engine'],
};

/** Components leave the old nodes; PVCs and PVs go by the names of a snapshot, the data stays where it is. */
export const uninstall: Phase = {
  name: 'uninstall',
  section: 11,
  run: removeComponents,
  undo: bringBack,
  skip: (plan) => (plan.components.length > 0 ? undefined : 'the plan moves no component'),
};

async function removeComponents(migration: Migration): Promise<string> {
  const { components } = migration.plan;
  migration.state.volumes ??= await act(migration, 'uninstall', 'recordVolumes', 'names of volumes and claims', {
    components,
  });
  const slots = createSlots(uninstallsAtOnce);
  await allOrFirstFailure(
    components.map(async (component) => {
      await condition(() => usersGone(migration, component.kind));
      await slots.run(() => removeComponent(migration, component));
    }),
  );
  return `${counted(components.length, 'component')} gone with their pods, claims and volumes`;
}

function usersGone(migration: Migration, kind: ComponentKind): boolean {
  const planned = migration.plan.components.map((component) => component.kind);
  return (usedBy[kind] ?? []).every((user) => !planned.includes(user) || migration.state.uninstalled.includes(user));
}

async function removeComponent(migration: Migration, component: PlannedComponent): Promise<void> {
  await step(migration, 'uninstall', () => {
    const volumes = volumesOf(migration.state.volumes ?? [], component.kind);
    // Only here: one that an abort finds waiting for its turn was not touched, and the way back must not touch it.
    const { uninstallBegun } = migration.state;
    if (!uninstallBegun.includes(component.kind)) migration.state.uninstallBegun = [...uninstallBegun, component.kind];
    return callActivity(migration, 'uninstallComponent', `uninstall ${component.kind}`, {
      migration: migration.plan.cluster,
      component,
      control: controlOf(migration),
      volumes,
    });
  });
  migration.state.uninstalled = [
    ...migration.state.uninstalled.filter((kind) => kind !== component.kind),
    component.kind,
  ];
  publish(migration);
}

/** In an order in which each can shut down, where they leave one after the other. */
export function usersFirst(components: readonly PlannedComponent[]): PlannedComponent[] {
  const isUsed = (component: PlannedComponent): boolean => usedBy[component.kind] !== undefined;
  return [...components.filter((component) => !isUsed(component)), ...components.filter(isUsed)];
}

/** The record of one component; a missing one is never read as "nothing to delete". */
export function volumesOf(records: readonly VolumeRecord[], kind: ComponentKind): VolumeRecord {
  const record = records.find((candidate) => candidate.component === kind);
  if (record === undefined) {
    throw needsHuman({
      cause: `no volumes were recorded for ${kind}`,
      untouched: `${kind} was not touched`,
      next: 'look at what recordVolumes answered, then resume or abort',
    });
  }
  return record;
}

async function bringBack(migration: Migration): Promise<string> {
  const phase: PhaseName = 'uninstall';
  if (migration.state.uninstallBegun.length === 0) {
    return 'nothing had been uninstalled';
  }
  // A component that is half gone cannot be installed over: what was begun is finished first.
  for (const component of usersFirst(migration.plan.components)) {
    const { uninstallBegun, uninstalled } = migration.state;
    if (uninstallBegun.includes(component.kind) && !uninstalled.includes(component.kind)) {
      await removeComponent(migration, component);
    }
  }
  await rewriteHosts(migration, phase, 'back');
  await apply(migration, phase, 'reinstall-back', {
    about: () => withoutLost(migration),
    // The tool fails at a new machine that was lost only now as well, and at one that is back and a node again.
    beforeAnother: async () => {
      await findLost(migration);
      await letLostGo(migration);
      await retire(migration, phase, migration.state.lost ?? []);
    },
  });
  return provePlaces(migration, phase, 'from');
}

/** Lost machines are taken off the list of nodes by the same apply: their Nodes are gone, and the tool asks every node it lists. */
function withoutLost({ plan, state }: Migration): PlanReference {
  const { lost = [] } = state;
  return { ...planReference(plan), ...(lost.length > 0 && { lost }) };
}
