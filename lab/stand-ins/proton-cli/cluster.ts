import { existsSync, writeFileSync } from 'node:fs';
import { Agent, call, ExitStatus } from '../ecms/client.ts';
import { haproxyDocument } from '../slb/haproxy.ts';
import { balancedOf } from './balanced.ts';
import { ApiStatus, Kubernetes, type NodeObject } from './kubernetes.ts';
import { Crash, type Log, type Switches, sleep, switchesFile } from './log.ts';
import { text } from './rules/access.ts';
import { dumpYaml } from './rules/config.ts';

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

export function section(scope: Pick<Scope, 'config'>, name: string): Section | undefined {
  const found = scope.config[name];
  return typeof found === 'object' && found !== null ? (found as Section) : undefined;
}

export function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function agentOf(scope: Scope, name: string): Agent {
  const node = scope.nodes.find((candidate) => candidate.name === name);
  if (node === undefined) throw new Error(`node "${name}" not found`);
  return new Agent(node.ip4);
}

const zone = 'proton-cs';
const trustedSet = 'proton-cs-host';

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}

/** Makes the trusted set of a node equal to `addresses`, as it is written and as it runs: who is not listed is out at once. */
async function trust(agent: Agent, addresses: readonly string[], sources: readonly string[]): Promise<void> {
  const cmd = async (permanent: boolean, ...args: string[]): Promise<string[]> =>
    words(await agent.run('firewall-cmd', ...(permanent ? ['--permanent'] : []), ...args));
  for (const permanent of [true, false]) {
    const sets = await cmd(permanent, '--get-ipsets');
    if (!sets.includes(trustedSet)) {
      if (permanent) await cmd(true, `--new-ipset=${trustedSet}`, '--type=hash:ip', '--option=family=inet');
      else await cmd(false, '--reload');
    }
    const entries = await cmd(permanent, `--ipset=${trustedSet}`, '--get-entries');
    const missing = addresses.filter((address) => !entries.includes(address));
    const surplus = entries.filter((entry) => !addresses.includes(entry));
    const change = (verb: string, list: readonly string[]): Promise<string[]> =>
      cmd(permanent, `--ipset=${trustedSet}`, ...list.map((entry) => `--${verb}-entry=${entry}`));
    if (missing.length > 0) await change('add', missing);
    if (surplus.length > 0) await change('remove', surplus);
    const known = await cmd(permanent, `--zone=${zone}`, '--list-sources');
    const wanted = sources.filter((source) => !known.includes(source));
    if (wanted.length > 0) await cmd(permanent, `--zone=${zone}`, ...wanted.map((source) => `--add-source=${source}`));
  }
}

/** firewall: on every node that is listed, the trusted set made equal to the nodes listed. With `usermanaged` nothing is done. */
export async function firewall(scope: Scope): Promise<void> {
  if (section(scope, 'firewall')?.['mode'] === 'usermanaged') return;
  const network = text(section(scope, 'cs')?.['host_network'] as Section | undefined, 'pod_network_cidr');
  const sources = [`ipset:${trustedSet}`, ...network.split(',').filter((part) => part !== '')];
  await Promise.all(
    scope.nodes.map(async (node) => {
      const agent = new Agent(node.ip4);
      for (const question of ['is-active', 'is-enabled'])
        await agent.run('systemctl', question, 'firewalld.service').catch(async (error: unknown) => {
          if (!(error instanceof ExitStatus)) throw error;
          await agent.run('systemctl', 'enable', '--now', 'firewalld.service');
        });
      await trust(
        agent,
        scope.nodes.map(({ ip4 }) => ip4),
        sources,
      );
    }),
  );
}

/** Names that lead to the machine itself: what is behind them is up to its own balancer. */
const ownNames = ['registry.aishu.cn', 'chartmuseum.aishu.cn', 'rpm.aishu.cn', 'proton-cs.lb.aishu.cn'];

