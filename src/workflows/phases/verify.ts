import type { Probe } from '../../activities/contract.ts';
import { counted } from '../../plan/counted.ts';
import type { PhaseName } from '../messages.ts';
import type { Migration, Phase } from '../migration.ts';
import { callActivity } from '../migration.ts';
import { act, needsHuman, step } from '../parking.ts';
import type { Checked } from '../passing.ts';
import { provePlaces } from '../placement.ts';
import { bounded, takenProbes } from '../unproved.ts';

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
  // Applications write again: values may have moved on, but every probe must answer, except one whose silence was accepted.
  const { unproved: accepted = [] } = migration.state.gates['close-downtime'];
  const probed = await compareProbes(
    migration,
    phase,
    () => true,
    (difference) => accepted.includes(difference),
  );
  const { stillIll = [] } = healthy;
  return [
    placed,
    probed.proof,
    ...(stillIll.length === 0 ? [] : [`not ready, but nor were they before the migration: ${stillIll.join(', ')}`]),
  ].join('; ');
}

/**
 * Before people give up the way back or accept the result, with applications still down: all as planned and every probe exactly as before the
 * move. What differs blocks while there is a way back; afterwards nothing but a person who accepts it can lead on.
 */
export async function checkResult(migration: Migration, phase: PhaseName): Promise<Checked> {
  const { plan } = migration;
  const healthy = await act(migration, phase, 'awaitClusterHealthy', 'nodes and components before acceptance', {
    nodes: migration.state.nodes,
    namespaces: ['kube-system', plan.platform.resourceNamespace],
  });
  if (plan.components.length === 0) {
    return { proof: healthy.proof, differences: [] };
  }
  const placed = await provePlaces(migration, phase, 'to');
  const { proof, differences } = await compareProbes(
    migration,
    phase,
    (before, after) => before.value === after.value,
    () => migration.state.pointOfNoReturn,
  );
  return { proof: `${placed}; ${proof}`, differences };
}

/** Blocks while there are differences that may not be. */
async function compareProbes(
  migration: Migration,
  phase: PhaseName,
  agree: (before: Probe, after: Probe) => boolean,
  mayBe: (difference: string) => boolean,
): Promise<Checked> {
  const { plan } = migration;
  const before = migration.state.probes ?? [];
  return step(migration, phase, async () => {
    const taken = await callActivity(migration, 'takeProbes', 'probes on the new nodes', {
      components: plan.components,
      side: 'to',
      hosts: plan.hosts,
    });
    const after = takenProbes(taken);
    const found = differingProbes(before, after, agree);
    const refused = found.filter((difference) => !mayBe(difference));
    if (refused.length > 0) {
      throw needsHuman({
        cause: `the components do not hold what they held before: ${refused.join('; ')}`,
        untouched: 'the data on the old hosts was never written',
        next: 'compare the component on its new host with the old one; resume takes the probes anew',
      });
    }
    const differences = bounded(found);
    const moved = after.length - unchanged(before, after);
    const unproved = migration.state.unproved?.length ?? 0;
    const proof = [
      `${counted(after.length, 'probe')} answered${moved === 0 ? ', all as before' : `, ${moved} moved on since`}`,
      ...differences,
      ...(unproved === 0 ? [] : [`${unproved} could not be taken before the move, and prove nothing`]),
    ].join('; ');
    return { proof, differences };
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
