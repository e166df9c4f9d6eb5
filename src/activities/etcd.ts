import type { HostConnection, Hosts } from '../hosts/contract.ts';
import type { Host, Plan } from '../plan/plan.ts';
import { spareOf } from '../plan/quorum.ts';
import { endContainers } from './containers.ts';
import type { EtcdMember, Evidence, MasterActivities } from './contract.ts';
import type { Deadlines } from './deadlines.ts';
import { complaint, type Etcdctl, EtcdUnavailable, readSetup } from './etcd-command.ts';
import {
  isMemberOf,
  memberProblems,
  type Observation,
  observeMembers,
  type ObservedMember,
  publicMembers,
} from './etcd-members.ts';
import { snapshotEtcd } from './etcd-snapshot.ts';
import { needsHuman, onHost, transient } from './failures.ts';
import { parseFields, tryScript } from './host-script.ts';
import { connectUnlessAway, listeningPorts, stopKubelet } from './kubelet.ts';
import { poll, whileBeating } from './polling.ts';
import { sshCommand } from './shell-words.ts';

export interface EtcdDeps {
  hosts: Hosts;
  /** Where backups go on a host, and the key on the worker; used when the input names none. */
  backup: Plan['backup'];
  deadlines: Deadlines;
}

type EtcdActivities = Pick<
  MasterActivities,
  'listMembers' | 'awaitMembers' | 'snapshotEtcd' | 'handOverLead' | 'leaveEtcd'
>;

/** The platform's own etcd: its members, its snapshot, and how one of them leaves. */
export function createEtcdActivities(deps: EtcdDeps): EtcdActivities {
  return {
    listMembers: (input) =>
      whileBeating({ waiting: 'members of etcd' }, async () => {
        const { members, asked } = await observeMembers(deps.hosts, input.via);
        return { members: publicMembers(members), askedOf: asked.connection.host.name };
      }),
    awaitMembers: (input) => whileBeating({ waiting: 'members of etcd' }, () => awaitMembers(deps, input)),
    snapshotEtcd: (input) => whileBeating({ waiting: 'snapshot of etcd' }, () => snapshotEtcd(deps, input)),
    handOverLead: (input) =>
      whileBeating({ waiting: `${input.master.name} hands over the lead` }, () => handOverLead(deps, input)),
    leaveEtcd: (input) => whileBeating({ waiting: `${input.master.name} leaves etcd` }, () => leaveEtcd(deps, input)),
  };
}

async function awaitMembers(
  deps: EtcdDeps,
  input: { via: Host[]; masters: Host[]; away?: string[] },
): Promise<Evidence & { members: EtcdMember[] }> {
  const { via, masters, away = [] } = input;
  const names = masters.map(({ name }) => name);
  const asking = masters.filter(({ name }) => !away.includes(name));
  const members = await poll(
    async () => {
      const observed = await observeUnlessBusy(deps.hosts, via);
      if (typeof observed === 'string') return { done: false, waiting: observed };
      const problems = [
        ...memberProblems(observed.members, names, { away }),
        ...(await unreadyServers(observed.asked, asking)),
      ];
      return problems.length === 0
        ? { done: true, value: observed.members }
        : { done: false, waiting: problems.join('; ') };
    },
    { deadline: deps.deadlines.members, interval: 2000 },
    (waiting) =>
      needsHuman({
        what: `The members of etcd are not ${names.join(', ')}, all sound`,
        cause: `after ${deps.deadlines.members / 1000} s: ${waiting}`,
        untouched: 'everything; this step only looks',
        next: 'repair these masters (systemctl status kubelet, crictl ps -a and crictl logs of etcd and kube-apiserver there), then: ferry resume',
      }),
  );
  const waiting = away.length === 0 ? '' : `; ${away.join(', ')} away as planned`;
  return {
    changed: false,
    proof: `${members.length} members of etcd: ${describe(members)}${waiting}; API server ready on ${asking.map(({ name }) => name).join(', ')}`,
    members: publicMembers(members),
  };
}

