/* How a master comes and goes, on masters that kubeadm made. Ends with the three masters it began with. Inside a lab with a stacked control plane. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { faults } from '../../lab/faults.ts';
import { hostNamed, onMachine } from '../../lab/machines/machines.ts';
import type { LabHost } from '../../lab/paths.ts';
import { poll } from '../../lab/process.ts';
import { run } from '../../lab/workloads/run.ts';
import type { MasterActivities } from '../../src/activities/contract.ts';
import { defaultDeadlines } from '../../src/activities/deadlines.ts';
import { createEtcdActivities } from '../../src/activities/etcd.ts';
import { createKubernetesApi, type KubernetesApi, loadKubeConfig, path } from '../../src/activities/kubernetes-api.ts';
import { createMasterActivities } from '../../src/activities/masters.ts';
import type { Hosts } from '../../src/hosts/contract.ts';
import { HostUnreachable } from '../../src/hosts/errors.ts';
import type { Host } from '../../src/plan/plan.ts';
import { labHosts, machine } from '../hosts/machines.ts';

const migration = 'migrate-masters';
const [old1, old2, old3] = ['old1', 'old2', 'old3'].map(hostNamed) as [LabHost, LabHost, LabHost];

let hosts: Hosts;
let api: KubernetesApi;
let all: [Host, Host, Host];
beforeAll(async () => {
  if (process.env['LAB_CONTROL_PLANE'] !== 'stacked')
    throw new Error('this needs a stacked lab: npm run -s lab -- up --control-plane stacked');
  hosts = await labHosts();
  api = createKubernetesApi(loadKubeConfig());
  const found = await Promise.all([old1, old2, old3].map(({ name }) => machine(name)));
  all = found.map((host) => ({ ...host, role: 'old' as const })) as [Host, Host, Host];
});
afterAll(() => hosts.close());

function activities(through: Hosts = hosts): MasterActivities {
  const deadlines = { ...defaultDeadlines, members: 240_000, drained: 120_000, away: 6000 };
  return {
    ...createEtcdActivities({ hosts: through, backup: { directory: '/var/lib/ferry/backup' }, deadlines }),
    ...createMasterActivities({ api, hosts: through, deadlines }),
  };
}

/** Connections that are lost once, right after the first command that matches each pattern had its effect. */
function losing(patterns: readonly RegExp[]): { hosts: Hosts; lost: RegExp[] } {
  const lost: RegExp[] = [];
  return {
    lost,
    hosts: {
      close: () => Promise.resolve(),
      connect: async (host) => {
        const connection = await hosts.connect(host);
        return {
          ...connection,
          run: async (argv, options) => {
            const result = await connection.run(argv, options);
            const command = [...argv, String(options?.input ?? '')].join(' ');
            const cut = patterns.find((pattern) => pattern.test(command) && !lost.includes(pattern));
            if (cut === undefined) return result;
            lost.push(cut);
            throw new HostUnreachable(host.name, 'the connection was lost');
          },
        };
      },
    },
  };
}

/** As Temporal does it: tried again while the failure says that it heals by itself. */
async function retried<T>(step: () => Promise<T>): Promise<{ value: T; tries: number }> {
  for (let tries = 1; ; tries += 1) {
    try {
      return { value: await step(), tries };
    } catch (error) {
      if (tries >= 8 || (error as { type?: string }).type !== 'Transient') throw error;
    }
  }
}

/** What leads through a Kubernetes join by hand; the tool's own way has tests of its own. */
async function joinMaster(host: LabHost): Promise<void> {
  const { stdout: keys } = await onMachine(
    old1,
    'kubeadm init phase upload-certs --upload-certs --config=/tmp/kubeadm-config.yaml 2>/dev/null | tail -n 1',
    { timeout: 120_000 },
  );
  const { stdout: command } = await onMachine(old1, 'kubeadm token create --print-join-command 2>/dev/null', {
    timeout: 120_000,
  });
  // The platform enables kubelet once its machine has joined; kubeadm does not.
  const own = `--control-plane --certificate-key ${keys.trim()} --apiserver-advertise-address ${host.address} --node-name ${host.name}`;
  await onMachine(
    host,
    `${command.trim()} ${own} > /var/log/kubeadm.log 2>&1 || { tail -n 20 /var/log/kubeadm.log >&2; exit 1; }; systemctl enable kubelet`,
    {
      timeout: 400_000,
    },
  );
}

async function on(host: LabHost, command: string): Promise<string> {
  return (await onMachine(host, command, { allowFailure: true, timeout: 120_000 })).stdout.trim();
}

