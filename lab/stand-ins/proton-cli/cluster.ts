import { existsSync } from 'node:fs';
import { Agent, call, ExitStatus } from '../ecms/client.ts';
import { Failure, type Log, type Switches, sleep, switchesFile } from './log.ts';
import { Kubernetes } from './kubernetes.ts';
import { writeFileSync } from 'node:fs';

export interface ClusterNode {
  name: string;
  ip4: string;
}

export interface Scope {
  log: Log;
  switches: Switches;
  /** Completed new configuration. */
  config: Record<string, unknown>;
  /** False when no recorded configuration could be read: the fresh-install path. */
  isUpdate: boolean;
  nodes: ClusterNode[];
  namespaces: { resource: string; config: string };
}

type Section = Record<string, unknown>;

export function section(scope: Scope, name: string): Section | undefined {
  const found = scope.config[name];
  return typeof found === 'object' && found !== null ? (found as Section) : undefined;
}

export function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function agentOf(scope: Scope, name: string): Agent {
  const node = scope.nodes.find((candidate) => candidate.name === name);
  if (node === undefined) throw new Error(`node "${name}" not found`);
  return new Agent(node.ip4);
}

/** firewall: on every node, the trusted set made equal to the nodes listed. With `usermanaged` nothing is done. */
export async function firewall(scope: Scope): Promise<void> {
  if (section(scope, 'firewall')?.['mode'] === 'usermanaged') return;
  for (const node of scope.nodes) {
    const agent = new Agent(node.ip4);
    await agent.run('systemctl', 'is-active', 'firewalld.service').catch(async (error: unknown) => {
      if (!(error instanceof ExitStatus)) throw error;
      await agent.run('systemctl', 'enable', '--now', 'firewalld.service');
    });
    const entries = scope.nodes.map(({ ip4 }) => `--add-entry=${ip4}`);
    await agent.run('firewall-cmd', '--permanent', '--ipset=proton-cs-host', ...entries);
  }
}

async function setNode(scope: Scope, node: ClusterNode): Promise<void> {
  const { log } = scope;
  const agent = new Agent(node.ip4);
  await agent.makeDirectory('/sysvol');
  log.info(`update node ${node.ip4} proton sysctl`, 'node.go:160');
  await agent.put('/etc/sysctl.d/proton.conf', 'net.ipv4.ip_forward = 1\n');
  await agent.run('sysctl', '-p', '/etc/sysctl.d/proton.conf').catch((error: unknown) => {
    // the lab's machines share their kernel's settings
    if (!(error instanceof ExitStatus)) throw error;
  });
  log.info(`update node ${node.ip4} proton docker`, 'node.go:166');
  log.info(`update node ${node.ip4} proton k8s`, 'node.go:208');
  const name = (await agent.run('hostname')).trim();
  if (name !== node.name) await agent.run('hostnamectl', 'set-hostname', node.name);
  // entries of nodes that left stay, as on the platform
  const hosts = await agent.run('cat', '/etc/hosts');
  const missing = scope.nodes.filter(
    (other) => !hosts.split('\n').some((line) => line.split(/\s+/).includes(other.name)),
  );
  if (missing.length > 0)
    await agent.put('/etc/hosts', `${hosts}${missing.map((other) => `${other.ip4} ${other.name}\n`).join('')}`);
  await agent.run('systemctl', 'enable', '--now', 'proton_slb_manager');
  await sleep(3 * scope.switches.sleepScale);
  await agent.run('systemctl', 'is-active', 'proton_slb_manager');
  const masters = strings(section(scope, 'cs')?.['master']);
  const backends = masters.map(
    (master) => `${master} ${scope.nodes.find((other) => other.name === master)?.ip4 ?? ''}:6443 check`,
  );
  const document = JSON.stringify({ backends: { 'proton-cs': backends } });
  const path = '/api/slb/v1/haproxy/haproxy';
  const { status } = await call('POST', node.ip4, 9547, path, document);
  if (status === 409) await call('PUT', node.ip4, 9547, path, document);
  await call('GET', node.ip4, 9547, '/api/slb/v2/keepalived/keepalived');
  log.line(
    'warning',
    `Proton SLB Keepalived VRRPInstance configuration on ${node.ip4} is empty, skip adding script security global def`,
    'node.go:481',
  );
}