/** A cluster that elects a leader refuses for a moment; while something waits for it, that is no failure. */
async function observeUnlessBusy(hosts: Hosts, via: readonly Host[]): Promise<Observation | string> {
  try {
    return await observeMembers(hosts, via);
  } catch (error) {
    if (error instanceof Error && 'type' in error && error.type === 'Transient') return error.message;
    throw error;
  }
}

function describe(members: readonly ObservedMember[]): string {
  return members
    .map(({ name, leader, healthy }) => `${name}${leader ? ' (leader)' : ''}${healthy ? '' : ' (silent)'}`)
    .join(', ');
}

/** $1 kubeconfig, $2 CA, then pairs of name and URL; prints the names whose API server does not say ready, with what it said. */
const readyScript = `
config=$1 ca=$2
shift 2
while [ $# -gt 0 ]; do
  if command -v kubectl >/dev/null 2>&1 && [ -r "$config" ]; then
    answer=$(kubectl --kubeconfig "$config" --server "$2" --request-timeout 5s get --raw /readyz 2>&1)
  else answer=$(curl --silent --show-error --max-time 5 --cacert "$ca" "$2/readyz" 2>&1); fi
  [ "$answer" = ok ] || echo "$1=$(echo "$answer" | tail -n 1)"
  shift 2
done`;

/** Masters whose API server is not ready, as one of them sees it. */
async function unreadyServers({ connection }: Etcdctl, masters: readonly Host[]): Promise<string[]> {
  const ends = masters.flatMap(({ name, address }) => [
    name,
    `https://${address.includes(':') ? `[${address}]` : address}:6443`,
  ]);
  const files = ['/etc/kubernetes/admin.conf', '/etc/kubernetes/pki/ca.crt'];
  const result = await tryScript(connection, readyScript, [...files, ...ends], { timeout: 15_000 * masters.length });
  if (result.code !== 0) return [`the API servers could not be asked from ${connection.host.name}`];
  return [...parseFields(result.stdout)].map(([name, answer]) => `the API server of ${name} is not ready (${answer})`);
}

type LeaveInput = Parameters<MasterActivities['leaveEtcd']>[0];
type LeadInput = Parameters<MasterActivities['handOverLead']>[0];

async function handOverLead(deps: EtcdDeps, input: LeadInput): Promise<Evidence> {
  const { master, remaining } = input;
  // The leader knows best who they are, and it alone can hand over.
  const changed = await giveUpLeadership(deps, input, await observeMembers(deps.hosts, [master, ...remaining]));
  return { changed, proof: `the member of ${master.name} ${changed ? 'has handed over the lead' : 'does not lead'}` };
}

async function leaveEtcd(
  deps: EtcdDeps,
  input: LeaveInput,
): Promise<Evidence & { reached: boolean; movedLeadership: boolean; members: EtcdMember[] }> {
  const { master } = input;
  const { dead: wasDead, ...before } = await soundRest(deps, input, { when: 'before' });
  const wasMember = before.members.some((member) => isMemberOf(member, master));
  const movedLeadership = await giveUpLeadership(deps, input, before);

  const connection = await onHost(master.name, untouchedBy(input), () =>
    connectUnlessAway(deps.hosts, master, deps.deadlines.away),
  );
  if (connection === undefined) await refuseHalfAway(deps, input);
  let stopped = 0;
  let kubeletRan = false;
  const end = (name: 'kube-apiserver' | 'etcd'): Promise<number> =>
    connection === undefined
      ? Promise.resolve(0)
      : onHost(master.name, untouchedBy(input), () =>
          endContainers(connection, {
            name,
            deadline: deps.deadlines.containersEnd,
            untouched: untouchedBy(input),
          }),
        );
  if (connection !== undefined) {
    kubeletRan = await onHost(master.name, untouchedBy(input), () => stopKubelet(connection));
  }
  // While it still has its member: it answers what it was asked, sends its clients elsewhere and takes itself off the service's list.
  stopped += await end('kube-apiserver');
  // While it still runs: ended before, it would be one that is lost until it is out, and of four members no second one may be. Once out it
  // ends by itself, and without kubelet nothing starts it again.
  const removed = await removeMember(deps, input);
  stopped += await end('etcd');

  const after = await soundRest(deps, input, { when: 'after', wasDead });
  if (connection !== undefined) await proveSilent(deps, input);
  const { members } = after;
  const silent = members.filter(({ healthy }) => !healthy).length;
  return {
    changed: removed || stopped > 0 || kubeletRan || movedLeadership,
    proof: `${master.name} is no member${wasMember ? '' : ', and was none before'}; ${describe(members)}: who answers is healthy and caught up, ${spareOf(members.length) - silent} more may be lost${
      connection === undefined
        ? `; ${master.name} did not answer and was left as it is`
        : `; kubelet of ${master.name} is stopped and disabled, and no etcd listens there`
    }`,
    reached: connection !== undefined,
    movedLeadership,
    members: publicMembers(members),
  };
}