/** What an etcd holds that starts on a restored snapshot, on this side of the lab. */
async function restore(host: Host, file: string): Promise<{ keys: number; revision: number }> {
  const directory = mkdtempSync(join(tmpdir(), 'ferry-restore-'));
  const snapshot = join(directory, 'snapshot.db');
  const connection = await hosts.connect(host);
  writeFileSync(snapshot, (await connection.readFile(file)) ?? '', { mode: 0o600 });
  const data = join(directory, 'data');
  await run(['etcdutl', 'snapshot', 'restore', snapshot, '--data-dir', data], { timeout: 60_000 });
  const endpoint = 'http://127.0.0.1:23790';
  const peers = ['--listen-peer-urls', 'http://127.0.0.1:23800'];
  const clients = ['--listen-client-urls', endpoint, '--advertise-client-urls', endpoint];
  const server = spawn('etcd', ['--data-dir', data, ...clients, ...peers], { stdio: 'ignore' });
  try {
    const ask = ['etcdctl', '--endpoints', endpoint, 'get', '', '--from-key', '--count-only', '--write-out', 'fields'];
    let said = '';
    await poll('the restored etcd', 60, async () => {
      const { code, stdout } = await run(ask, { timeout: 10_000, allowFailure: true });
      said = stdout;
      return code === 0;
    });
    const field = (name: string): number => Number(new RegExp(`"${name}" : (\\d+)`).exec(said)?.[1]);
    return { keys: field('Count'), revision: field('Revision') };
  } finally {
    server.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}

async function nodes(): Promise<string[]> {
  const found = await api.list<{ metadata: { name: string } }>(path('v1', undefined, 'nodes'));
  return found.map(({ metadata }) => metadata.name).sort();
}

async function names(via: readonly Host[]): Promise<string[]> {
  const { members } = await activities().listMembers({ via: [...via] });
  return members.map(({ name }) => name).sort();
}

/** The data of components as a reset must leave it: names, modes, times and contents. */
async function fingerprint(host: LabHost): Promise<string> {
  return on(
    host,
    "cd /sysvol && find . -path ./proton_data -prune -o -printf '%p %m %U %G %T@ %s\\n' | sort | sha256sum; find . -path ./proton_data -prune -o -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum",
  );
}

function masters(...of: Host[]): { name: string; address: string }[] {
  return of.map(({ name, address }) => ({ name, address }));
}

describe('masters', () => {
  it('are seen as they are, through the tool in their image', async () => {
    const { proof, members } = await activities().awaitMembers({ via: all, masters: all });

    expect(members.map(({ name }) => name).sort()).toEqual(['old1', 'old2', 'old3']);
    expect(members.filter(({ leader }) => leader)).toHaveLength(1);
    expect(proof).toContain('API server ready on old1, old2, old3');
  });

  it('give a snapshot that etcd itself finds sound', async () => {
    const taken = await activities().snapshotEtcd({ migration, via: all, backup: {} });

    expect(taken.host).toBe('old1');
    expect(taken.keys).toBeGreaterThan(100);
    expect(await on(old1, `stat -c '%a %s' ${taken.file}`)).toBe(`600 ${taken.bytes}`);
    expect(await on(old1, 'ls /sysvol/proton_data/cs_etcd_data')).toBe('member');
    const restored = await restore(all[0], taken.file);
    expect(restored.revision).toBe(taken.revision);
    // The snapshot counts what was overwritten as well.
    expect(restored.keys).toBeLessThanOrEqual(taken.keys);
    expect(restored.keys).toBeGreaterThan(100);
  });

  it('stand behind the balancers that are set, and only those are touched', async () => {
    const before = await on(old2, 'cat /usr/local/haproxy/haproxy.cfg');

    const set = await activities().setBalancers({ on: [all[0], all[1]], masters: masters(all[0], all[1]) });
    const again = await activities().setBalancers({ on: [all[0], all[1]], masters: masters(all[0], all[1]) });

    expect([set.changed, again.changed]).toEqual([true, false]);
    const after = await on(old2, 'cat /usr/local/haproxy/haproxy.cfg');
    expect(after).toBe(before.replace(/\n.*old3 10\.77\.0\.13:6443.*/, ''));
    expect(after).not.toBe(before);
    expect(await on(old3, 'grep -c :6443 /usr/local/haproxy/haproxy.cfg')).toBe('3');
    expect(await on(old2, 'kubectl get --raw /readyz')).toBe('ok');
  });
});

describe('a master whose machine is off', () => {
  it('is taken out all the same', async () => {
    await faults['crash']?.(['old3']);
    const remaining = [all[0], all[1]];

    // The balancers notice within seconds that it is gone; until then some connections to the API are lost.
    await retried(() => activities().drainNode({ node: 'old3' }));
    const { value: left } = await retried(() => activities().leaveEtcd({ migration, master: all[2], remaining }));
    const { value: reset } = await retried(() => activities().resetNode({ migration, host: all[2] }));
    const { value: deleted } = await retried(() =>
      activities().deleteNode({ node: 'old3', configNamespace: 'proton' }),
    );

    expect([left.reached, reset.reached, deleted.changed]).toEqual([false, false, true]);
    expect(await nodes()).toEqual(['old1', 'old2']);
    const { members } = await activities().awaitMembers({ via: remaining, masters: remaining });
    expect(members.map(({ name }) => name).sort()).toEqual(['old1', 'old2']);
  });

  it('is no member when it comes back, and can be reset then', async () => {
    await faults['start']?.(['old3']);
    // kubelet starts what it finds there, etcd with it, which ends at once: it is no member any more.
    await poll('its kubelet', 120, async () => (await on(old3, 'systemctl is-active kubelet')) === 'active', 1000);
    await poll('its API server', 120, async () => (await on(old3, 'ctr -n k8s.io task ls -q | wc -l')) > '3', 1000);
    const remaining = [all[0], all[1]];
    expect(await names(remaining)).toEqual(['old1', 'old2']);

    const left = await activities().leaveEtcd({ migration, master: all[2], remaining });
    const reset = await activities().resetNode({ migration, host: all[2] });
    await activities().deleteNode({ node: 'old3', configNamespace: 'proton' });

    expect([left.reached, reset.reached, reset.changed]).toEqual([true, true, true]);
    expect(await nodes()).toEqual(['old1', 'old2']);
  });

  it('can join again', async () => {
    await joinMaster(old3);

    await activities().awaitMembers({ via: all, masters: all });
    const taints = await activities().matchTaints({ node: 'old3', like: 'old2' });
    const again = await activities().matchTaints({ node: 'old3', like: 'old2' });

    expect([taints.changed, again.changed]).toEqual([true, false]);
    // Others, of a Node that is not ready yet, are not ours.
    expect(await on(old1, "kubectl get node old3 -o 'jsonpath={.spec.taints}'")).not.toContain('node-role');
  });
});

describe('a master that leads', () => {
  const volume = '/var/lib/kubelet/pods/00000000-0000-0000-0000-000000000001/volumes/kubernetes.io~local-volume/data';
  let before = '';

  beforeAll(async () => {
    await on(old3, 'mkdir -p /sysvol/redis/redis_data && echo precious > /sysvol/redis/redis_data/dump.rdb');
    // So that the one that leads is not the one this test talks to the API through.
    const { members } = await activities().listMembers({ via: [all[0], all[1]] });
    const leader = members.find((member) => member.leader)?.name ?? '';
    const heir = members.find(({ name }) => name === 'old3')?.id ?? '';
    const tls =
      'etcdctl --cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/server.crt --key /etc/kubernetes/pki/etcd/server.key';
    if (leader !== 'old3') {
      await run(
        ['kubectl', '-n', 'kube-system', 'exec', `etcd-${leader}`, '--', ...tls.split(' '), 'move-leader', heir],
        {
          timeout: 30_000,
        },
      );
    }
  });

  it('hands over and leaves, whatever connection is lost on the way', async () => {
    const remaining = [all[0], all[1]];
    const cut = losing([/systemctl disable/, /move-leader/, /task kill/, /member remove/]);

    await activities().setBalancers({ on: remaining, masters: masters(...remaining) });
    await activities().drainNode({ node: 'old3' });
    const { value: left, tries } = await retried(() =>
      activities(cut.hosts).leaveEtcd({ migration, master: all[2], remaining }),
    );

    expect([cut.lost.length, tries]).toEqual([4, 5]);
    expect(left.reached).toBe(true);
    expect(await names(remaining)).toEqual(['old1', 'old2']);
    expect(await on(old3, 'systemctl is-active kubelet; systemctl is-enabled kubelet')).toBe('inactive\ndisabled');
  });

  it('is not reset while a volume is mounted that cannot be unmounted', async () => {
    await on(old3, `mkdir -p ${volume} && mount --bind /sysvol/redis/redis_data ${volume}`);
    await on(old3, `systemd-run --quiet --unit holder --working-directory ${volume} sleep 600`);

    const refused = activities().resetNode({ migration, host: all[2] });

    await expect(refused).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining(volume) as string,
    });
    expect(await on(old3, 'cat /sysvol/redis/redis_data/dump.rdb')).toBe('precious');
    expect(await on(old3, 'ls /etc/kubernetes/manifests')).toContain('etcd.yaml');
    await on(old3, 'systemctl stop holder');
    // All containers have ended by now: components write no more.
    before = await fingerprint(old3);
  });

  it('is reset, again after a lost answer, and keeps the data of components', async () => {
    const cut = losing([/kubeadm reset/]);

    const { value: reset, tries } = await retried(() => activities(cut.hosts).resetNode({ migration, host: all[2] }));
    const again = await activities().resetNode({ migration, host: all[2] });

    expect([tries, reset.reached, again.changed]).toEqual([2, true, false]);
    expect(await fingerprint(old3)).toBe(before);
    expect(await on(old3, 'ls -A /sysvol/proton_data/cs_etcd_data /etc/kubernetes/manifests')).not.toMatch(
      /member|yaml/,
    );
    expect(await on(old3, 'ctr -n k8s.io task ls -q; ss -Hltn | grep -E ":(6443|2379|2380|10250) "')).toBe('');
  });

  it('is deleted as a Node, with its backup job, and stays away after a boot', async () => {
    await run(['kubectl', 'create', 'namespace', 'proton'], { allowFailure: true });
    await run([
      'kubectl',
      '-n',
      'proton',
      'create',
      'cronjob',
      'proton-cs-backup-old3',
      '--image=none',
      '--schedule=30 18 * * *',
    ]);

    const deleted = await activities().deleteNode({ node: 'old3', configNamespace: 'proton' });
    const again = await activities().deleteNode({ node: 'old3', configNamespace: 'proton' });

    expect([deleted.changed, again.changed]).toEqual([true, false]);
    // Those of the other masters stay.
    expect((await run(['kubectl', '-n', 'proton', 'get', 'cronjobs', '-o', 'name'])).stdout).not.toContain('old3');
    await faults['stop']?.(['old3']);
    const remaining = [all[0], all[1]];
    await activities().awaitMembers({ via: remaining, masters: remaining });
    await faults['start']?.(['old3']);
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    expect(await on(old3, 'systemctl is-active kubelet')).toBe('inactive');
    expect(await nodes()).toEqual(['old1', 'old2']);
    expect(await names(remaining)).toEqual(['old1', 'old2']);
  });

  it('comes back as it was', async () => {
    await joinMaster(old3);
    await activities().awaitMembers({ via: all, masters: all });
    await activities().matchTaints({ node: 'old3', like: 'old2' });
    const set = await activities().setBalancers({ on: all, masters: masters(...all) });

    expect(set.changed).toBe(true);
    expect(await on(old1, 'grep -c :6443 /usr/local/haproxy/haproxy.cfg')).toBe('3');
    expect(await nodes()).toEqual(['old1', 'old2', 'old3']);
  });
});

