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