function untouchedBy({ remaining }: LeadInput): string {
  return `the members ${remaining.map(({ name }) => name).join(', ')} and what is stored in etcd`;
}

function isDeadMember(members: readonly ObservedMember[], master: Host): boolean {
  return members.some((member) => isMemberOf(member, master) && !member.healthy);
}

/** Looks in a row at which a member does not answer before it counts as dead: one that is only slow answers the next. */
const looksAtDead = 3;

/**
 * The members that stay, all sound; the one that leaves may still be there before, and not after. When that one is dead itself, others may
 * be dead as well: taking a dead member out never costs a vote that counts, and without a majority nobody would have listed the members.
 */
async function soundRest(
  deps: EtcdDeps,
  input: LeaveInput,
  { when, wasDead = false }: { when: 'before' | 'after'; wasDead?: boolean },
): Promise<Observation & { dead: boolean }> {
  const { master, remaining } = input;
  const names = remaining.map(({ name }) => name);
  const before = when === 'before';
  let silent = 0;
  return poll(
    async () => {
      const observed = await observeUnlessBusy(deps.hosts, remaining);
      if (typeof observed === 'string') return { done: false, waiting: observed };
      silent = isDeadMember(observed.members, master) ? silent + 1 : 0;
      const dead = wasDead || silent >= looksAtDead;
      const problems = memberProblems(observed.members, names, {
        away: dead ? names : [],
        ...(before && { leaving: master }),
      });
      if (silent > 0 && !dead) problems.push(`${master.name} seems dead (look ${silent} of ${looksAtDead})`);
      return problems.length === 0
        ? { done: true, value: { ...observed, dead } }
        : { done: false, waiting: problems.join('; ') };
    },
    { deadline: deps.deadlines.memberLeft, interval: 1000 },
    (waiting) =>
      needsHuman({
        what: before ? `${master.name} must not leave etcd now` : `etcd is not sound without ${master.name}`,
        cause: `after ${deps.deadlines.memberLeft / 1000} s: ${waiting}`,
        untouched: before ? `all members of etcd, and ${master.name}` : 'the members that are left',
        next: `repair these members first (systemctl status kubelet, crictl logs of etcd there), then: ferry resume`,
      }),
  );
}

/**
 * Leadership goes to a member that stays for good, or it would have to move again, and among those to the one that has most; without it the
 * rest would have to elect one, and nothing could be written meanwhile.
 */
async function giveUpLeadership(deps: EtcdDeps, input: LeadInput, before: Observation): Promise<boolean> {
  const { master, remaining, leavingLater = [] } = input;
  const leaving = before.members.find((member) => isMemberOf(member, master));
  if (leaving?.leader !== true) return false;
  const leavesLater = ({ name }: ObservedMember): number => Number(leavingLater.includes(name));
  const [heir] = before.members
    .filter(({ name, healthy, learner }) => healthy && !learner && remaining.some((host) => host.name === name))
    .toSorted((a, b) => leavesLater(a) - leavesLater(b) || (b.applied ?? 0) - (a.applied ?? 0));
  if (heir === undefined) throw new Error(`nobody remains when ${master.name} leaves etcd`);
  // Only the leader itself can do it.
  const result = await onHost(before.asked.connection.host.name, untouchedBy(input), () =>
    before.asked.run(['move-leader', heir.id], { endpoints: leaving.clientUrls.slice(0, 1), timeout: 20_000 }),
  );
  await poll(
    async () => {
      const observed = await observeUnlessBusy(deps.hosts, remaining);
      if (typeof observed === 'string') return { done: false, waiting: observed };
      const leader = observed.members.find((member) => member.leader);
      if (leader !== undefined && leader.name !== master.name) return { done: true, value: undefined };
      const said = result.code === 0 ? '' : `: ${complaint(result)}`;
      return { done: false, waiting: `${leader === undefined ? 'nobody' : master.name} leads${said}` };
    },
    { deadline: deps.deadlines.memberLeft, interval: 500 },
    (waiting) =>
      transient({
        what: `The leadership of etcd does not move from ${master.name} to ${heir.name}`,
        cause: waiting,
        untouched: 'all members of etcd',
        next: `it is tried again by itself; if it stays so, look at the log of etcd on ${master.name} and ${heir.name}`,
      }),
  );
  return true;
}

