/* The lab itself: masters that lose members, machines and keys as real ones do. Inside a lab with a stacked control plane. */
import { parse, stringify } from 'yaml';
import { beforeAll, describe, expect, it } from 'vitest';
import { faults } from '../../lab/faults.ts';
import { hostNamed, onMachine } from '../../lab/machines/machines.ts';
import { allHosts, type LabHost } from '../../lab/paths.ts';
import { poll } from '../../lab/process.ts';
import type { HaproxyDocument } from '../../lab/stand-ins/slb/haproxy.ts';
import { run } from '../../lab/workloads/run.ts';

const old = allHosts.filter(({ role }) => role === 'old');
const [old1, old2, old3, new1] = ['old1', 'old2', 'old3', 'new1'].map(hostNamed) as [
  LabHost,
  LabHost,
  LabHost,
  LabHost,
];

interface Member {
  name: string;
  isLearner?: boolean;
  clientURLs?: string[];
}

/** etcdctl of the image: on the machines there is none. */
async function etcdctl(through: LabHost, ...args: string[]): Promise<string> {
  const folder = '/etc/kubernetes/pki/etcd';
  const tls = [`--cacert=${folder}/ca.crt`, `--cert=${folder}/server.crt`, `--key=${folder}/server.key`];
  const endpoint = '--endpoints=https://127.0.0.1:2379';
  const pod = ['-n', 'kube-system', 'exec', `etcd-${through.name}`, '--'];
  return (await run(['kubectl', ...pod, 'etcdctl', endpoint, ...tls, ...args], { timeout: 30_000 })).stdout;
}

/** Names of the members that have started and vote. */
async function voters(through: LabHost): Promise<string[]> {
  const { members } = JSON.parse(await etcdctl(through, 'member', 'list', '-w', 'json')) as { members: Member[] };
  return members
    .filter(({ isLearner, clientURLs }) => isLearner !== true && (clientURLs ?? []).length > 0)
    .map(({ name }) => name)
    .sort();
}

async function healthy(through: LabHost): Promise<number> {
  const answer = await etcdctl(through, 'endpoint', 'health', '--cluster', '-w', 'json');
  return (JSON.parse(answer) as { health: boolean }[]).filter(({ health }) => health).length;
}

/** One that does not lead, nor is the first: without the leader nothing is written for an election. */
async function follower(): Promise<LabHost> {
  const answer = await etcdctl(old1, 'endpoint', 'status', '--cluster', '-w', 'json');
  // identifiers of members are larger than the numbers of JavaScript
  const statuses = JSON.parse(answer.replaceAll(/:(\d{15,})/g, ':"$1"')) as {
    Endpoint: string;
    Status: { header: { member_id: string }; leader: string };
  }[];
  const leads = statuses.find(({ Status: { header, leader } }) => header.member_id === leader);
  return leads?.Endpoint.includes(old2.address) === true ? old3 : old2;
}

/** One write through the API; false when it failed within three seconds. */
async function write(): Promise<boolean> {
  const stamp = `stamp=${Date.now()}`;
  const argv = ['kubectl', '--request-timeout=3s', 'annotate', '--overwrite', 'namespace', 'default', stamp];
  return (await run(argv, { allowFailure: true, timeout: 20_000 })).code === 0;
}

/** Addresses of the masters behind the balancer of a machine, as its haproxy is configured. */
async function backends(host: LabHost): Promise<string[]> {
  const { stdout } = await onMachine(host, 'cat /usr/local/haproxy/haproxy.cfg');
  return [...stdout.matchAll(/^ {2}server (\S+) \S+:6443 check$/gm)].map(([, name]) => name ?? '');
}

async function trusted(host: LabHost): Promise<string[]> {
  const { stdout } = await onMachine(host, 'firewall-cmd --ipset=proton-cs-host --get-entries');
  return stdout.trim().split('\n').sort();
}

function balancer(host: LabHost): string {
  return `http://${host.address}:9547/api/slb/v1/haproxy/haproxy`;
}

async function send(host: LabHost, method: 'POST' | 'PUT', document: object): Promise<number> {
  const headers = { 'content-type': 'application/json' };
  return (await fetch(balancer(host), { method, headers, body: JSON.stringify(document) })).status;
}

