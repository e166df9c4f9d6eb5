import { ApplicationFailure } from '@temporalio/activity';
import type { EtcdMember, Evidence, MasterActivities } from '../../src/activities/contract.ts';
import { quorumOf } from '../../src/plan/quorum.ts';
import type { World } from './world.ts';

/** Masters of the model: who is a member of etcd, what its machines went through, and who is dead. */
export class Masters {
  members: string[];
  leader: string;
  /** Who stands behind the load balancers; undefined: as the last apply left it. */
  balancers: string[];
  readonly dead = new Set<string>();
  /** Whose member is down while the machine runs. */
  readonly down = new Set<string>();
  readonly drained = new Set<string>();
  readonly reset = new Set<string>();
  readonly tainted = new Set<string>();
  /** Lines of the hosts files that name what is removed. */
  readonly leftovers = new Map<string, string[]>();
  /** Hosts that have the file with which nodes join. */
  readonly joinFiles: Set<string>;
  /** Hosts on which proton-cli can work. */
  readonly control: Set<string>;
  private readonly world: World;

  constructor(world: World, masters: readonly string[], controlHost: string) {
    this.world = world;
    this.members = [...masters];
    this.leader = masters[0] ?? '';
    this.balancers = [...masters];
    this.control = new Set([controlHost]);
    this.joinFiles = new Set(masters.slice(0, 1));
  }

  get healthy(): string[] {
    return this.members.filter((name) => this.answers(name));
  }

  answers(name: string): boolean {
    return !this.dead.has(name) && !this.down.has(name);
  }

  hasQuorum(): boolean {
    return this.healthy.length >= quorumOf(this.members.length);
  }

  /** Machines whose next join fails half-way, e.g. with a full disk, and those on which one has. */
  readonly unfit = new Set<string>();
  readonly half = new Set<string>();
  /** Machines whose next join fails once their member runs, as what it does then, a master being whole; and those that run without a vote. */
  readonly failsAs = new Map<string, 'voter' | 'learner' | 'master'>();
  readonly learners = new Set<string>();
  /** Whose member was added and has never started. */
  unstarted: string | undefined;
  /** Whose join may go on on the machines, as far as the migration knows: its apply was given up, nobody saw it end. */
  joining: string | undefined;
  /** Who dies in the middle of another one's join or leaving, by that other one. */
  readonly diesWith = new Map<string, string>();

  /** Answers whether somebody died just now. */
  private strike(name: string): boolean {
    const struck = this.diesWith.get(name);
    if (struck === undefined) return false;
    this.diesWith.delete(name);
    this.dead.add(struck);
    return true;
  }

  /** A master joins by an apply. */
  join(name: string): void {
    if (this.strike(name)) {
      if (this.unfit.has(name)) this.unstarted = name;
      throw failure('apply module firewall fail: no answer');
    }
    if (this.half.has(name)) throw failure(`${name}: preflight finds leftovers`);
    if (this.unfit.has(name)) {
      this.half.add(name);
      this.joining = name;
      throw failure(`${name}: failed to run kubeadm join`);
    }
    const role = this.failsAs.get(name);
    this.failsAs.delete(name);
    if (!this.hasQuorum() || this.healthy.length < this.members.length) {
      this.world.violate(
        `${name} joins while ${this.members.filter((member) => this.dead.has(member)).join()} is dead`,
      );
    }
    if (role === 'learner') this.learners.add(name);
    else this.members = [...this.members, name];
    if (role === 'learner' || role === 'voter') this.half.add(name);
    if (role === 'master') this.world.state.nodes = [...this.world.state.nodes, name];
    if (role !== undefined) throw failure(`${name}: failed to run kubeadm join`);
    this.tainted.add(name);
    this.reset.delete(name);
    this.drained.delete(name);
  }

