import { condition } from '@temporalio/workflow';
import type { Plan } from '../../plan/plan.ts';
import type { PhaseName } from '../messages.ts';
import { letLostGo } from '../lost.ts';
import { balance, handOverLead, mastersAway, proveMembers } from '../masters.ts';
import type { Migration, Phase } from '../migration.ts';
import { hostNamed, publish } from '../migration.ts';
import { act } from '../parking.ts';
import { forEachBounded } from '../slots.ts';

function skipWithoutHosts(plan: Plan): string | undefined {
  return plan.hostServices.hosts.length > 0 ? undefined : 'no host directory moves';
}

/** Host services down where a host directory moves, once no component's pods run any more. */
export const stopHostServices: Phase = {
  name: 'stop-host-services',
  section: 12,
  run: stop,
  undo: startAgain,
  skip: skipWithoutHosts,
};

/** Host services up again, control-plane nodes one at a time, until the whole cluster is healthy. */
export const startHostServices: Phase = {
  name: 'start-host-services',
  section: 14,
  run: start,
  skip: skipWithoutHosts,
};

async function stop(migration: Migration): Promise<string> {
  const { plan } = migration;
  // Without kubelet no pod can be proved gone, so this waits for the last component.
  await condition(() => plan.components.every((component) => migration.state.uninstalled.includes(component.kind)));
  for (const name of [...workersFirst(plan)]) {
    migration.state.hostsStopBegun = [...new Set([...migration.state.hostsStopBegun, name])];
    await act(migration, 'stop-host-services', 'stopHostServices', `stop host services on ${name}`, {
      migration: plan.cluster,
      host: hostNamed(plan, name),
      units: plan.hostServices.units,
    });
    migration.state.hostsStopped = [...new Set([...migration.state.hostsStopped, name])];
    publish(migration);
  }
  return `host services stopped on ${plan.hostServices.hosts.join(', ')}`;
}

async function start(migration: Migration): Promise<string> {
  const { plan } = migration;
  const workers = plan.hostServices.hosts.filter((name) => !isControlPlane(plan, name));
  for (const name of plan.hostServices.hosts.filter((host) => isControlPlane(plan, host))) {
    await startMaster(migration, name);
  }
  await forEachBounded(workers, plan.limits.parallelReboots, (name) => startHost(migration, name));
  return proveHealthy(migration, 'start-host-services');
}

/** Never a second member of etcd away because of a reboot, and nobody led to an API server that goes down. */
async function startMaster(migration: Migration, name: string): Promise<void> {
  const { restart } = migration.plan.hostServices;
  await startHost(migration, name, async () => {
    await proveMembers(migration, 'start-host-services', `before ${name} reboots`, mastersAway(migration));
    await balance(migration, 'start-host-services', { without: [name] });
    await handOverLead(migration, 'start-host-services', name);
  });
  await proveMembers(migration, 'start-host-services', `with ${name} back`, mastersAway(migration));
  if (restart === 'reboot') {
    await balance(migration, 'start-host-services');
  }
}

async function startHost(migration: Migration, name: string, beforeReboot?: () => Promise<void>): Promise<void> {
  const { plan } = migration;
  const host = hostNamed(plan, name);
  if (plan.hostServices.restart === 'reboot') {
    const bootId =
      migration.state.bootIds[name] ??
      (await act(migration, 'start-host-services', 'readBootId', `boot id of ${name}`, { host }));
    migration.state.bootIds = { ...migration.state.bootIds, [name]: bootId };
    await beforeReboot?.();
    await act(migration, 'start-host-services', 'rebootHost', `reboot ${name}`, { host, bootId });
  }
  await act(migration, 'start-host-services', 'startHostServices', `host services on ${name}`, {
    migration: plan.cluster,
    host,
    units: plan.hostServices.units,
  });
  migration.state.hostsStopped = migration.state.hostsStopped.filter((stopped) => stopped !== name);
  publish(migration);
}

async function startAgain(migration: Migration): Promise<string> {
  const { plan } = migration;
  const stopped = [...workersFirst(plan)].reverse().filter((name) => migration.state.hostsStopBegun.includes(name));
  if (stopped.length === 0) {
    return 'no host service had been stopped';
  }
  const startThose = async (names: readonly string[]): Promise<void> => {
    for (const name of names) {
      await act(migration, 'stop-host-services', 'startHostServices', `host services back on ${name}`, {
        migration: plan.cluster,
        host: hostNamed(plan, name),
        units: plan.hostServices.units,
      });
    }
  };
  const isLost = (name: string): boolean => migration.state.lost?.includes(name) === true;
  const skipped = stopped.filter(isLost);
  await startThose(stopped.filter((name) => !isLost(name)));
  await letLostGo(migration);
  // What answered again in the meantime is not lost after all.
  await startThose(skipped.filter((name) => !isLost(name)));
  const proof = await proveHealthy(migration, 'stop-host-services');
  const lost = skipped.filter(isLost);
  return lost.length === 0 ? proof : `${proof}; not started on ${lost.join(', ')}, lost`;
}

async function proveHealthy(migration: Migration, phase: PhaseName): Promise<string> {
  const healthy = await act(migration, phase, 'awaitClusterHealthy', 'nodes and system pods', {
    nodes: migration.state.nodes,
    namespaces: ['kube-system', migration.plan.platform.resourceNamespace],
  });
  return healthy.proof;
}

/** Control-plane nodes go down last and come up first: the API is there for as long as it can be. */
function workersFirst(plan: Plan): string[] {
  return plan.hostServices.hosts.toSorted(
    (one, other) => Number(isControlPlane(plan, one)) - Number(isControlPlane(plan, other)),
  );
}

/** Where the plan does not say who the old masters are, every old node counts as one: careful is never wrong here. */
function isControlPlane({ nodes, controlPlane }: Plan, name: string): boolean {
  const added = nodes.add.find((node) => node.name === name);
  return added?.controlPlane ?? controlPlane?.masters.includes(name) ?? true;
}