/** Entries for all nodes and the platform's own names; those of nodes that left stay, as on the platform. */
function withHosts(hosts: string, listed: readonly ClusterNode[]): string {
  const known = new Set(hosts.split('\n').flatMap((line) => line.split(/\s+/).slice(1)));
  const wanted = [
    ...listed.map(({ ip4, name }) => [ip4, name] as const),
    ...ownNames.map((name) => ['127.0.0.1', name] as const),
  ];
  const missing = wanted.filter(([, name]) => !known.has(name)).map(([address, name]) => `${address} ${name}\n`);
  return `${hosts}${missing.join('')}`;
}

async function setBalancer(node: ClusterNode, document: string): Promise<void> {
  const path = '/api/slb/v1/haproxy/haproxy';
  const failed = (verb: string, { status, body }: { status: number; body: string }): Error =>
    new Error(`unable to ${verb} haproxy config, http status code: ${status}, response body: ${body || '<nil>'}`);
  const created = await call('POST', node.ip4, 9547, path, document);
  if (created.status === 201) return;
  if (created.status !== 409) throw failed('create', created);
  const updated = await call('PUT', node.ip4, 9547, path, document);
  if (updated.status !== 204) throw failed('update', updated);
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
  const hosts = await agent.run('cat', '/etc/hosts');
  const entries = withHosts(hosts, scope.nodes);
  if (entries !== hosts) await agent.put('/etc/hosts', entries);
  await agent.run('systemctl', 'enable', '--now', 'proton_slb_manager');
  await sleep(3 * scope.switches.sleepScale);
  await agent.run('systemctl', 'is-active', 'proton_slb_manager');
  await setBalancer(node, JSON.stringify(haproxyDocument(balancedOf(scope.config))));
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
    result.status === 'rejected' ? [`set node ${scope.nodes[index]?.name ?? ''} fail: ${message(result.reason)}`] : [],
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
  const say = (what: string, source: string): void => log.info(`${node.ip4}: ${what}`, source);
  say('setting kernel modprobe', 'node.go:160');
  say('setting sysctl', 'node.go:165');
  say('setting selinux disabled', 'node.go:178');
  const missing = 'getenforce command not found (exit code 127), assuming SELinux is not installed';
  log.line('warning', `${node.ip4}: ${missing}`, 'node.go:182');
  // said only: machines of the lab share the kernel, and its swap is not theirs
  say('setting swapoff', 'node.go:195');
  say('stop kubelet service', 'node.go:203');
  await new Agent(node.ip4).run('systemctl', 'stop', 'kubelet');
}

function runtimeOf(scope: Scope): { containerd?: Section; docker?: Section } {
  return section(scope, 'cs')?.['container_runtime'] ?? {};
}

async function prepareRuntime(scope: Scope, node: ClusterNode): Promise<void> {
  const { containerd, docker } = runtimeOf(scope);
  if (containerd === undefined && docker === undefined) {
    throw new Error(
      `initial ${node.ip4} node container runtime failed: unsupported container runtime source: &{<nil> <nil>}`,
    );
  }
  await restartRuntime(scope, node);
}

async function restartRuntime(scope: Scope, node: ClusterNode): Promise<void> {
  const { log } = scope;
  const agent = new Agent(node.ip4);
  const { containerd } = runtimeOf(scope);
  const source = `&{${text(containerd, 'root')} ${text(containerd, 'sandbox_image')} []}`;
  log.info('create containerd config file', 'node.go:296', `source=${source}`);
  log.info('create base runtime spec file', 'node.go:302');
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
  if (first === undefined) throw new Crash('panic: runtime error: index out of range [0] with length 0');
  log.info('init kubernetes cluster begin', 'cluster.go:182');
  log.info('kubernetes version is empty, use default v1.23.4', 'cluster.go:185');
  log.info('init node envirionments', 'cluster.go:202');
  for (const node of scope.nodes) {
    log.info(`initial ${node.ip4} node info\n`, 'cluster.go:205');
    await prepareOs(scope, node);
    await restartRuntime(scope, node);
  }
  log.info('Initializing operating system', 'cluster.go:236');
  const agent = new Agent(first.ip4);
  await agent.put(
    '/tmp/kubeadm-config.yaml',
    'apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nkubernetesVersion: v1.23.4\n',
  );
  log.info(`${first.ip4}: initial kubernete with kubeadm begin`, 'node.go:408');
  await sleep(scope.switches.sleepScale);
  const init = ['--skip-phases=addon/coredns', '--config', '/tmp/kubeadm-config.yaml', '--upload-certs'];
  // on a live cluster it cannot get past its preflight
  await agent.run('kubeadm', 'init', ...init).catch(() => undefined);
  const why = `${first.ip4}: init kubernetes cluster failed: ${first.ip4}: failed to run kubeadm init: exit status 1`;
  log.line('error', `init kubernetes cluster fail: ${why}`, 'cs.go:317');
  throw new Error(why);
}