describe('the control host', () => {
  const platform = {
    ...{ configNamespace: 'proton', resourceNamespace: 'resource', controlHost: 'old1', home: '/root' },
    ...{ packageDirectory: '/opt/proton-package', protonCli: 'proton-cli', versions: {} },
    containerRuntime: 'containerd' as const,
  };
  /** kubeadm takes the file for what it is. */
  const keys =
    'kubeadm init phase upload-certs --upload-certs --config=/tmp/kubeadm-config.yaml 2>&1 | tail -n 1 | grep -cE "^[0-9a-f]{64}$"';

  it('hands over what the next one needs, once', async () => {
    await on(old2, 'rm -f /tmp/kubeadm-config.yaml');
    const input = { migration, from: all[0], to: all[1], platform };

    const moved = await activities().moveControl(input);
    const again = await activities().moveControl(input);

    expect([moved.changed, again.changed]).toEqual([true, false]);
    const [before, after] = [
      await on(old1, 'cat /tmp/kubeadm-config.yaml'),
      await on(old2, 'cat /tmp/kubeadm-config.yaml'),
    ];
    expect(after).toBe(
      before
        .replace('advertiseAddress: 10.77.0.11', 'advertiseAddress: 10.77.0.12')
        .replace(/^ {2}name: old1$/m, '  name: old2'),
    );
    expect(await on(old2, 'stat -c %a /tmp/kubeadm-config.yaml')).toBe('600');
    expect(await on(old2, keys)).toBe('1');
  });

  it('is followed by one that makes the files by itself when it is dead', async () => {
    await on(old3, 'rm -f /tmp/kubeadm-config.yaml');
    const gone: Hosts = {
      close: () => Promise.resolve(),
      connect: (host) =>
        host.name === 'old1' ? Promise.reject(new HostUnreachable('old1', 'no answer')) : hosts.connect(host),
    };

    const { proof } = await activities(gone).moveControl({ migration, from: all[0], to: all[2], platform });

    expect(proof).toContain('old1 did not answer');
    expect(await on(old3, keys)).toBe('1');
  });

  it('sees which hosts files still name a machine', async () => {
    const found = await activities().listLeftovers({ hosts: [all[0]], removed: masters(all[2]) });

    expect(found).toEqual([{ host: 'old1', lines: ['10.77.0.13 old3'] }]);
  });
});
