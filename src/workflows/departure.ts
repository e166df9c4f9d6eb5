import { mastersNow, proveMembers } from './masters.ts';
import type { PhaseName } from './messages.ts';
import type { Migration } from './migration.ts';
import { hostNamed, publish } from './migration.ts';
import { act } from './parking.ts';

/*
 * How nodes leave where the platform's tool must not do it: it never takes a member out of etcd, it deletes several nodes at once, and it
 * cannot delete the first control-plane node by name at all. One node at a time, workers first; only when the rest is proved sound is it
 * the next one's turn.
 */

/** The tool works through the first control-plane node by name; when that one leaves, it fails at every try. */
export function toolCanRemove(
  leaving: readonly string[],
  live: readonly { name: string; controlPlane: boolean }[],
): boolean {
  const [first] = live
    .filter(({ controlPlane }) => controlPlane)
    .map(({ name }) => name)
    .toSorted();
  return first === undefined || !leaving.includes(first);
}

/** Takes nodes out of the cluster, one after the other; answers one line for each. What left already is left alone. */
export async function depart(migration: Migration, phase: PhaseName, leaving: readonly string[]): Promise<string[]> {
  const { state } = migration;
  const live = await act(migration, phase, 'listNodes', 'nodes before the first leaves');
  state.nodes = live.map(({ name }) => name);
  const proofs: string[] = [];
  for (let left = remainderOf(migration, leaving); left.length > 0; left = remainderOf(migration, leaving)) {
    proofs.push(await leave(migration, phase, await nextOf(migration, phase, left)));
  }
  return proofs;
}

function remainderOf({ state }: Migration, leaving: readonly string[]): string[] {
  return leaving.filter((name) => !state.departed?.includes(name));
}

/** Workers first; then a member that is dead already, since all others can only spare somebody once it is out; then as planned. */
async function nextOf(migration: Migration, phase: PhaseName, left: readonly string[]): Promise<string> {
  const masters = mastersNow(migration);
  const worker = left.find((name) => !masters.includes(name));
  const [first = ''] = left;
  if (worker !== undefined || left.length === 1) {
    return worker ?? first;
  }
  const { members } = await act(migration, phase, 'listMembers', 'which members of etcd answer', {
    via: masters.map((name) => hostNamed(migration.plan, name)),
  });
  const silent = left.find((name) => members.some((member) => member.name === name && !member.healthy));
  return silent ?? first;
}

async function leave(migration: Migration, phase: PhaseName, name: string): Promise<string> {
  const { plan, state } = migration;
  const host = hostNamed(plan, name);
  const isMember = mastersNow(migration).includes(name);
  const remaining = mastersNow(migration).filter((master) => master !== name);
  if (isMember) {
    await act(migration, phase, 'setBalancers', `load balancers without ${name}`, {
      on: plan.hosts.filter((other) => other.name !== name && state.nodes.includes(other.name)),
      masters: remaining.map((master) => ({ name: master, address: hostNamed(plan, master).address })),
    });
  }
  await act(migration, phase, 'drainNode', `drain ${name}`, { node: name });
  if (isMember) {
    await act(migration, phase, 'leaveEtcd', `${name} leaves etcd`, {
      migration: plan.cluster,
      master: host,
      remaining: remaining.map((master) => hostNamed(plan, master)),
    });
  }
  const { reached } = await act(migration, phase, 'resetNode', `${name} is no node any more`, {
    migration: plan.cluster,
    host,
  });
  await act(migration, phase, 'deleteNode', `delete Node ${name}`, {
    node: name,
    configNamespace: plan.platform.configNamespace,
  });
  state.departed = [...(state.departed ?? []), name];
  state.nodes = state.nodes.filter((node) => node !== name);
  publish(migration);
  await proveMembers(migration, phase, `without ${name}`);
  return reached
    ? `${name} left`
    : `${name} left without answering: kubeadm reset --force on it before it is used again`;
}
