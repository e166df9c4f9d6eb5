/* A real etcd of three members with TLS, on loopback addresses; what the machines around them do is played (see etcd-machines.ts). */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { partFolder } from '../../../lab/build/parts.ts';
import { decrypt } from '../../../src/activities/backup-cipher.ts';
import { defaultDeadlines } from '../../../src/activities/deadlines.ts';
import { createEtcdActivities } from '../../../src/activities/etcd.ts';
import { HostUnreachable } from '../../../src/hosts/errors.ts';
import { policies } from '../../../src/workflows/policies.ts';
import { EtcdCluster, type EtcdMachine } from './etcd-machines.ts';

const migration = 'migrate-test';
const deadlines = { ...defaultDeadlines, members: 20_000, memberLeft: 20_000, away: 300, containersEnd: 20_000 };

let cluster: EtcdCluster;
beforeEach(async () => {
  cluster = await EtcdCluster.start(['m1', 'm2', 'm3']);
  const via = cluster.machines.map(({ host }) => host);
  await activities().awaitMembers({ via, masters: via });
}, 240_000);
afterEach(() => cluster.stop());

function activities(over: Partial<typeof deadlines> = {}): ReturnType<typeof createEtcdActivities> {
  const backup = { directory: join(cluster.root, 'backup') };
  return createEtcdActivities({ hosts: cluster.hosts, backup, deadlines: { ...deadlines, ...over } });
}

function hostsOf(...names: string[]): EtcdMachine['host'][] {
  return names.map((name) => cluster.machine(name).host);
}

async function leaderName(): Promise<string> {
  const { members } = await activities().listMembers({ via: cluster.machines.map(({ host }) => host) });
  return members.find(({ leader }) => leader)?.name ?? '';
}

async function names(...via: string[]): Promise<string[]> {
  const { members } = await activities().listMembers({ via: hostsOf(...via) });
  return members.map(({ name }) => name).toSorted();
}

/** The leader, or one that does not lead, and the two others. */
async function split(leads: boolean): Promise<{ leaving: EtcdMachine; remaining: EtcdMachine['host'][] }> {
  const leader = await leaderName();
  const leaving = cluster.machines.find(({ host }) => (host.name === leader) === leads);
  if (leaving === undefined) throw new Error('nobody leads');
  return { leaving, remaining: cluster.machines.filter((machine) => machine !== leaving).map(({ host }) => host) };
}

/** Its member is away at the first question for states, and back at the next command; answers whether it was. */
function absentOnce(machine: EtcdMachine): () => boolean {
  const file = join(machine.directory, 'etcd.pid');
  const pid = readFileSync(file, 'utf8');
  return onceAtStates(
    machine,
    () => writeFileSync(file, '999999999'),
    () => writeFileSync(file, pid),
  );
}

/** The member stands still while another machine is asked for states the first time. */
function hangsOnce(machine: EtcdMachine, asked: EtcdMachine): () => boolean {
  const pid = Number(readFileSync(join(machine.directory, 'etcd.pid'), 'utf8'));
  return onceAtStates(
    asked,
    () => process.kill(pid, 'SIGSTOP'),
    () => process.kill(pid, 'SIGCONT'),
  );
}

function onceAtStates(machine: EtcdMachine, begin: () => void, end: () => void): () => boolean {
  let at: 'before' | 'within' | 'after' = 'before';
  machine.onRun = (command) => {
    if (at === 'before' && command.includes('endpoint status')) {
      begin();
      at = 'within';
    } else if (at === 'within') {
      end();
      at = 'after';
    }
  };
  return () => at === 'after';
}