/** nodes: all of them at once. */
export async function nodes(scope: Scope): Promise<void> {
  const results = await Promise.allSettled(scope.nodes.map((node) => setNode(scope, node)));
  const failed = results.flatMap((result, index) =>
    result.status === 'rejected' ? [`set node ${scope.nodes[index]?.name ?? ''} fail: ${text(result.reason)}`] : [],
  );
  if (failed.length === 1) throw new Error(failed[0]);
  if (failed.length > 1) throw new Error(`[${failed.join(', ')}]`);
}

/** cr: the local registry's configuration on every node, its services restarted, images and charts pushed to its hosts. */
export async function cr(scope: Scope): Promise<void> {
  const local = section(scope, 'cr')?.['local'] as Section | undefined;
  if (local === undefined) return;
  const { log } = scope;
  await Promise.all(
    scope.nodes.map(async (node) => {
      const agent = new Agent(node.ip4);
      await agent.makeDirectory(String(local['storage']));
      log.info(`restart proton-cr begin on node: ${node.ip4}`, 'cr.go:459');
      await agent.run('systemctl', 'enable', 'proton-cr');
      await agent.run('systemctl', 'restart', 'proton-cr');
      await agent.run('systemctl', 'enable', 'docker');
      await agent.run('systemctl', 'start', 'docker');
      await sleep(10 * scope.switches.sleepScale);
      log.info(`restart proton-cr end on node: ${node.ip4}`, 'cr.go:481');
    }),
  );
  const ports = local['ports'] as Section | undefined;
  const hosts = strings(local['hosts']);
  const registries = hosts.map((host) => `${host}:${String(ports?.['registry'])}`);
  log.info(`push images to [${registries.join(' ')}] begin`, 'cr.go:168');
  log.info(`push 0 images to [${registries.join(' ')}] end`, 'cr.go:183');
  for (const host of hosts) {
    // a host that is no node resolves to nothing, and no validation catches it
    const address = scope.nodes.find(({ name }) => name === host)?.ip4 ?? '';
    if (address === '')
      throw new Error(
        `Post "http://:${String(ports?.['chartmuseum'])}/api/charts": dial tcp :${String(ports?.['chartmuseum'])}: connect: connection refused`,
      );
  }
  log.info('0 charts have been pushed', 'cr.go:345');
}

async function prepareOs(scope: Scope, node: ClusterNode): Promise<void> {
  const { log } = scope;
  const agent = new Agent(node.ip4);
  for (const [what, source] of [
    ['setting kernel modprobe', 'node.go:160'],
    ['setting sysctl', 'node.go:165'],
    ['setting selinux disabled', 'node.go:178'],
    ['setting swapoff', 'node.go:195'],
  ] as const) {
    log.info(`${node.ip4}: ${what}`, source);
  }
  log.info(`${node.ip4}: stop kubelet service`, 'node.go:203');
  await agent.run('systemctl', 'stop', 'kubelet');
}

async function prepareRuntime(scope: Scope, node: ClusterNode): Promise<void> {
  const runtime = section(scope, 'cs')?.['container_runtime'] as Section | undefined;
  if (runtime?.['containerd'] === undefined && runtime?.['docker'] === undefined) {
    throw new Error(
      `initial ${node.ip4} node container runtime failed: unsupported container runtime source: &{<nil> <nil>}`,
    );
  }
  await restartRuntime(scope, node);
}

async function restartRuntime(scope: Scope, node: ClusterNode): Promise<void> {
  const { log } = scope;
  const agent = new Agent(node.ip4);
  log.info('create containerd config file', 'node.go:296');
  log.info('start or restart containerd', 'node.go:324', 'unit=containerd.service');
  await agent.run('systemctl', 'restart', 'containerd.service');
  log.info('enable containerd', 'node.go:330', 'unit=containerd.service');
  await agent.run('systemctl', 'enable', 'containerd.service');
}