async function documentOf(host: LabHost): Promise<HaproxyDocument> {
  return (await (await fetch(balancer(host))).json()) as HaproxyDocument;
}

function without(document: HaproxyDocument, name: string): HaproxyDocument {
  const { backend } = document.conf;
  const server = [backend['cs']?.['server'] ?? []].flat().filter((line) => !line.startsWith(`${name} `));
  return { conf: { ...document.conf, backend: { ...backend, cs: { ...backend['cs'], server } } } };
}

/** Whether a master answers behind a machine's balancer: of the certificates only its own names its address (and each that of old1). */
async function answersAs(through: LabHost, master: LabHost): Promise<boolean> {
  const server = [`--server=https://${through.address}:8443`, `--tls-server-name=${master.address}`];
  const argv = ['kubectl', '--request-timeout=5s', ...server, 'get', '--raw', '/readyz'];
  return (await run(argv, { allowFailure: true, timeout: 20_000 })).code === 0;
}

interface Configuration {
  nodes: { name: string; ip4: string }[];
  cs: { master: string[] };
}

async function apply(change: (configuration: Configuration) => void): Promise<{ code: number | null; said: string }> {
  const { stdout } = await onMachine(old1, 'proton-cli get conf');
  const configuration = parse(stdout, { version: '1.1' }) as Configuration;
  change(configuration);
  const input = stringify(configuration, { version: '1.1', sortMapEntries: true, lineWidth: 0 });
  await onMachine(old1, 'umask 077; cat > /root/stacked-test.yaml', { input });
  const command = 'cd /opt/proton-package && proton-cli apply -f /root/stacked-test.yaml';
  const { code, stdout: out, stderr } = await onMachine(old1, command, { allowFailure: true, timeout: 900_000 });
  return { code, said: out + stderr };
}

function withNew1({ nodes, cs }: Configuration): void {
  nodes.push({ name: new1.name, ip4: new1.address });
  cs.master.push(new1.name);
}

beforeAll(async () => {
  if (process.env['LAB_CONTROL_PLANE'] !== 'stacked')
    throw new Error('this needs a stacked lab: npm run -s lab -- up --control-plane stacked');
  // A machine that another test switched off has lost what lay in /tmp; the check of a plan says how it comes back.
  const file = '/tmp/kubeadm-config.yaml';
  const content = "kubectl -n kube-system get configmap kubeadm-config -o jsonpath='{.data.ClusterConfiguration}'";
  await onMachine(old1, `umask 077; [ -e ${file} ] || ${content} > ${file}`);
  // Its API server may be back and not know all rules yet.
  await poll('the masters as other tests left them', 240, async () => (await healthy(old1)) === 3, 1000);
});