/**
 * A machine whose member runs and that only this worker cannot reach is not dead: its kubelet would go on, and bring it back.
 */
async function refuseHalfAway(deps: EtcdDeps, input: LeaveInput): Promise<void> {
  const { members } = await observeMembers(deps.hosts, input.remaining);
  const { master } = input;
  if (members.find((member) => isMemberOf(member, master))?.healthy !== true) return;
  throw transient({
    what: `${master.name} cannot leave etcd now`,
    cause: `its member answers the others, but the machine does not answer ssh: its kubelet could not be stopped`,
    untouched: `all members of etcd, and ${master.name}`,
    next: `it is tried again by itself; if it stays so: repair ${sshCommand(master.name, ['true'])}, or power the machine off`,
  });
}

/**
 * By id, and the id by name right before: nobody else is ever removed. For some seconds after members have found each other anew, etcd itself
 * refuses.
 */
async function removeMember(deps: EtcdDeps, input: LeaveInput): Promise<boolean> {
  const { master, remaining } = input;
  return poll(
    async () => {
      const observed = await observeUnlessBusy(deps.hosts, remaining);
      if (typeof observed === 'string') return { done: false, waiting: observed };
      const { members, asked } = observed;
      const leaving = members.find((member) => isMemberOf(member, master));
      if (leaving === undefined) return { done: true, value: false };
      const result = await onHost(asked.connection.host.name, untouchedBy(input), () =>
        asked.run(['member', 'remove', leaving.id], { timeout: 20_000 }),
      );
      if (result.code === 0) return { done: true, value: true };
      return { done: false, waiting: `member ${leaving.id}: ${complaint(result)}` };
    },
    { deadline: deps.deadlines.memberLeft, interval: 500 },
    (waiting) =>
      transient({
        what: `The member of ${master.name} could not be removed`,
        cause: waiting,
        untouched: untouchedBy(input),
        next: 'it is tried again by itself; removing a member needs a majority of all of them: start those that are down',
      }),
  );
}

/** No etcd listens on the machine that left. */
async function proveSilent(deps: EtcdDeps, { master, remaining }: LeaveInput): Promise<void> {
  await onHost(master.name, `the members ${remaining.map(({ name }) => name).join(', ')}`, async () => {
    const connection = await deps.hosts.connect(master);
    const ports = await portsOf(connection);
    await poll(
      async () => {
        const open = await listeningPorts(connection, ports);
        return open.length === 0
          ? { done: true, value: undefined }
          : { done: false, waiting: `something listens on ${open.join(', ')}` };
      },
      { deadline: deps.deadlines.containersEnd },
      (waiting) =>
        needsHuman({
          what: `etcd on ${master.name} does not end`,
          cause: waiting,
          untouched: 'the members that are left; this one is no member any more',
          next: `find out what listens there (ss -ltnp on ${master.name}) and end it, then: ferry resume`,
        }),
    );
  });
}

async function portsOf(connection: HostConnection): Promise<number[]> {
  const usual = [2379, 2380];
  try {
    return [...new Set([...usual, ...((await readSetup(connection))?.ports ?? [])])];
  } catch (error) {
    if (error instanceof EtcdUnavailable) return usual;
    throw error;
  }
}