const controlPlaneLabels = ['node-role.kubernetes.io/control-plane', 'node-role.kubernetes.io/master'] as const;

function isControlPlane({ metadata }: NodeObject): boolean {
  return controlPlaneLabels.some((label) => metadata.labels?.[label] !== undefined);
}

interface JoinKeys {
  token: string;
  authority: string;
  certificateKey: string;
}

/** Token and hash of the authority, as kubeadm prints them in the command that it suggests. */
async function createToken(scope: Scope, first: Agent): Promise<Pick<JoinKeys, 'token' | 'authority'>> {
  scope.log.info(`${first.address}: get join keys kubeadm token create`, 'node.go:597');
  const printed = words(await first.run('kubeadm', 'token', 'create', '--print-join-command'));
  return { token: printed[4] ?? '', authority: printed[6] ?? '' };
}

/** Certificates are uploaded even when only workers join. */
async function createKeys(scope: Scope, first: Agent): Promise<JoinKeys> {
  try {
    const token = await createToken(scope, first);
    const printed = await first
      .run('kubeadm', 'init', 'phase', 'upload-certs', '--upload-certs', '--config=/tmp/kubeadm-config.yaml')
      .catch((error: unknown) => {
        throw new Error(`${first.address}: failed to get certificate: ${message(error)}`);
      });
    // the third line
    return { ...token, certificateKey: printed.split('\n')[2] ?? '' };
  } catch (error) {
    throw new Error(`unable to token and certificate: ${message(error)}`, { cause: error });
  }
}

function joinConfiguration(scope: Scope, node: ClusterNode, keys: JoinKeys, isMaster: boolean): string {
  const controlPlane = {
    certificateKey: keys.certificateKey,
    localAPIEndpoint: { advertiseAddress: node.ip4 },
  };
  return dumpYaml({
    apiVersion: 'kubeadm.k8s.io/v1beta3',
    kind: 'JoinConfiguration',
    discovery: {
      bootstrapToken: {
        apiServerEndpoint: `proton-cs.lb.aishu.cn:${Number(section(scope, 'cs')?.['ha_port'] ?? 8443)}`,
        token: keys.token,
        caCertHashes: [keys.authority],
      },
    },
    ...(isMaster ? { controlPlane } : {}),
    nodeRegistration: {
      criSocket: 'unix:///run/containerd/containerd.sock',
      kubeletExtraArgs: { 'node-ip': node.ip4 },
    },
  });
}

const helmRepository = '&{http://chartmuseum.aishu.cn:15001  }';

interface Joining {
  node: ClusterNode;
  isMaster: boolean;
  keys: JoinKeys;
}