describe('a stacked control plane', () => {
  it('has three members that vote, and their tools only in their image', async () => {
    expect(await voters(old1)).toEqual(['old1', 'old2', 'old3']);
    expect(await healthy(old1)).toBe(3);
    for (const host of old) {
      expect((await onMachine(host, 'command -v etcdctl etcd', { allowFailure: true })).stdout).toBe('');
      expect(await backends(host)).toEqual(['old1', 'old2', 'old3']);
    }
    const { stdout } = await run(['kubectl', 'get', 'nodes', '-o', 'jsonpath={.items[*].spec.taints}']);
    expect(stdout, 'taints of the masters').toBe('');
  });

  it('balances by the document that was put last, and keeps it when the next is none', async () => {
    const before = await documentOf(old2);
    expect(await send(old2, 'POST', before), 'there is one already').toBe(409);
    // The first master of the list takes all, once the balancer has seen that it is back from what another file did to it.
    await poll('old1 behind the balancer of old2', 120, async () => !(await answersAs(old2, old2)));
    expect(await send(old2, 'PUT', without(before, 'old1'))).toBe(204);
    expect(await backends(old2)).toEqual(['old2', 'old3']);
    await poll('old2 behind its own balancer', 20, () => answersAs(old2, old2));
    const broken = { conf: { ...before.conf, frontend: { cs: { bind: 'nowhere', mode: 'tcp' } } } };
    expect(await send(old2, 'PUT', broken)).toBe(400);
    expect(await backends(old2)).toEqual(['old2', 'old3']);
    expect(await send(old2, 'PUT', before)).toBe(204);
    expect(await backends(old2)).toEqual(['old1', 'old2', 'old3']);
    expect((await fetch(balancer(new1))).status, 'a new machine has no document').toBe(404);
  });

  it('goes on writing without one machine, and takes it back', async () => {
    const { name } = await follower();
    await faults['crash']?.([name]);
    expect(await write()).toBe(true);
    expect((await voters(old1)).length).toBe(3);
    await faults['start']?.([name]);
    await poll('the third member', 120, async () => (await healthy(old1)) === 3, 1000);
  });

  it('starts a member again that was killed', async () => {
    const { name } = await follower();
    const started = async (): Promise<string> => {
      const path = 'jsonpath={.status.containerStatuses[0].containerID}';
      return (await run(['kubectl', '-n', 'kube-system', 'get', 'pod', `etcd-${name}`, '-o', path])).stdout;
    };
    const before = await started();
    await faults['kill-etcd']?.([name]);
    expect(await write()).toBe(true);
    // kubelet waits the longer, five minutes at most, the more often its container ended since the machine came back.
    await poll('another container', 360, async () => (await started()) !== before, 1000);
    await poll('the member', 60, async () => (await healthy(old1)) === 3, 1000);
  });

  it('adds no master without what the first install left on the first one', async () => {
    await onMachine(old1, 'mv /tmp/kubeadm-config.yaml /root/');
    const { code, said } = await apply(withNew1);
    await onMachine(old1, 'mv /root/kubeadm-config.yaml /tmp/');
    expect(code).toBe(1);
    expect(said).toContain('unable to token and certificate: 10.77.0.11: failed to get certificate: exit status 1');
    expect(await voters(old1)).toEqual(['old1', 'old2', 'old3']);
  });

  it('adds a master by the same file again', async () => {
    const { code, said } = await apply(withNew1);
    expect(code, said).toBe(0);
    expect(await voters(old1)).toEqual(['new1', 'old1', 'old2', 'old3']);
    expect(await healthy(new1)).toBe(4);
    for (const host of [...old, new1]) {
      expect(await backends(host), host.name).toEqual(['old1', 'old2', 'old3', 'new1']);
      expect(await trusted(host), host.name).toContain(new1.address);
    }
    const { stdout } = await run(['kubectl', 'get', 'node', 'new1', '-o', 'jsonpath={.spec.taints[*].key}']);
    expect(stdout).toBe('node-role.kubernetes.io/control-plane');
    expect((await onMachine(new1, 'kubectl get --raw /readyz')).stdout).toBe('ok');
  });

  it('shuts a master out before it leaves, and removes nothing of it', async () => {
    const { code, said } = await apply(({ nodes, cs }) => {
      nodes.splice(
        nodes.findIndex(({ name }) => name === 'new1'),
        1,
      );
      cs.master = cs.master.filter((name) => name !== 'new1');
    });
    // its name is the first of all control planes
    expect(code).toBe(1);
    expect(said).toContain('unable to delete nodes: ip of master node "new1" not found');
    for (const host of old) {
      expect(await trusted(host)).toEqual(old.map(({ address }) => address));
      expect(await backends(host)).toEqual(['old1', 'old2', 'old3']);
    }
    expect(await voters(old1)).toEqual(['new1', 'old1', 'old2', 'old3']);
    expect((await onMachine(new1, 'systemctl is-enabled kubelet')).stdout.trim()).toBe('enabled');
    const shut = `/opt/node/bin/node -e 'require("net").connect(2380, "${old3.address}").on("connect", () => process.exit(1)).on("error", () => process.exit(0))'`;
    expect((await onMachine(new1, shut, { allowFailure: true })).code, 'a new connection to a member').toBe(0);
  });

  it('lets it in again by the configuration that is recorded', async () => {
    const { code, said } = await apply(() => undefined);
    expect(code, said).toBe(0);
    for (const host of [...old, new1]) expect(await trusted(host)).toContain(new1.address);
    expect(await healthy(new1)).toBe(4);
  });
});
