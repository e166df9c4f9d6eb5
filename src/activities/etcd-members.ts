import { CancelledFailure } from '@temporalio/common';
import { z } from 'zod';
import type { Hosts } from '../hosts/contract.ts';
import type { Host } from '../plan/plan.ts';
import type { EtcdMember } from './contract.ts';
import { complaint, type Etcdctl, EtcdUnavailable, openEtcdctl } from './etcd-command.ts';
import { errorText, transient } from './failures.ts';

/* Members of the platform's own etcd, as they describe themselves. */

export interface ObservedMember extends EtcdMember {
  clientUrls: string[];
  peerUrls: string[];
  /** Whom it takes for the leader; absent when it has none or does not answer. */
  follows?: string;
  /** Newest entry it knows to be committed. */
  committed?: number;
  /** Size of its database. */
  bytes?: number;
  /** Why it is not healthy. */
  trouble?: string;
}

export interface Observation {
  members: ObservedMember[];
  /** The machine that was asked. */
  asked: Etcdctl;
}

/** Numbers that do not fit are kept as their text: ids have 64 bits. */
function parseExact(text: string): unknown {
  const keep = (_key: string, value: unknown, context?: { source?: string }): unknown =>
    typeof value === 'number' && !Number.isSafeInteger(value) && context?.source !== undefined ? context.source : value;
  return JSON.parse(text, keep);
}

const idSchema = z.union([z.int(), z.string().regex(/^\d+$/)]).transform((id) => BigInt(id).toString(16));
const urlsSchema = z.array(z.string()).nullish();

const membersSchema = z.object({
  members: z.array(
    z.object({
      ID: idSchema,
      name: z.string().nullish(),
      peerURLs: urlsSchema,
      clientURLs: urlsSchema,
      isLearner: z.boolean().nullish(),
    }),
  ),
});

export interface ListedMember {
  id: string;
  name: string;
  learner: boolean;
  clientUrls: string[];
  peerUrls: string[];
}

/** Of `etcdctl member list -w json`. Fields that are zero are left out there. */
export function parseMembers(text: string): ListedMember[] {
  return membersSchema.parse(parseExact(text)).members.map(({ ID, name, peerURLs, clientURLs, isLearner }) => ({
    id: ID,
    name: name ?? '',
    learner: isLearner ?? false,
    clientUrls: clientURLs ?? [],
    peerUrls: peerURLs ?? [],
  }));
}

const statusSchema = z.array(
  z.object({
    Endpoint: z.string(),
    Status: z.object({
      header: z.object({ member_id: idSchema }),
      version: z.string().nullish(),
      dbSize: z.int().nullish(),
      leader: idSchema.nullish(),
      raftIndex: z.int().nullish(),
      raftAppliedIndex: z.int().nullish(),
      errors: z.array(z.string()).nullish(),
    }),
  }),
);

export interface MemberStatus {
  id: string;
  /** Absent without a leader. */
  leader?: string;
  committed: number;
  applied: number;
  bytes: number;
  errors: string[];
}

/** Of `etcdctl endpoint status -w json`; who does not answer is left out, and who has no leader answers all the same. */
export function parseStatuses(text: string): MemberStatus[] {
  return statusSchema.parse(parseExact(text)).map(({ Status: status }) => ({
    id: status.header.member_id,
    ...(status.leader !== undefined && status.leader !== null && status.leader !== '0' && { leader: status.leader }),
    committed: status.raftIndex ?? 0,
    // etcd before 3.4 does not say it.
    applied: status.raftAppliedIndex ?? status.raftIndex ?? 0,
    bytes: status.dbSize ?? 0,
    errors: status.errors ?? [],
  }));
}

/** Members and what each says of itself. */
export function describeMembers(
  listed: readonly ListedMember[],
  statuses: readonly MemberStatus[],
  silent: string,
): ObservedMember[] {
  return listed.map((member) => {
    const status = statuses.find(({ id }) => id === member.id);
    if (status === undefined) {
      const trouble = member.clientUrls.length === 0 ? 'has never started' : silent;
      return { ...member, leader: false, healthy: false, trouble };
    }
    const trouble = [...(status.leader === undefined ? ['has no leader'] : []), ...status.errors].join(', ');
    return {
      ...member,
      leader: status.leader === member.id,
      healthy: trouble === '',
      applied: status.applied,
      committed: status.committed,
      bytes: status.bytes,
      ...(status.leader !== undefined && { follows: status.leader }),
      ...(trouble !== '' && { trouble }),
    };
  });
}