async function joinNode(scope: Scope, kubernetes: Kubernetes, { node, isMaster, keys }: Joining): Promise<void> {
  const { log } = scope;
  const say = (what: string, source: string): void => log.info(`${node.ip4}: ${what}`, source);
  const role = isMaster ? 'control-plane/master' : 'worker';
  log.info(`Add kubernetes ${role} node`, isMaster ? 'cs.go:1016' : 'cs.go:1056', `name=${node.name}`);
  const agent = new Agent(node.ip4);
  say('enabling kubelet service', 'node.go:342');
  const flags = `--network-plugin=cni --pod-infra-container-image=registry.aishu.cn:15000/public/pause:3.6 --node-ip=${node.ip4} --allowed-unsafe-sysctls=net.core.somaxconn`;
  say(`new kubelet args: KUBELET_KUBEADM_ARGS="${flags}"`, 'node.go:379');
  await agent.put('/tmp/kubeadm-join.yaml', joinConfiguration(scope, node, keys, isMaster));
  say('initial kubernete with kubeadm begin', 'node.go:631');
  const failed = `${node.name}: join to cluster master role failed: ${node.ip4}: failed to run kubeadm join`;
  await agent.run('kubeadm', 'join', '--config', '/tmp/kubeadm-join.yaml').catch((error: unknown) => {
    throw new Error(`${failed}: ${message(error)}`);
  });
  const deadline = Date.now() + 120_000;
  let joined: NodeObject | undefined;
  while (joined === undefined) {
    if (Date.now() > deadline) throw new Error(`${failed}: exit status 1`);
    joined = (await kubernetes.nodes()).find(({ metadata }) => metadata.name === node.name);
    if (joined === undefined) await sleep(0.5);
  }
  if (isMaster) {
    // the real kubeadm has done it by itself
    const labels = { [controlPlaneLabels[0]]: '' };
    if (!isControlPlane(joined)) await kubernetes.call('PATCH', `/api/v1/nodes/${node.name}`, { metadata: { labels } });
    await agent.makeDirectory('/root/.kube');
    await agent.run('cp', '/etc/kubernetes/admin.conf', '/root/.kube/config');
  }
  say('enabling kubelet service', 'node.go:390');
  await agent.run('systemctl', 'enable', 'kubelet.service');
  say(`set helm2 repo ${helmRepository}`, 'node.go:513');
  say(`add helm repo: ${helmRepository}`, 'node.go:539');
}

/** Masters without a control-plane Node join as such, even if they are Nodes already; other nodes that are none as workers. */
async function addNodes(scope: Scope, kubernetes: Kubernetes, known: readonly NodeObject[]): Promise<ClusterNode[]> {
  const masters = strings(section(scope, 'cs')?.['master']);
  const present = new Set(known.map(({ metadata }) => metadata.name));
  const ready = new Set(known.filter(isControlPlane).map(({ metadata }) => metadata.name));
  const newMasters = scope.nodes.filter(({ name }) => masters.includes(name) && !ready.has(name));
  const newWorkers = scope.nodes.filter(({ name }) => !masters.includes(name) && !present.has(name));
  const added = scope.nodes.filter((node) => newMasters.includes(node) || newWorkers.includes(node));
  if (added.length === 0) {
    scope.log.info('no need to add kubernetes node', 'cs.go:979');
    return [];
  }
  for (const node of added) {
    scope.log.info('Initial OS', 'cs.go:985', `name=${node.name}`);
    await prepareOs(scope, node);
    await prepareRuntime(scope, node);
  }
  const first = agentOf(scope, masters[0] ?? '');
  const keys = await createKeys(scope, first);
  for (const node of newMasters) {
    await joinNode(scope, kubernetes, { node, isMaster: true, keys });
    await first
      .run('kubectl', 'taint', 'nodes', node.name, 'node-role.kubernetes.io/master:NoSchedule-')
      .catch((error: unknown) => {
        // newer clusters have no such taint, and the tool does not mind
        if (!(error instanceof ExitStatus)) throw error;
      });
  }
  const workerKeys = { ...(await createToken(scope, first)), certificateKey: '' };
  for (const node of newWorkers) await joinNode(scope, kubernetes, { node, isMaster: false, keys: workerKeys });
  return added;
}

/** The variant of the manual procedure: its own helper fails when more than one node leaves, and nothing says why. */
function failInKubesuite(scope: Scope, leaving: readonly string[]): void {
  if (leaving.length < 2 || scope.switches.flakeFirstRemovals < 1) return;
  const left = { ...scope.switches, flakeFirstRemovals: scope.switches.flakeFirstRemovals - 1 };
  writeFileSync(switchesFile, JSON.stringify(left));
  throw new Error(`unable to delete nodes: kubesuite: exit status 1`);
}