describe('members', { timeout: 120_000 }, () => {
  it('are told by the first machine that answers', async () => {
    cluster.machine('m1').silent = true;

    const { members, askedOf } = await activities().listMembers({ via: hostsOf('m1', 'm2', 'm3') });

    expect(askedOf).toBe('m2');
    expect(members.map(({ name, healthy, learner }) => [name, healthy, learner])).toEqual(
      expect.arrayContaining([
        ['m1', true, false],
        ['m2', true, false],
        ['m3', true, false],
      ]),
    );
  });

  it('are told by the next machine when the member of the first one ends meanwhile', async () => {
    absentOnce(cluster.machine('m1'));

    const { members, askedOf } = await activities().listMembers({ via: hostsOf('m1', 'm2', 'm3') });

    expect(askedOf).toBe('m2');
    expect(members.map(({ healthy }) => healthy)).toEqual([true, true, true]);
  });

  it('are named when their member or their API server is not sound', async () => {
    await cluster.machine('m3').crash();
    cluster.machine('m2').ready = false;
    const masters = hostsOf('m1', 'm2', 'm3');

    const waiting = activities({ members: 500 }).awaitMembers({ via: masters, masters });

    await expect(waiting).rejects.toThrow(/m3 does not answer.*API server of m2 is not ready/);
  });

  it('may be away when that is known, and must be as many as they should', async () => {
    await cluster.machine('m3').crash();
    const masters = hostsOf('m1', 'm2', 'm3');

    const { proof } = await activities().awaitMembers({ via: masters, masters, away: ['m3'] });
    const few = activities({ members: 500 }).awaitMembers({ via: masters, masters: hostsOf('m1', 'm2'), away: ['m3'] });

    expect(proof).toMatch(/m3 \(silent\); m3 away as planned; API server ready on m1, m2/);
    await expect(few).rejects.toThrow(/m3 is a member/);
  });

  it('tell no lies without a majority', async () => {
    await Promise.all([cluster.machine('m2').crash(), cluster.machine('m3').crash()]);

    const asked = activities().listMembers({ via: hostsOf('m1', 'm2', 'm3') });

    await expect(asked).rejects.toMatchObject({
      type: 'Transient',
      message: expect.stringMatching(/m1: .*deadline exceeded.*m2: .*m3: /) as string,
    });
  });
});

describe('the lead', { timeout: 120_000 }, () => {
  it('goes to another one before its master is away, and stays where it is otherwise', async () => {
    const { leaving, remaining } = await split(true);

    const handed = await activities().handOverLead({ master: leaving.host, remaining });
    const next = await leaderName();
    const again = await activities().handOverLead({ master: leaving.host, remaining });

    expect([handed.changed, again.changed]).toEqual([true, false]);
    expect(remaining.map(({ name }) => name)).toContain(next);
    expect(await leaderName()).toBe(next);
    expect([leaving.runs, leaving.state('kubelet-active')]).toEqual([true, 'active']);
  });

  it('is not handed to one that is dead', async () => {
    const { leaving, remaining } = await split(true);
    const [dead, heir] = remaining;
    await cluster.machine(dead?.name ?? '').crash();

    await activities().handOverLead({ master: leaving.host, remaining, leavingLater: [heir?.name ?? ''] });
    const { members } = await activities().listMembers({ via: hostsOf(heir?.name ?? '') });

    expect(members.find(({ leader }) => leader)?.name).toBe(heir?.name);
  });
});

/**
 * Members that have only just found each other may not be removed for some seconds, and refuse. Any other failure is left alone: under load
 * it may have taken effect although the tool gave up waiting.
 */
function runUntilAllowed(bin: string, command: string): void {
  const [tool = '', ...args] = command.trim().split(' ');
  const until = Date.now() + 30_000;
  for (;;) {
    const { stderr } = spawnSync(join(bin, tool), args, { encoding: 'utf8' });
    if (!stderr.includes('unhealthy cluster')) return;
    if (Date.now() > until) throw new Error(`still refused after 30 s: ${command}: ${stderr}`);
  }
}

