import type { Plan } from './plan.ts';

/*
 * How many members of etcd there are at every moment of an exchange of masters, and how many may still be lost. No I/O.
 */

/** Members that must answer for a write to count. */
export function quorumOf(members: number): number {
  return Math.floor(members / 2) + 1;
}

/** How many members may be lost before writes stop. */
export function spareOf(members: number): number {
  return members - quorumOf(members);
}

export interface QuorumStep {
  /** `start`, `new1 joins`, `old1 leaves`. */
  step: string;
  /** Voting members once the step is done. */
  members: string[];
  quorum: number;
  /** How many of them may be lost. */
  spare: number;
}

export interface Exchange {
  masters: readonly string[];
  joining: readonly string[];
  leaving: readonly string[];
}

/** Every state between the masters of today and those of tomorrow: one joins or one leaves, never two at once, and all join before one leaves. */
export function quorumSequence({ masters, joining, leaving }: Exchange): QuorumStep[] {
  let members = [...masters];
  const steps = [describe('start', members)];
  for (const name of joining.filter((candidate) => !masters.includes(candidate))) {
    members = [...members, name];
    steps.push(describe(`${name} joins`, members));
  }
  for (const name of leaving.filter((candidate) => members.includes(candidate))) {
    members = members.filter((member) => member !== name);
    steps.push(describe(`${name} leaves`, members));
  }
  return steps;
}

function describe(step: string, members: readonly string[]): QuorumStep {
  return { step, members: [...members], quorum: quorumOf(members.length), spare: spareOf(members.length) };
}

/** The exchange of masters a plan makes; undefined where the control plane is not on the platform's nodes. */
export function exchangeOf(plan: Pick<Plan, 'controlPlane' | 'nodes'>): Exchange | undefined {
  if (plan.controlPlane === undefined) return undefined;
  const { masters } = plan.controlPlane;
  return {
    masters,
    joining: plan.nodes.add.filter(({ controlPlane }) => controlPlane).map(({ name }) => name),
    leaving: masters.filter((name) => plan.nodes.remove.includes(name)),
  };
}

/** Units whose stop ends the static pods of a master, etcd among them. */
const masterUnits = new Set(['kubelet', 'containerd', 'docker', 'docker.socket']);

/** Masters that are away at the same time while host services are stopped: none, unless what runs etcd is among them. */
export function mastersStopped(
  masters: readonly string[],
  { hosts, units }: Pick<Plan['hostServices'], 'hosts' | 'units'>,
): string[] {
  return units.some((unit) => masterUnits.has(unit.replace(/\.service$/, '')))
    ? hosts.filter((name) => masters.includes(name))
    : [];
}

/** Moments in the window when masters are away and come back, with how many more may be lost then. Empty where none is. */
export function awaySteps(plan: Pick<Plan, 'controlPlane' | 'nodes' | 'hostServices'>): QuorumStep[] {
  const exchange = exchangeOf(plan);
  if (exchange === undefined) return [];
  const { hostServices } = plan;
  const members = [...exchange.masters, ...exchange.joining];
  const without = (step: string, away: readonly string[]): QuorumStep[] =>
    away.length === 0 ? [] : [{ ...describe(step, members), spare: spareOf(members.length) - away.length }];
  const rebooted = hostServices.restart === 'reboot' ? hostServices.hosts.filter((name) => members.includes(name)) : [];
  const stopped = mastersStopped(members, hostServices);
  return [
    ...without(`host services of ${stopped.join(', ')} are stopped`, stopped),
    // One at a time; those whose services are stopped still count as away until it is their turn.
    ...(stopped.length > 0 ? [] : rebooted.flatMap((name) => without(`${name} reboots`, [name]))),
  ];
}

/** Steps after which the loss of one more member stops the API. */
export function stepsWithoutSpare(exchange: Exchange): QuorumStep[] {
  return quorumSequence(exchange).filter(({ spare }) => spare < 1);
}

/**
 * The master that takes over from the control host when that one leaves: its successor if that is a master, else the first that joins.
 * Undefined: the control host stays, or nothing could take over.
 */
export function controlSuccessor(
  plan: Pick<Plan, 'nodes' | 'mapping'> & { platform: Pick<Plan['platform'], 'controlHost'> },
): string | undefined {
  const { controlHost } = plan.platform;
  if (!plan.nodes.remove.includes(controlHost)) return undefined;
  const masters = plan.nodes.add.filter(({ controlPlane }) => controlPlane).map(({ name }) => name);
  const mapped = plan.mapping.find(({ from }) => from === controlHost)?.to;
  return mapped !== undefined && masters.includes(mapped) ? mapped : masters[0];
}

/** Service name of the transfer that carries the dependency package to the next control host. */
export const packageService = 'package';
