import type { Host } from '../plan/plan.ts';
import { mastersNow, possibleMasters, proveMembers, setBalancers } from './masters.ts';
import type { PhaseName } from './messages.ts';
import type { Migration } from './migration.ts';
import { callActivity, hostNamed, publish } from './migration.ts';
import { act, needsHuman, step } from './parking.ts';

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
  const masters = possibleMasters(migration);
  const workersFirst = leaving.toSorted(
    (one, other) => Number(masters.includes(one)) - Number(masters.includes(other)),
  );
  const departure: Departure = { migration, phase, leaving: workersFirst, withdrawn: new Set(), proofs: [] };
  for (const name of workersFirst) {
    await leave(departure, name);
  }
  return departure.proofs;
}

interface Departure {
  migration: Migration;
  phase: PhaseName;
  leaving: readonly string[];
  /** Masters to which no load balancer leads any more. */
  withdrawn: Set<string>;
  proofs: string[];
}

async function leave(departure: Departure, name: string): Promise<void> {
  const { migration, phase } = departure;
  const { plan, state } = migration;
  if (state.departed?.includes(name)) {
    return;
  }
  const host = hostNamed(plan, name);
  const isMaster = possibleMasters(migration).includes(name);
  let memberLeft = false;
  if (isMaster) {
    const { isDead } = await withdraw(departure, name);
    if (state.departed?.includes(name)) {
      return;
    }
    if (isDead) {
      // Until its pods count as gone, minutes pass in which its member counts against the quorum.
      await leaveEtcd(departure, name);
      memberLeft = true;
    }
  }
  // Evictions from a machine that is lost would wait for its kubelet, or be refused for what it does not run any more.
  if (!state.lost?.includes(name)) {
    await act(migration, phase, 'drainNode', `drain ${name}`, { node: name });
  }
  if (isMaster && !memberLeft) {
    await leaveEtcd(departure, name);
  }
  const { reached } = await step(migration, phase, async () => {
    const reset = await callActivity(migration, 'resetNode', `${name} is no node any more`, {
      migration: plan.cluster,
      host,
    });
    // Of a master its member has told before whether it is dead.
    if (!reset.reached && !isMaster) {
      await refuseHalfAway(migration, name);
    }
    return reset;
  });
  await act(migration, phase, 'deleteNode', `delete Node ${name}`, {
    node: name,
    configNamespace: plan.platform.configNamespace,
  });
  state.departed = [...(state.departed ?? []), name];
  state.nodes = state.nodes.filter((node) => node !== name);
  publish(migration);
  // Those whose turn comes later need not answer any more.
  await proveMembers(migration, phase, `without ${name}`, stillLeaving(departure));
  departure.proofs.push(
    reached ? `${name} left` : `${name} left without answering: kubeadm reset --force on it before it is used again`,
  );
}

/** A machine whose kubelet reports to the API and that only this worker cannot reach is not gone: it would be a node again at its next start. */
async function refuseHalfAway(migration: Migration, name: string): Promise<void> {
  if (await isReady(migration, name)) {
    throw needsHuman({
      cause: `${name} did not answer ssh, and its kubelet reports that all is well: such a machine would be a node again at its next start`,
      untouched: `Node ${name}, and all nodes whose turn comes later`,
      next: `repair ssh to ${name}, or switch it off and wait until kubectl get nodes says NotReady, then: ferry resume`,
    });
  }
}

async function isReady(migration: Migration, name: string): Promise<boolean> {
  const live = await callActivity(migration, 'listNodes', `whether ${name} is Ready`);
  return live.some((node) => node.name === name && node.ready);
}

function otherMasters(migration: Migration, name: string): Host[] {
  return mastersNow(migration)
    .filter((master) => master !== name)
    .map((master) => hostNamed(migration.plan, master));
}

function stillLeaving({ migration, leaving }: Departure): string[] {
  return leaving.filter((name) => !migration.state.departed?.includes(name));
}

/**
 * No load balancer leads to it any more. Dead machines that are to leave anyway are not asked; they go first. Looked for anew at every try.
 * Answers whether it is dead itself: one whose kubelet reports is not, whatever its member does, and can still end its pods.
 */
function withdraw(departure: Departure, name: string): Promise<{ isDead: boolean }> {
  const { migration, phase } = departure;
  return step(migration, phase, async () => {
    const dead = await buryDead(departure, name);
    departure.withdrawn.add(name);
    await setBalancers(migration, {
      without: [...departure.withdrawn],
      on: (other) => other.name !== name && !dead.includes(other.name),
    });
    return { isDead: dead.includes(name) && !(await isReady(migration, name)) };
  });
}

/** Another may have died meanwhile: until it is out it counts against those that are left. */
function leaveEtcd(departure: Departure, name: string): Promise<unknown> {
  const { migration, phase } = departure;
  const { plan } = migration;
  return step(migration, phase, async () => {
    await buryDead(departure, name);
    return callActivity(migration, 'leaveEtcd', `${name} leaves etcd`, {
      migration: plan.cluster,
      master: hostNamed(plan, name),
      remaining: otherMasters(migration, name),
      leavingLater: stillLeaving(departure).filter((other) => other !== name),
    });
  });
}

/**
 * Has members that are dead and are to leave anyway leave before `name`, unless that one has no vote to lose itself; answers the dead that are
 * left. Who etcd does not know is no member, whatever was begun: one whose join failed, or one that is out and was not seen to be.
 */
async function buryDead(departure: Departure, name: string): Promise<string[]> {
  const { migration } = departure;
  const { members } = await callActivity(migration, 'listMembers', 'which members of etcd answer', {
    via: otherMasters(migration, name),
  });
  const known = (other: string): boolean => members.some((member) => member.name === other);
  migration.state.noMembers = stillLeaving(departure).filter((other) => !known(other));
  const dead = stillLeaving(departure).filter((other) =>
    members.some((member) => member.name === other && !member.healthy),
  );
  // A member that has never started has no name yet: it is that of the last join, and nothing else is removed beside it.
  if (dead.includes(name) || (!known(name) && known(''))) {
    return dead;
  }
  for (const other of dead) {
    await leave(departure, other);
  }
  return [];
}