async function deleteNodes(scope: Scope, known: readonly NodeObject[]): Promise<void> {
  const listed = new Set(scope.nodes.map(({ name }) => name));
  const leaving = known.map(({ metadata }) => metadata.name).filter((name) => !listed.has(name));
  if (leaving.length === 0) return;
  const controlPlane = known
    .filter(isControlPlane)
    .map(({ metadata }) => metadata.name)
    .sort();
  const [first] = controlPlane;
  if (first === undefined) throw new Error('unable to delete nodes: control plane node not found');
  const address = scope.nodes.find(({ name }) => name === first)?.ip4;
  if (address === undefined) throw new Error(`unable to delete nodes: ip of master node "${first}" not found`);
  const agent = new Agent(address);
  for (const name of leaving) {
    await agent.run('kubectl', 'cordon', name).catch((error: unknown) => {
      throw new Error(`unable to delete nodes: unable to cordon kubernetes node ${name}: ${message(error)}`);
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
      throw new Error(`unable to delete nodes: unable to drain kubernetes node ${name}: ${message(error)}`);
    });
  }
  await agent.run('kubectl', 'delete', 'node', ...leaving).catch((error: unknown) => {
    throw new Error(
      `unable to delete nodes: unable to delete kubernetes nodes ${leaving.join(', ')}: ${message(error)}`,
    );
  });
  const asked = process.env['PROTON_CLI_NODE_REMOVE_DELAY'];
  await sleep(asked === undefined ? 60 * scope.switches.sleepScale : Number(asked));
}

function backupCronJob(name: string, namespace: string): object {
  const containers = [{ name: 'backup', image: 'docker.io/lab/writer:1', args: ['idle'] }];
  const template = { spec: { restartPolicy: 'OnFailure', nodeName: name, containers } };
  const jobTemplate = { spec: { template } };
  const metadata = { name: `proton-cs-backup-${name}`, namespace };
  return { apiVersion: 'batch/v1', kind: 'CronJob', metadata, spec: { schedule: '30 18 * * *', jobTemplate } };
}

function isMissing(error: unknown): boolean {
  return error instanceof ApiStatus && error.code === 404;
}

/** The tool asks for a ConfigMap whose name has the version, which kubeadm stopped making with 1.24. A cluster that kubeadm did not make has neither. */
async function updateKubeletConfig(kubernetes: Kubernetes): Promise<void> {
  try {
    const { major, minor } = await kubernetes.call<{ major: string; minor: string }>('GET', '/version');
    const path = '/api/v1/namespaces/kube-system/configmaps/kubelet-config';
    const versioned = `${path}-${major}.${minor.replace(/\D/g, '')}`;
    await kubernetes.call('GET', versioned).catch(async (error: unknown) => {
      if (!isMissing(error)) throw error;
      const isKubeadms = await kubernetes.call('GET', path).then(
        () => true,
        () => false,
      );
      if (isKubeadms) throw error;
    });
  } catch (error) {
    throw new Error(`unable to update kubelet configmap: ${message(error)}`, { cause: error });
  }
}

/** cs: nodes that are missing join, nodes that are not listed leave, the runtime is restarted on all. */
export async function cs(scope: Scope): Promise<void> {
  if (!scope.isUpdate) await freshInstall(scope);
  const admin = '/etc/kubernetes/admin.conf';
  if (!existsSync(admin)) throw new Error(`stat ${admin}: no such file or directory`);
  const kubernetes = new Kubernetes(admin);
  for (const master of strings(section(scope, 'cs')?.['master'])) {
    const path = `/apis/batch/v1/namespaces/${scope.namespaces.config}/cronjobs`;
    await kubernetes
      .call('GET', `${path}/proton-cs-backup-${master}`)
      .catch(() => kubernetes.call('POST', path, backupCronJob(master, scope.namespaces.config)));
  }
  // listed once: what joins now is neither compared nor deleted
  const known = await kubernetes.nodes();
  const added = await addNodes(scope, kubernetes, known).catch((error: unknown) => {
    throw new Error(`unable to add nodes: ${message(error)}`);
  });
  await deleteNodes(scope, known);
  await updateKubeletConfig(kubernetes);
  for (const node of scope.nodes) {
    await restartRuntime(scope, node);
    if (!added.includes(node)) continue;
    scope.log.info('run cmd systemctl restart kubelet', 'cs.go:543');
    await new Agent(node.ip4).run('systemctl', 'restart', 'kubelet');
  }
}