  describe(): EtcdMember[] {
    const started = this.members.map((name) => ({
      id: name,
      name,
      learner: false,
      leader: name === this.leader,
      healthy: this.answers(name),
      ...(this.answers(name) ? { applied: 1000 } : {}),
    }));
    const unstarted = { id: 'unstarted', name: '', learner: false, leader: false, healthy: false };
    const learners = [...this.learners].map((name) => ({
      id: name,
      name,
      learner: true,
      leader: false,
      healthy: true,
    }));
    return [...started, ...learners, ...(this.unstarted === undefined ? [] : [unstarted])];
  }

  reboot(name: string): void {
    if (this.balancers.includes(name)) this.world.violate(`${name} reboots behind the load balancers`);
    if (this.leader === name) this.world.violate(`${name} reboots while it leads`);
    const isMaster = (node: string): boolean => this.members.includes(node);
    const booting = [...this.world.booting];
    if (booting.some((other) => isMaster(name) || isMaster(other))) {
      this.world.violate(`${name} reboots beside ${booting.join()}`);
    }
    const others = this.healthy.filter((member) => member !== name);
    if (isMaster(name) && others.length < quorumOf(this.members.length)) {
      this.world.violate(`no quorum while ${name} reboots`);
    }
  }

  leave(name: string): void {
    if (this.balancers.includes(name)) this.world.violate(`${name} leaves etcd behind the load balancers`);
    const isNode = this.world.state.nodes.includes(name);
    if (isNode && !this.drained.has(name) && !this.dead.has(name))
      this.world.violate(`${name} leaves etcd with pods on it`);
    if (!this.hasQuorum()) throw failure(`etcd has no quorum to remove ${name}`);
    this.members = this.members.filter((member) => member !== name);
    if (this.leader === name) this.leader = this.healthy[0] ?? '';
    if (!this.hasQuorum()) this.world.violate(`no quorum after ${name} left`);
    if (this.strike(name)) throw failure(`etcd is not sound without ${name}`);
  }
}

function failure(cause: string, type = 'NeedsHuman'): ApplicationFailure {
  return ApplicationFailure.nonRetryable(cause, type, { cause, untouched: 'everything', next: 'look' });
}

function evidence(changed: boolean, proof: string): Evidence {
  return { changed, proof };
}

