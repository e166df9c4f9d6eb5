import type { Probe } from '../../activities/contract.ts';
import { counted } from '../../plan/counted.ts';
import type { PhaseName } from '../messages.ts';
import type { Migration, Phase } from '../migration.ts';
import { callActivity } from '../migration.ts';
import { act, needsHuman, step } from '../parking.ts';
import { provePlaces } from '../placement.ts';
import { takenProbes } from '../unproved.ts';

/** Nodes, services, placement, and every component's probes once more with applications running. */
export const verify: Phase = { name: 'verify', section: 17, run: (migration) => checkRunning(migration, 'verify') };

/** With applications running: after they were started, and once more where old nodes leave under them. */
export async function checkRunning(migration: Migration, phase: PhaseName): Promise<string> {
  const { plan } = migration;
  // What was broken before comes back as broken as it was, and nobody should have to heal it before a migration can end.
  const illBefore = (migration.state.applications?.workloads ?? []).filter(({ ready = 'all' }) => ready !== 'all');
  const healthy = await act(migration, phase, 'awaitClusterHealthy', 'nodes, components and applications', {
    nodes: migration.state.nodes,
    namespaces: ['kube-system', plan.platform.resourceNamespace, ...plan.applications.namespaces],
    ...(illBefore.length === 0 ? {} : { illBefore }),
  });
  if (plan.components.length === 0) {
    return healthy.proof;
  }
  const placed = await provePlaces(migration, phase, 'to');
  // Applications write again: values may have moved on, but every probe must answer.
  const probed = await compareProbes(migration, phase, () => true);
  const { stillIll = [] } = healthy;
  return [
    placed,
    probed,
    ...(stillIll.length === 0 ? [] : [`not ready, but nor were they before the migration: ${stillIll.join(', ')}`]),
  ].join('; ');
}

/** Before people accept the result, with applications still down: all as planned and every probe exactly as before the move. */
export async function checkResult(migration: Migration): Promise<string> {
  const { plan } = migration;
  const phase: PhaseName = 'start-apps';
  const healthy = await act(migration, phase, 'awaitClusterHealthy', 'nodes and components before acceptance', {
    nodes: migration.state.nodes,
    namespaces: ['kube-system', plan.platform.resourceNamespace],
  });
  if (plan.components.length === 0) {
    return healthy.proof;
  }
  const placed = await provePlaces(migration, phase, 'to');
  const probed = await compareProbes(migration, phase, (before, after) => before.value === after.value);
  return `${placed}; ${probed}`;
}

async function compareProbes(
  migration: Migration,
  phase: PhaseName,
  agree: (before: Probe, after: Probe) => boolean,
): Promise<string> {
  const { plan } = migration;
  const before = migration.state.probes ?? [];
  return step(migration, phase, async () => {
    const taken = await callActivity(migration, 'takeProbes', 'probes on the new nodes', {
      components: plan.components,
      side: 'to',
      hosts: plan.hosts,
    });
    const after = takenProbes(taken);
    const differences = differingProbes(before, after, agree);
    if (differences.length > 0) {
      throw needsHuman({
        cause: `the components do not hold what they held before: ${differences.join('; ')}`,
        untouched: 'the data on the old hosts was never written',
        next: 'compare the component on its new host with the old one; resume takes the probes anew',
      });
    }
    const moved = after.length - unchanged(before, after);
    const unproved = migration.state.unproved?.length ?? 0;
    return [
      `${counted(after.length, 'probe')} answered${moved === 0 ? ', all as before' : `, ${moved} moved on since`}`,
      ...(unproved === 0 ? [] : [`${unproved} could not be taken before the move, and prove nothing`]),
    ].join('; ');
  });
}

function unchanged(before: readonly Probe[], after: readonly Probe[]): number {
  return after.filter((probe) => before.some((old) => keyOf(old) === keyOf(probe) && old.value === probe.value)).length;
}

/** Probes of before that are missing now or do not agree, as text. */
export function differingProbes(
  before: readonly Probe[],
  after: readonly Probe[],
  agree: (before: Probe, after: Probe) => boolean,
): string[] {
  return before.flatMap((old) => {
    const found = after.find((probe) => keyOf(probe) === keyOf(old));
    if (found === undefined) {
      return [`${keyOf(old)} does not answer`];
    }
    return agree(old, found) ? [] : [`${keyOf(old)} was ${old.value} and is ${found.value}`];
  });
}

function keyOf(probe: Probe): string {
  return `${probe.component}-${probe.ordinal} ${probe.name}`;
}