/** The tool believes that there is no cluster and makes one: kubelet stops on every node before anything fails. */
async function freshInstall(scope: Scope): Promise<never> {
  const { log } = scope;
  const masters = strings(section(scope, 'cs')?.['master']);
  const first = scope.nodes.find(({ name }) => name === masters[0]);
  if (first === undefined) throw new Failure('panic: runtime error: index out of range [0] with length 0');
  log.info('init kubernetes cluster begin', 'cluster.go:182');
  log.info('kubernetes version is empty, use default v1.23.4', 'cluster.go:185');
  log.info('init node envirionments', 'cluster.go:202');
  for (const node of scope.nodes) {
    log.info(`initial ${node.ip4} node info\n`, 'cluster.go:205');
    await prepareOs(scope, node);
    await restartRuntime(scope, node);
  }
  const agent = new Agent(first.ip4);
  await agent.put(
    '/tmp/kubeadm-config.yaml',
    'apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nkubernetesVersion: v1.23.4\n',
  );
  await sleep(scope.switches.sleepScale);
  await agent.run('kubeadm', 'init', '--config=/tmp/kubeadm-config.yaml').catch(() => undefined);
  throw new Error(
    `${first.ip4}: init kubernetes cluster failed: ${first.ip4}: failed to run kubeadm init: exit status 1`,
  );
}

const controlPlaneLabel = 'node-role.kubernetes.io/control-plane';

async function joinNode(
  scope: Scope,
  kubernetes: Kubernetes,
  node: ClusterNode,
  masters: readonly string[],
): Promise<void> {
  const { log } = scope;
  log.info('Initial OS', 'cs.go:985', `name=${node.name}`);
  await prepareOs(scope, node);
  await prepareRuntime(scope, node);
  const first = agentOf(scope, masters[0] ?? '');
  try {
    log.info(`${first.address}: get join keys kubeadm token create`, 'node.go:597');
    await first.run('kubeadm', 'token', 'create', '--print-join-command');
    await first
      .run('kubeadm', 'init', 'phase', 'upload-certs', '--upload-certs', '--config=/tmp/kubeadm-config.yaml')
      .catch((error: unknown) => {
        throw new Error(`${first.address}: failed to get certificate: ${text(error)}`);
      });
  } catch (error) {
    throw new Error(`unable to token and certificate: ${text(error)}`, { cause: error });
  }
  const isMaster = masters.includes(node.name);
  const role = isMaster ? 'control-plane/master' : 'worker';
  log.info(`Add kubernetes ${role} node`, 'cs.go:1016', `name=${node.name}`);
  const agent = new Agent(node.ip4);
  const kind = isMaster ? 'controlPlane: {}\n' : '';
  await agent.put('/tmp/kubeadm-join.yaml', `apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n${kind}`);
  log.info(`${node.ip4}: initial kubernete with kubeadm begin`, 'node.go:631');
  await agent.run('kubeadm', 'join', '--config', '/tmp/kubeadm-join.yaml').catch((error: unknown) => {
    throw new Error(
      `${node.name}: join to cluster master role failed: ${node.ip4}: failed to run kubeadm join: ${text(error)}`,
    );
  });
  await agent.run('systemctl', 'enable', '--now', 'kubelet');
  const deadline = Date.now() + 120_000;
  while (!(await kubernetes.nodes()).some(({ metadata }) => metadata.name === node.name)) {
    if (Date.now() > deadline)
      throw new Error(
        `${node.name}: join to cluster master role failed: ${node.ip4}: failed to run kubeadm join: exit status 1`,
      );
    await sleep(0.5);
  }
  if (!isMaster) return;
  await kubernetes.call('PATCH', `/api/v1/nodes/${node.name}`, { metadata: { labels: { [controlPlaneLabel]: '' } } });
  await agent.makeDirectory('/root/.kube');
  await agent.put('/root/.kube/config', await agent.run('cat', '/etc/kubernetes/admin.conf'));
  await agent.run('chmod', '600', '/root/.kube/config');
}

/** The variant of the manual procedure: its own helper fails when more than one node leaves, and nothing says why. */
function failInKubesuite(scope: Scope, leaving: readonly string[]): void {
  if (leaving.length < 2 || scope.switches.flakeFirstRemovals < 1) return;
  const left = { ...scope.switches, flakeFirstRemovals: scope.switches.flakeFirstRemovals - 1 };
  writeFileSync(switchesFile, JSON.stringify(left));
  throw new Error(`unable to delete nodes: kubesuite: exit status 1`);
}