describe('a member that leaves', { timeout: 120_000 }, () => {
  it.each([true, false])('is out, its machine cannot bring it back (it leads: %s)', async (leads) => {
    const { leaving, remaining } = await split(leads);
    const { name } = leaving.host;

    const left = await activities().leaveEtcd({ migration, master: leaving.host, remaining });

    expect(left).toMatchObject({ changed: true, reached: true, movedLeadership: leads });
    expect(left.members.map((member) => member.name).toSorted()).toEqual(remaining.map((host) => host.name).toSorted());
    expect([leaving.state('kubelet-active'), leaving.state('kubelet-file')]).toEqual(['inactive', 'disabled']);
    expect(leaving.runs).toBe(false);
    const order = leaving.commands.map((command) =>
      command.includes('systemctl stop kubelet')
        ? 'kubelet'
        : (/^crictl .* stop .* (?<id>\S+) *$/.exec(command)?.groups?.['id'] ?? ''),
    );
    // A container that takes its time is told again. The member may have ended by itself by then.
    expect([...new Set(order.filter(Boolean))].filter((name) => name !== '5ca1ab1e')).toEqual(['kubelet', 'a91']);
    // The API server ends while its member still answers.
    expect(leaving.state('api-ended')).toBe('with-etcd');
    await cluster.etcdctlOn(cluster.machine(remaining[0]?.name ?? ''), 'put', 'after', name);

    const again = await activities().leaveEtcd({ migration, master: leaving.host, remaining });
    expect(again).toMatchObject({ changed: false, reached: true, movedLeadership: false });
  });

  it.each([0, 1])(
    'hands over to one that does not leave later itself, whoever of the others is that (%s)',
    async (stays) => {
      const { leaving, remaining } = await split(true);
      const [heir, later] = [remaining[stays], remaining[1 - stays]];

      await activities().leaveEtcd({ migration, master: leaving.host, remaining, leavingLater: [later?.name ?? ''] });
      const { members } = await activities().listMembers({ via: remaining });

      expect(members.find(({ leader }) => leader)?.name).toBe(heir?.name);
    },
  );

  it('stays while one of the others is not sound', async () => {
    const { leaving, remaining } = await split(true);
    const broken = cluster.machine(remaining[0]?.name ?? '');
    await broken.crash();

    const refused = activities({ memberLeft: 1000 }).leaveEtcd({ migration, master: leaving.host, remaining });

    await expect(refused).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringMatching(
        new RegExp(`${leaving.host.name} must not leave etcd now: .*${broken.host.name} does not answer`),
      ) as string,
    });
    expect([leaving.state('kubelet-active'), leaving.runs]).toEqual(['active', true]);
    expect(await names(leaving.host.name)).toEqual(['m1', 'm2', 'm3']);
  });

  it.each([
    ['the one that is asked', (_leaving: EtcdMachine, asked: EtcdMachine) => absentOnce(asked)],
    ['itself', (leaving: EtcdMachine, asked: EtcdMachine) => hangsOnce(leaving, asked)],
  ])('stays while another one is not sound, although a look was missed: by %s', async (_who, miss) => {
    const { leaving, remaining } = await split(true);
    const [asked, broken] = remaining.map(({ name }) => cluster.machine(name));
    if (asked === undefined || broken === undefined) throw new Error('there are three');
    await broken.crash();
    const missed = miss(leaving, asked);

    const refused = activities({ memberLeft: 15_000 }).leaveEtcd({ migration, master: leaving.host, remaining });

    await expect(refused).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringMatching(
        new RegExp(`${leaving.host.name} must not leave etcd now: .*: ${broken.host.name} does not answer`),
      ) as string,
    });
    expect(missed()).toBe(true);
    expect([leaving.state('kubelet-active'), leaving.runs]).toEqual(['active', true]);
    expect(await names(leaving.host.name)).toEqual(['m1', 'm2', 'm3']);
  });

  it('is never one that nobody named', async () => {
    const { leaving } = await split(false);
    const [other] = cluster.machines.filter((machine) => machine !== leaving);
    if (other === undefined) throw new Error('there are three');

    const refused = activities({ memberLeft: 500 }).leaveEtcd({
      migration,
      master: leaving.host,
      remaining: [other.host],
    });

    await expect(refused).rejects.toThrow(/is a member \(id/);
    expect(leaving.runs).toBe(true);
  });

  it.each([true, false])(
    'leaves the others writing although one of them dies at that very moment (it led: %s)',
    async (led) => {
      await cluster.stop();
      cluster = await EtcdCluster.start(['m1', 'm2', 'm3', 'm4']);
      const via = cluster.machines.map(({ host }) => host);
      await activities().awaitMembers({ via, masters: via });
      const leader = await leaderName();
      const [leaving, ...rest] = cluster.machines.filter(({ host }) => host.name !== leader);
      const dies = led ? cluster.machine(leader) : rest[0];
      if (leaving === undefined || dies === undefined) throw new Error('there are four');
      const remaining = cluster.machines.filter((machine) => machine !== leaving).map(({ host }) => host);
      let crash: Promise<void> | undefined;
      leaving.onRun = (command) => {
        if (/^crictl .* stop /.test(command)) crash ??= dies.crash();
      };
      const leave = (): Promise<unknown> =>
        activities({ memberLeft: 12_000 }).leaveEtcd({ migration, master: leaving.host, remaining });

      const first = await leave().catch((error: unknown) => error);
      await crash;
      const alive = cluster.machines.find((machine) => machine !== leaving && machine !== dies)!;
      await cluster.etcdctlOn(alive, 'put', 'meanwhile', 'written');
      dies.silent = false;
      await dies.start();
      const second = await leave();

      expect(first).toMatchObject({ message: expect.stringContaining(`${dies.host.name} does not answer`) as string });
      expect(await names(alive.host.name)).toEqual(remaining.map(({ name }) => name).toSorted());
      expect(second).toMatchObject({ reached: true });
    },
  );

  it('is removed although its machine is dead', async () => {
    const { leaving, remaining } = await split(true);
    await leaving.crash();

    const left = await activities().leaveEtcd({ migration, master: leaving.host, remaining });

    expect(left).toMatchObject({ changed: true, reached: false });
    expect(await names(...remaining.map(({ name }) => name))).toEqual(remaining.map(({ name }) => name).toSorted());
  });

  it('is removed although another one is dead as well', { timeout: 240_000 }, async () => {
    await cluster.stop();
    cluster = await EtcdCluster.start(['m1', 'm2', 'm3', 'm4', 'm5']);
    const via = cluster.machines.map(({ host }) => host);
    await activities().awaitMembers({ via, masters: via });
    await cluster.machine('m4').crash();
    await cluster.machine('m5').crash();
    const leave = (name: string, rest: string[], memberLeft = 60_000): Promise<unknown> =>
      activities({ memberLeft }).leaveEtcd({
        migration,
        master: cluster.machine(name).host,
        remaining: hostsOf(...rest),
      });

    await expect(leave('m3', ['m1', 'm2', 'm4', 'm5'], 3000)).rejects.toThrow(
      /m3 must not leave etcd now.*m4 does not answer/,
    );
    await leave('m4', ['m1', 'm2', 'm3', 'm5']);
    const between = await names('m1');
    await leave('m5', ['m1', 'm2', 'm3']);

    expect(between).toEqual(['m1', 'm2', 'm3', 'm5']);
    expect(await names('m1')).toEqual(['m1', 'm2', 'm3']);
  });

  it('is not removed while only the worker cannot reach its machine', async () => {
    const { leaving, remaining } = await split(false);
    leaving.silent = true;

    const refused = activities().leaveEtcd({ migration, master: leaving.host, remaining });

    await expect(refused).rejects.toMatchObject({
      type: 'Transient',
      message: expect.stringContaining('its member answers the others') as string,
    });
    expect(await names(...remaining.map(({ name }) => name))).toEqual(['m1', 'm2', 'm3']);
  });

  it.each([
    ['kubelet is stopped', /^sh .*systemctl disable/s],
    ['its container is ended', /^crictl .* stop /],
    ['the ports are looked at', /proc\/net\/tcp/],
  ])('leaves at the next try when the connection is lost as %s', async (_when, cut) => {
    const { leaving, remaining } = await split(true);
    let cuts = 0;
    leaving.onRun = (command) => {
      if (cuts > 0 || !cut.test(command)) return;
      cuts += 1;
      throw new HostUnreachable(leaving.host.name, 'the connection was lost');
    };
    const leave = (): ReturnType<ReturnType<typeof createEtcdActivities>['leaveEtcd']> =>
      activities().leaveEtcd({ migration, master: leaving.host, remaining });

    await expect(leave()).rejects.toMatchObject({ type: 'Transient' });
    const left = await leave();

    expect(cuts).toBe(1);
    expect(left).toMatchObject({ reached: true });
    expect(await names(...remaining.map(({ name }) => name))).toEqual(remaining.map(({ name }) => name).toSorted());
    expect([leaving.state('kubelet-file'), leaving.runs]).toEqual(['disabled', false]);
  });

  it.each([
    ['leadership', /move-leader/],
    ['removal', /member remove/],
  ])('leaves at the next try when the answer to its %s is lost', async (_what, cut) => {
    const { leaving, remaining } = await split(true);
    let cuts = 0;
    for (const { name } of remaining) {
      const machine = cluster.machine(name);
      machine.onRun = (command) => {
        if (cuts > 0 || !cut.test(command)) return;
        // It takes effect; only the answer does not come.
        runUntilAllowed(join(machine.directory, 'bin'), command);
        cuts += 1;
        throw new HostUnreachable(name, 'the connection was lost');
      };
    }
    const leave = (): ReturnType<ReturnType<typeof createEtcdActivities>['leaveEtcd']> =>
      activities().leaveEtcd({ migration, master: leaving.host, remaining });

    await expect(leave()).rejects.toMatchObject({ type: 'Transient' });
    const left = await leave();

    expect(cuts).toBe(1);
    expect(left.members.map(({ name }) => name).toSorted()).toEqual(remaining.map(({ name }) => name).toSorted());
  });

  it.each(['handOverLead', 'leaveEtcd'] as const)(
    'has time for all that %s waits for one after the other',
    async (name) => {
      const { leaving, remaining } = await split(true);
      let sum = 0;
      const counting = new Proxy(deadlines, {
        get: (own, key: keyof typeof deadlines) => {
          sum += defaultDeadlines[key];
          return own[key];
        },
      });
      const counted = createEtcdActivities({ hosts: cluster.hosts, backup: { directory: '' }, deadlines: counting });

      const { changed } = await counted[name]({ migration, master: leaving.host, remaining });

      expect(changed).toBe(true);
      expect(sum).toBeGreaterThan(0);
      expect(policies[name].startToClose).toMatch(/^\d+m$/);
      expect(sum).toBeLessThan(Number.parseInt(policies[name].startToClose, 10) * 60_000);
    },
  );

  it('goes from two members to one and cannot stop the other', async () => {
    const first = await split(false);
    await activities().leaveEtcd({ migration, master: first.leaving.host, remaining: first.remaining });
    const [stays, leaves] = first.remaining;
    if (stays === undefined || leaves === undefined) throw new Error('two are left');

    const left = await activities().leaveEtcd({ migration, master: leaves, remaining: [stays] });

    expect(left).toMatchObject({ reached: true, changed: true });
    expect(left.members.map(({ name, healthy }) => [name, healthy])).toEqual([[stays.name, true]]);
    await cluster.etcdctlOn(cluster.machine(stays.name), 'put', 'alone', 'yes');
  });
});

