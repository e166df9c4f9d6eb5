import { writeFile } from 'node:fs/promises';
import { kubectl, must } from './operator.ts';

/* Members of etcd as etcd's own tool sees them, through a pod: nothing of the product takes part. */

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