async function deleteNodes(scope: Scope, known: Awaited<ReturnType<Kubernetes['nodes']>>): Promise<void> {
  const listed = new Set(scope.nodes.map(({ name }) => name));
  const leaving = known.map(({ metadata }) => metadata.name).filter((name) => !listed.has(name));
  if (leaving.length === 0) return;
  const controlPlane = known
    .filter(({ metadata }) =>
      [controlPlaneLabel, 'node-role.kubernetes.io/master'].some((label) => metadata.labels?.[label] !== undefined),
    )
    .map(({ metadata }) => metadata.name)
    .sort();
  const [first] = controlPlane;
  if (first === undefined) throw new Error('unable to delete nodes: control plane node not found');
  const address = scope.nodes.find(({ name }) => name === first)?.ip4;
  if (address === undefined) throw new Error(`unable to delete nodes: ip of master node "${first}" not found`);
  const agent = new Agent(address);
  for (const name of leaving) {
    await agent.run('kubectl', 'cordon', name).catch((error: unknown) => {
      throw new Error(`unable to delete nodes: unable to cordon kubernetes node ${name}: ${text(error)}`);
    });
  }
  failInKubesuite(scope, leaving);
  for (const name of leaving) {
    const flags = [
      '--ignore-daemonsets=true',
      '--skip-wait-for-delete-timeout=30',
      '--delete-emptydir-data=true',
      '--timeout=300s',
    ];
    await agent.run('kubectl', 'drain', name, ...flags).catch((error: unknown) => {
      throw new Error(`unable to delete nodes: unable to drain kubernetes node ${name}: ${text(error)}`);
    });
  }
  await agent.run('kubectl', 'delete', 'node', ...leaving).catch((error: unknown) => {
    throw new Error(`unable to delete nodes: unable to delete kubernetes nodes ${leaving.join(', ')}: ${text(error)}`);
  });
  await sleep(Number(process.env['PROTON_CLI_NODE_REMOVE_DELAY'] ?? '60') * scope.switches.sleepScale);
}

function backupCronJob(name: string, namespace: string): object {
  const containers = [{ name: 'backup', image: 'docker.io/lab/writer:1', args: ['idle'] }];
  const template = { spec: { restartPolicy: 'OnFailure', nodeName: name, containers } };
  const jobTemplate = { spec: { template } };
  const metadata = { name: `proton-cs-backup-${name}`, namespace };
  return { apiVersion: 'batch/v1', kind: 'CronJob', metadata, spec: { schedule: '30 18 * * *', jobTemplate } };
}

/** cs: nodes that are missing join, nodes that are not listed leave, the runtime is restarted on all. */
export async function cs(scope: Scope): Promise<void> {
  if (!scope.isUpdate) await freshInstall(scope);
  const admin = '/etc/kubernetes/admin.conf';
  if (!existsSync(admin)) throw new Error(`stat ${admin}: no such file or directory`);
  const kubernetes = new Kubernetes(admin);
  const masters = strings(section(scope, 'cs')?.['master']);
  for (const master of masters) {
    const path = `/apis/batch/v1/namespaces/${scope.namespaces.config}/cronjobs`;
    await kubernetes
      .call('GET', `${path}/proton-cs-backup-${master}`)
      .catch(() => kubernetes.call('POST', path, backupCronJob(master, scope.namespaces.config)));
  }
  const known = await kubernetes.nodes();
  const present = new Set(known.map(({ metadata }) => metadata.name));
  for (const node of scope.nodes.filter(({ name }) => !present.has(name))) {
    await joinNode(scope, kubernetes, node, masters).catch((error: unknown) => {
      throw new Error(`unable to add nodes: ${text(error)}`);
    });
  }
  await deleteNodes(scope, known);
  // The tool also asks for ConfigMap kubelet-config-<minor>, which Kubernetes from 1.24 on does not have; whoever runs it there has made one.
  for (const node of scope.nodes) await restartRuntime(scope, node);
}
