import { writeFile } from 'node:fs/promises';
import { kubectl, must } from './operator.ts';

/* Masters as their own tools and files show them: nothing of the product takes part. */

interface Member {
  ID: number;
  name: string;
  isLearner?: boolean;
}

/** Asks the member on a machine. */
export async function etcdctl(master: string, ...args: string[]): Promise<string> {
  const pki = '/etc/kubernetes/pki/etcd';
  const keys = [
    `--cacert=${pki}/ca.crt`,
    `--cert=${pki}/healthcheck-client.crt`,
    `--key=${pki}/healthcheck-client.key`,
  ];
  const pod = ['kubectl', '-n', 'kube-system', 'exec', `etcd-${master}`, '--', 'etcdctl'];
  return must([...pod, '--endpoints=https://127.0.0.1:2379', ...keys, ...args]);
}

/** How many members say that they are healthy, each asked by itself. */
export async function healthyMembers(via: string): Promise<number> {
  const answer = await etcdctl(via, 'endpoint', 'health', '--cluster', '-w', 'json');
  return (JSON.parse(answer) as { health: boolean }[]).filter(({ health }) => health).length;
}

/** Names of the members that vote. */
export async function membersOf(via: string): Promise<string[]> {
  const { members } = JSON.parse(await etcdctl(via, 'member', 'list', '-w', 'json')) as { members: Member[] };
  return members
    .filter(({ isLearner }) => isLearner !== true)
    .map(({ name }) => name)
    .toSorted();
}

/** Makes a member the leader, whoever it was. */
export async function leadFrom(master: string): Promise<void> {
  // identifiers of members are larger than the numbers of JavaScript
  const line = (await etcdctl(master, 'member', 'list'))
    .split('\n')
    .map((text) => text.split(', '))
    .find(([, , name]) => name === master);
  for (const via of await membersOf(master)) {
    const answer = await etcdctl(via, 'move-leader', line?.[0] ?? '').catch((error: unknown) => String(error));
    if (answer.includes('Leadership transferred')) return;
  }
  throw new Error(`nobody could hand over to ${master}`);
}

export async function nodeNames(): Promise<string[]> {
  const { items } = await kubectl<{ items: { metadata: { name: string } }[] }>('get', 'nodes');
  return items.map(({ metadata }) => metadata.name).toSorted();
}

interface Kubeconfig {
  clusters: { cluster: { server: string; 'tls-server-name'?: string } }[];
}

/** From now on kubectl goes through the load balancer of another machine, as an operator turns to it when the first one has left. */
export async function goThrough(address: string, file: string): Promise<void> {
  const config = JSON.parse(await must(['kubectl', 'config', 'view', '--raw', '-o', 'json'])) as Kubeconfig;
  for (const { cluster } of config.clusters) {
    cluster.server = `https://${address}:8443`;
    cluster['tls-server-name'] = 'proton-cs.lb.aishu.cn';
  }
  await writeFile(file, JSON.stringify(config), { mode: 0o600 });
  process.env.KUBECONFIG = file;
}

async function on(host: string, script: string): Promise<string[]> {
  const said = await must([process.execPath, 'lab/cli.ts', 'ssh', host, 'sh', '-c', script]);
  return said.split('\n').filter((line) => line !== '');
}

/** What still makes a machine a master: a kubelet that starts, static pods, a member's data, open ports. */
export async function partsOfMaster(host: string): Promise<string[]> {
  // One line: no control character travels through a shell.
  const script = [
    "systemctl is-enabled --quiet kubelet && echo 'kubelet is enabled'",
    "systemctl is-active --quiet kubelet && echo 'kubelet is active'",
    "find /etc/kubernetes/manifests /sysvol/proton_data/cs_etcd_data -name member -o -name '*.yaml' 2> /dev/null",
    "ss -Hltn '( sport = :2379 or sport = :2380 or sport = :6443 )'",
  ];
  return on(host, script.join('; '));
}

/**
 * What a fresh install over a live cluster would have left. It fails in kubeadm's preflight, so that Nodes and objects stay as they are;
 * but it stops every kubelet on its way, and the agents of the machines keep what they were told. A machine that joins is told to stop
 * its kubelet as well.
 */
export async function freshInstalls({ nodes, joined }: { nodes: string[]; joined: string[] }): Promise<string[]> {
  const found: string[] = [];
  for (const host of [...nodes, ...joined]) {
    const log = await on(host, 'cat /var/log/ecms/server.log');
    if (!log.some((line) => line.includes(' exec '))) found.push(`${host}: its agent was never asked`);
    const told = log.filter(
      (line) =>
        /exec kubeadm init (?!phase)/.test(line) ||
        (nodes.includes(host) && line.includes('exec systemctl stop kubelet')),
    );
    // 1 says that none has the line; anything else, that nobody knows.
    const applies = await on(
      host,
      "cd /var/lib/ferry && { [ ! -d jobs ] || grep -rl 'init kubernetes cluster begin' jobs || [ $? -eq 1 ]; }",
    );
    found.push(...[...told, ...applies].map((line) => `${host}: ${line}`));
  }
  return found;
}

/** Of these machines, those whose kubelet runs. */
export async function withKubelet(hosts: readonly string[]): Promise<string[]> {
  const states = await Promise.all(hosts.map((host) => on(host, 'systemctl is-active kubelet || true')));
  return hosts.filter((_host, index) => states[index]?.[0] === 'active');
}