describe('a snapshot', { timeout: 120_000 }, () => {
  /** Restores it with etcd's own tool and reads a key from a member that starts on it. */
  async function keyIn(file: string, key: string): Promise<string> {
    const data = join(cluster.root, 'restored');
    execFileSync(join(partFolder('etcdutl'), 'etcdutl'), ['snapshot', 'restore', file, '--data-dir', data], {
      stdio: 'ignore',
    });
    const [client, peer] = ['http://127.61.0.99:2379', 'http://127.61.0.99:2380'];
    const member = spawn(join(partFolder('etcd'), 'etcd'), [
      ...['--data-dir', data, '--unsafe-no-fsync', '--log-level', 'error'],
      ...['--listen-client-urls', client, '--advertise-client-urls', client, '--listen-peer-urls', peer],
    ]);
    try {
      const argv = ['--endpoints', client, '--command-timeout', '30s', 'get', '--print-value-only', key];
      return execFileSync(join(partFolder('etcd'), 'etcdctl'), argv, { encoding: 'utf8' }).trim();
    } finally {
      const gone = new Promise((resolve) => member.once('exit', resolve));
      member.kill('SIGKILL');
      await gone;
    }
  }

  it('lies below the backup directory, and can be restored', async () => {
    await cluster.etcdctl('put', 'ferry', 'was here');
    const via = hostsOf('m1', 'm2', 'm3');

    const taken = await activities().snapshotEtcd({ migration, via, backup: {} });
    const second = await activities().snapshotEtcd({ migration, via, backup: {} });

    expect(taken.file.startsWith(`${cluster.root}/backup/${migration}/`)).toBe(true);
    expect(statSync(taken.file).mode & 0o777).toBe(0o600);
    expect([statSync(taken.file).size, taken.keys > 0, taken.revision > 1]).toEqual([taken.bytes, true, true]);
    expect(second.file).not.toBe(taken.file);
    expect(existsSync(taken.file)).toBe(true);
    expect(readdirSync(join(cluster.machine('m1').directory, 'data'))).toEqual(['member']);
    expect(await keyIn(taken.file, 'ferry')).toBe('was here');
  });

  it('is encrypted piece by piece where a key is given', async () => {
    await cluster.etcdctl('put', 'ferry', 'was here');
    // More than one piece.
    for (let count = 0; count < 8; count += 1) {
      await cluster.etcdctl(
        'put',
        `big${count}`,
        randomBytes(500_000)
          .toString('base64')
          .slice(0, 110_000 * 6)
          .slice(0, 120_000),
      );
    }
    const key = randomBytes(32);
    writeFileSync(join(cluster.root, 'key'), key);

    const taken = await activities().snapshotEtcd({
      migration,
      via: hostsOf('m1'),
      backup: { keyFile: join(cluster.root, 'key') },
    });

    const sealed = readFileSync(taken.file);
    expect(sealed.includes('was here')).toBe(false);
    expect(statSync(taken.file).mode & 0o777).toBe(0o600);
    const plain = decrypt(sealed, key, basename(taken.file));
    mkdirSync(join(cluster.root, 'plain'));
    writeFileSync(join(cluster.root, 'plain', 'etcd.db'), plain);
    expect(plain.length).toBe(taken.bytes);
    expect(await keyIn(join(cluster.root, 'plain', 'etcd.db'), 'ferry')).toBe('was here');
  });

  it('that is damaged on the way is not kept', async () => {
    const machine = cluster.machine('m1');
    machine.onRun = (command) => {
      if (!command.includes('copying') && !command.includes('cp --reflink')) return;
      const [folder = ''] = readdirSync(join(machine.directory, 'data')).filter((name) => name !== 'member');
      const file = join(machine.directory, 'data', folder, 'snapshot.db');
      const content = readFileSync(file);
      content[content.length - 1000] = 1 + (content[content.length - 1000] ?? 0);
      writeFileSync(file, content);
    };

    const taken = activities().snapshotEtcd({ migration, via: hostsOf('m1'), backup: {} });

    await expect(taken).rejects.toMatchObject({
      type: 'Transient',
      message: expect.stringMatching(/not usable/) as string,
    });
    expect(readdirSync(join(machine.directory, 'data'))).toEqual(['member']);
  });
});