/** The activities of masters on the model; `here` answers the world of the running workflow. */
export function masterActivities(here: () => World): MasterActivities {
  const masters = (): Masters => {
    const found = here().masters;
    if (found === undefined) throw failure('the control plane of this platform is elsewhere');
    return found;
  };
  return {
    listMembers: (input) =>
      here().act('listMembers', input, () => ({ members: masters().describe(), askedOf: input.via[0]?.name ?? '' })),
    awaitMembers: (input) =>
      here().act('awaitMembers', input, () => {
        const away = new Set(input.away);
        const wanted = input.masters.map(({ name }) => name).toSorted();
        const found = masters().members.toSorted();
        const silent = found.filter((name) => !masters().answers(name) && !away.has(name));
        if (wanted.join() !== found.join()) throw failure(`members are ${found.join()}, expected ${wanted.join()}`);
        if (silent.length > 0) throw failure(`${silent.join()} does not answer`);
        return { ...evidence(false, `${found.length} members healthy`), members: masters().describe() };
      }),
    snapshotEtcd: (input) =>
      here().act('snapshotEtcd', input, () => ({
        ...evidence(true, 'snapshot taken'),
        host: input.via[0]?.name ?? '',
        file: '/var/lib/ferry/backup/snapshot.db',
        bytes: 1000,
        digest: 'sha256:1',
        revision: 1,
        keys: 1,
      })),
    matchTaints: (input) =>
      here().act('matchTaints', input, () => evidence(masters().tainted.delete(input.node), `${input.node} has none`)),
    setBalancers: (input) =>
      here().act('setBalancers', input, () => {
        const silent = input.on.filter(({ name }) => masters().dead.has(name) || here().booting.has(name));
        if (silent.length > 0) throw failure(`${silent.map(({ name }) => name).join()} does not answer`);
        masters().balancers = input.masters.map(({ name }) => name);
        return evidence(true, `load balancers lead to ${masters().balancers.join()}`);
      }),
    drainNode: (input) =>
      here().act('drainNode', input, () => {
        const { installed } = here().state;
        for (const { kind, replicas } of here().plan.components) {
          const side = installed[kind];
          if ((side === 'from' || side === 'to') && replicas.some((replica) => replica[side] === input.node)) {
            here().violate(`${input.node} drained under ${kind}`);
          }
        }
        here().masters?.drained.add(input.node);
        return evidence(true, `${input.node} drained`);
      }),
    handOverLead: (input) =>
      here().act('handOverLead', input, () => {
        const led = masters().leader === input.master.name;
        if (led) masters().leader = input.remaining[0]?.name ?? '';
        return evidence(led, `${masters().leader} leads`);
      }),
    leaveEtcd: (input) =>
      here().act('leaveEtcd', input, () => {
        const { master, remaining } = input;
        const others = masters().members.filter((name) => name !== master.name);
        if (
          remaining
            .map(({ name }) => name)
            .toSorted()
            .join() !== others.toSorted().join()
        ) {
          here().violate(`${master.name} leaves etcd; told of ${remaining.length} others, there are ${others.join()}`);
        }
        const silent = others.filter((name) => !masters().answers(name));
        const { unstarted } = masters();
        if (unstarted !== undefined && unstarted !== master.name)
          throw failure('one that has never started is in the way');
        const hasNoVote = !masters().answers(master.name) || unstarted === master.name;
        if (silent.length > 0 && !hasNoVote) throw failure(`${silent.join()} does not answer`);
        masters().unstarted = undefined;
        masters().learners.delete(master.name);
        const isMember = masters().members.includes(master.name);
        const movedLeadership = masters().leader === master.name;
        if (isMember) masters().leave(master.name);
        return {
          ...evidence(isMember, `${master.name} is no member`),
          reached: !masters().dead.has(master.name),
          movedLeadership,
          members: masters().describe(),
        };
      }),
    resetNode: (input) =>
      here().act('resetNode', input, () => {
        const { name } = input.host;
        if (here().mute.has(name)) return { ...evidence(false, `${name} did not answer`), reached: false };
        const runs = [...(here().masters?.members ?? []), ...(here().masters?.learners ?? [])];
        if (runs.includes(name)) here().violate(`${name} reset as a member of etcd`);
        if (here().masters?.joining === name) here().violate(`${name} reset in the middle of its join`);
        here().masters?.reset.add(name);
        here().masters?.half.delete(name);
        here().leftNodes.add(name);
        here().masters?.control.delete(name);
        const isSilent = here().silent.has(name) || here().isOff(name);
        return { ...evidence(!isSilent, `${name} is reset`), reached: !isSilent };
      }),
    deleteNode: (input) =>
      here().act('deleteNode', input, () => {
        if (!here().leftNodes.has(input.node)) here().violate(`${input.node} deleted while its kubelet runs`);
        const before = here().state.nodes.length;
        here().state.nodes = here().state.nodes.filter((name) => name !== input.node);
        return evidence(here().state.nodes.length !== before, `Node ${input.node} is gone`);
      }),
    moveControl: (input) =>
      here().act('moveControl', input, () => {
        if (!here().copied.has(`host-${input.from.name}-package`)) throw failure('the package is not there');
        masters().control.add(input.to.name);
        masters().joinFiles.add(input.to.name);
        return evidence(true, `proton-cli works on ${input.to.name}`);
      }),
    giveJoinFile: (input) =>
      here().act('giveJoinFile', input, () => {
        const changed = !masters().joinFiles.has(input.to.name);
        masters().joinFiles.add(input.to.name);
        return evidence(changed, `nodes can join through ${input.to.name}`);
      }),
    listLeftovers: (input) =>
      here().act('listLeftovers', input, () =>
        input.hosts.map(({ name }) => ({ host: name, lines: masters().leftovers.get(name) ?? [] })),
      ),
  };
}