/** Asks one machine after the other until one knows the members. Nothing is changed. */
export async function observeMembers(hosts: Hosts, via: readonly Host[]): Promise<Observation> {
  const reasons: string[] = [];
  for (const host of via) {
    try {
      const asked = await openEtcdctl(await hosts.connect(host));
      const list = await asked.run(['member', 'list', '--write-out', 'json']);
      if (list.code === 0) return { members: await statusesOf(asked, parseMembers(list.stdout)), asked };
      reasons.push(`${host.name}: ${complaint(list)}${await withoutLeader(asked)}`);
    } catch (error) {
      if (error instanceof CancelledFailure) throw error;
      // Whatever is wrong with this one, the next may answer; if none does, all of it is told.
      reasons.push(error instanceof EtcdUnavailable ? error.message : `${host.name}: ${errorText(error)}`);
    }
  }
  throw transient({
    what: 'No master says who the members of etcd are',
    cause: reasons.join('; ') || 'there is no master to ask',
    untouched: 'the members of etcd; nothing was changed by this look',
    next: 'it is tried again by itself; if it stays so, start members that are down (systemctl status kubelet, crictl ps on each master): without a majority nothing can be written and no member removed',
  });
}

async function statusesOf(asked: Etcdctl, listed: readonly ListedMember[]): Promise<ObservedMember[]> {
  const endpoints = listed.flatMap(({ clientUrls }) => clientUrls.slice(0, 1));
  const result = await asked.run(['endpoint', 'status', '--write-out', 'json'], { endpoints, timeout: 3000 });
  // One silent member fails the whole command, but not its answer. No answer says nothing about any member.
  if (result.stdout.trim() === '') throw new EtcdUnavailable(`${asked.connection.host.name}: ${complaint(result)}`);
  return describeMembers(listed, parseStatuses(result.stdout), 'does not answer');
}

async function withoutLeader(asked: Etcdctl): Promise<string> {
  const result = await asked.run(['endpoint', 'status', '--write-out', 'json'], { timeout: 3000 });
  if (result.stdout.trim() === '') return '';
  return parseStatuses(result.stdout).some(({ leader }) => leader === undefined) ? ' (its member has no leader)' : '';
}

/** Entries that a member may be behind the others: they are asked one after the other while writes go on. */
const fewEntries = 500;

/**
 * What stands against "these are the members: voting, healthy, of one leader, caught up", one clause each. `away` need not answer.
 * `leaving`: its member may be there as well.
 */
export function memberProblems(
  members: readonly ObservedMember[],
  wanted: readonly string[],
  options: { away?: readonly string[]; leaving?: Host } = {},
): string[] {
  const { away = [], leaving } = options;
  const problems: string[] = [];
  for (const name of wanted) {
    const member = members.find((candidate) => candidate.name === name);
    if (member === undefined) problems.push(`${name} is no member`);
    else if (member.learner) problems.push(`${name} is a learner, without a vote`);
    else if (!member.healthy && !away.includes(name)) problems.push(`${name} ${member.trouble ?? 'is not healthy'}`);
  }
  for (const member of members) {
    if (wanted.includes(member.name) || (leaving !== undefined && isMemberOf(member, leaving))) continue;
    problems.push(
      member.name === ''
        ? `a member that has never started is in the way (id ${member.id}, ${member.peerUrls.join(', ')})`
        : `${member.name} is a member (id ${member.id})`,
    );
  }
  const answering = members.filter(({ healthy, learner }) => healthy && !learner);
  const leaders = new Set(answering.map(({ follows }) => follows));
  if (leaders.size > 1) problems.push('they do not agree on a leader');
  const newest = Math.max(0, ...answering.map(({ committed }) => committed ?? 0));
  for (const { name, applied = 0 } of answering) {
    if (wanted.includes(name) && newest - applied > fewEntries) {
      problems.push(`${name} is ${newest - applied} entries behind`);
    }
  }
  return problems;
}

/** One that has never started has no name yet; where it listens is known all the same. */
export function isMemberOf(member: ListedMember, host: Host): boolean {
  if (member.name !== '') return member.name === host.name;
  return member.peerUrls.some((url) => new URL(url).hostname.replace(/^\[(.*)\]$/, '$1') === host.address);
}

/** The part that travels. */
export function publicMembers(members: readonly ObservedMember[]): EtcdMember[] {
  return members.map(({ id, name, learner, leader, healthy, applied }) => ({
    id,
    name,
    learner,
    leader,
    healthy,
    ...(applied !== undefined && { applied }),
  }));
}
