import type { Host, Plan } from '../plan/plan.ts';
import { controlSuccessor, exchangeOf, mastersStopped } from '../plan/quorum.ts';
import type { PhaseName } from './messages.ts';
import type { Migration } from './migration.ts';
import { callActivity, hostNamed } from './migration.ts';
import { act, step } from './parking.ts';

/*
 * The masters of a control plane that runs on the platform's own nodes, as the migration changes them: who is one now, who may be asked,
 * and where proton-cli runs.
 */

/** True when masters are members of etcd, so that each comes and goes by itself. */
export function isStacked(plan: Plan): boolean {
  return plan.controlPlane !== undefined;
}

/** Masters now: those of the start and those that joined, without those that left and those that etcd was seen not to know. */
export function mastersNow(migration: Migration): string[] {
  return possibleMasters(migration).filter((name) => !migration.state.noMembers?.includes(name));
}

/** With those that are half in or half out: their join or their leaving was begun and not seen to end. */
export function possibleMasters({ plan, state }: Migration): string[] {
  const exchange = exchangeOf(plan);
  if (exchange === undefined) {
    return [];
  }
  const joined = exchange.joining.filter((name) => state.joined?.includes(name));
  return [...exchange.masters, ...joined].filter((name) => !state.departed?.includes(name));
}

/** Masters whose members may be silent: what runs etcd is among the services that are stopped there. */
export function mastersAway(migration: Migration): string[] {
  const { plan, state } = migration;
  return mastersStopped(mastersNow(migration), { hosts: state.hostsStopped, units: plan.hostServices.units });
}

/** The master where proton-cli and helm run. */
export function controlOf({ plan, state }: Migration): Host {
  return hostNamed(plan, state.controlHost ?? plan.platform.controlHost);
}

/** All members of etcd healthy and caught up but those that are known to be away, their API servers ready; nothing to prove where the control plane is elsewhere. */
export async function proveMembers(
  migration: Migration,
  phase: PhaseName,
  when: string,
  away: readonly string[] = [],
): Promise<string | undefined> {
  const masters = mastersNow(migration).map((name) => hostNamed(migration.plan, name));
  if (masters.length === 0) {
    return undefined;
  }
  const { proof } = await act(migration, phase, 'awaitMembers', `${masters.length} members of etcd ${when}`, {
    via: [...masters.filter(({ name }) => !away.includes(name)), ...masters.filter(({ name }) => away.includes(name))],
    masters,
    ...(away.length === 0 ? {} : { away: [...away] }),
  });
  return proof;
}

/**
 * Load balancers of all nodes lead to the masters there are now; `without`: but not to these. Before an API server stops, since a load
 * balancer notices that only after some failed checks. Nothing where the control plane is elsewhere.
 */
export async function balance(
  migration: Migration,
  phase: PhaseName,
  { without = [], on = () => true }: Balance = {},
): Promise<void> {
  await step(migration, phase, () => setBalancers(migration, { without, on }));
}

/** Another member of etcd leads while this master is away: an election would stop all writes. Nothing where the control plane is elsewhere. */
export async function handOverLead(migration: Migration, phase: PhaseName, name: string): Promise<void> {
  const { plan } = migration;
  const others = mastersNow(migration).filter((master) => master !== name);
  if (others.length === 0 || others.length === mastersNow(migration).length) {
    return;
  }
  const away = mastersAway(migration);
  await act(migration, phase, 'handOverLead', `another master leads while ${name} is away`, {
    master: hostNamed(plan, name),
    remaining: others.filter((master) => !away.includes(master)).map((master) => hostNamed(plan, master)),
    leavingLater: plan.nodes.remove,
  });
}

interface Balance {
  without?: readonly string[];
  on?: (host: Host) => boolean;
}

/** The same as a part of a step that looks anew at every try. */
export async function setBalancers(migration: Migration, { without = [], on = () => true }: Balance): Promise<void> {
  const { plan, state } = migration;
  const masters = mastersNow(migration)
    .filter((name) => !without.includes(name))
    .map((name) => ({ name, address: hostNamed(plan, name).address }));
  if (masters.length === 0) {
    return;
  }
  const summary =
    without.length === 0 ? 'load balancers lead to all masters' : `load balancers without ${without.join(', ')}`;
  await callActivity(migration, 'setBalancers', summary, {
    on: plan.hosts.filter((host) => state.nodes.includes(host.name) && !state.lost?.includes(host.name) && on(host)),
    masters,
  });
}

/** The next control host gets what it needs while the old one still has it; answers its name, or undefined when the control host stays. */
export async function prepareControl(migration: Migration, phase: PhaseName): Promise<string | undefined> {
  const { plan } = migration;
  const next = controlSuccessor(plan);
  if (next === undefined) {
    return undefined;
  }
  await act(migration, phase, 'moveControl', `proton-cli can work on ${next}`, {
    migration: plan.cluster,
    from: controlOf(migration),
    to: hostNamed(plan, next),
    platform: plan.platform,
  });
  return next;
}
