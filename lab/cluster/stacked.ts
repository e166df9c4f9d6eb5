/**
 * Masters as they really are: kubeadm makes the first, the others join it, and every one runs etcd, API server, controller manager and
 * scheduler as static pods under kubelet. Each machine reaches the API through a haproxy of its own under the platform's name.
 */
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parse, stringify } from 'yaml';
import { kubernetesVersion } from '../build/parts.ts';
import { onMachine, writeInto } from '../machines/machines.ts';
import { controlAddress, files, machineState, type LabHost } from '../paths.ts';
import { poll, say } from '../process.ts';
import { haproxyDocument, renderHaproxy } from '../stand-ins/slb/haproxy.ts';
import {
  clusterConfiguration,
  etcdDirectory,
  haPort,
  podNetwork,
  serviceNetwork,
} from '../workloads/cluster-config.ts';
import { imageRepository } from '../workloads/images.ts';
import { balancedOf } from '../stand-ins/proton-cli/balanced.ts';
import { kubectl } from './control-plane.ts';
import { install, preparePlatform, standInCommand, unit } from './nodes.ts';

/** The platform's name for the API, on every machine its own balancer. */
const endpointName = 'proton-cs.lb.aishu.cn';
const criSocket = 'unix:///run/containerd/containerd.sock';

/** The unit that comes with kubelet, except that it waits for kubeadm instead of failing each second, and its wrapper. */
const kubelet = unit('kubelet', [
  ...['After=containerd.service load-images.service', 'Wants=containerd.service', 'StartLimitIntervalSec=0'],
  'ConditionPathExists=/var/lib/kubelet/config.yaml',
  ...['[Service]', 'ExecStart=/opt/kubernetes/kubelet', 'Restart=always', 'RestartSec=1', ...install],
]);

/** The drop-in that comes with kubeadm; only the wrapper is the lab's. */
const kubeletDropIn = `[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/local/sbin/with-cgroup1 /opt/kubernetes/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
`;

/**
 * kubeadm judges the control groups by those of systemd here, which have no controllers: that one check is passed over. Everything else
 * is kubeadm's own.
 */
const kubeadm = `#!/bin/sh
case "$1 $2" in
  'init phase' | 'join phase') exec /opt/kubeadm/kubeadm "$@" ;;
  init\\ * | join\\ *) exec /opt/kubeadm/kubeadm "$@" --ignore-preflight-errors=SystemVerification ;;
  *) exec /opt/kubeadm/kubeadm "$@" ;;
esac
`;

/** The document allows more connections than machines of a lab may open files; the command line has precedence over it. */
const connections = 4000;

const haproxyUnit = unit('haproxy', [
  ...['After=network.target', 'StartLimitIntervalSec=0', 'ConditionPathExists=/usr/local/haproxy/haproxy.cfg'],
  ...['[Service]', 'Type=notify'],
  `ExecStart=/usr/sbin/haproxy -Ws -n ${connections} -f /usr/local/haproxy/haproxy.cfg -p /run/haproxy.pid`,
  'ExecReload=/usr/sbin/haproxy -c -q -f /usr/local/haproxy/haproxy.cfg',
  'ExecReload=/bin/kill -USR2 $MAINPID',
  ...['KillMode=mixed', 'SuccessExitStatus=143', 'Restart=always', 'RestartSec=1', ...install],
]);

const firewalldUnit = unit('firewalld', [
  ...['[Service]', 'Type=oneshot', 'RemainAfterExit=yes'],
  ...['start', 'stop'].map(
    (verb) =>
      `Exec${verb === 'start' ? 'Start' : 'Stop'}=/opt/node/bin/node /opt/ferry-lab/lab/stand-ins/firewalld/main.ts ${verb}`,
  ),
  ...install,
]);

/** Who may reach a machine before the platform says so: whoever operates the lab, as an operator's host is trusted. */
function firewallRules(host: LabHost, old: readonly LabHost[]): string {
  const operator = { trusted: [controlAddress] };
  if (host.role === 'new') return JSON.stringify({ zones: operator, sets: {} });
  const zones = { ...operator, 'proton-cs': ['ipset:proton-cs-host', podNetwork] };
  return JSON.stringify({ zones, sets: { 'proton-cs-host': old.map(({ address }) => address) } });
}

/** Writes what a machine needs to become a master. Before its first boot. */
export function prepareMaster(host: LabHost, old: readonly LabHost[]): void {
  const put = (path: string, content: string, mode?: number): void => writeInto(host, path, content, mode);
  // kubeadm pulls nothing here: what the platform's registry would give new masters has to be there
  preparePlatform(host, host.role === 'old' ? '/images/*.tar' : '/images/pause.tar /images/control-plane-*.tar');
  const system = 'etc/systemd/system';
  put(`${system}/kubelet.service`, kubelet);
  put(`${system}/kubelet.service.d/10-kubeadm.conf`, kubeletDropIn);
  put(`${system}/haproxy.service`, haproxyUnit);
  put(`${system}/firewalld.service`, firewalldUnit);
  put('etc/firewalld/rules.json', firewallRules(host, old));
  put('usr/local/bin/kubeadm', kubeadm, 0o755);
  put('usr/local/bin/kubelet', '#!/bin/sh\nexec /opt/kubernetes/kubelet "$@"\n', 0o755);
  put('usr/local/bin/firewall-cmd', standInCommand('firewalld/main.ts'), 0o755);
  // one of kubeadm's checks
  put('etc/sysctl.d/90-lab.conf', 'net.ipv4.ip_forward=1\n');
  // CoreDNS forwards to it, and nobody answers
  put('etc/resolv.conf', `nameserver ${controlAddress}\n`);
  // the delay after a node was deleted, by the tool's own variable
  put('etc/environment', 'PROTON_CLI_NODE_REMOVE_DELAY=5\n');
  if (host.role === 'new') return;
  const document = haproxyDocument(balancedOf(parse(clusterConfiguration(old, 'small')) as Record<string, unknown>));
  put('usr/local/haproxy/haproxy.cfg', renderHaproxy(document));
  put('etc/slb/haproxy.json', JSON.stringify(document));
  const hosts = join(machineState(host.name), 'up', 'etc', 'hosts');
  appendFileSync(hosts, `127.0.0.1 ${endpointName}\n`);
}

/** Units that a machine of this lab starts at boot. */
export function masterUnits(host: LabHost): string[] {
  const always = ['containerd', 'load-images', 'ecms', 'proton_slb_manager', 'proton-cr', 'haproxy', 'kubelet'];
  if (host.role === 'new') return always;
  return [...always, 'firewalld', 'docker', 'proton-cr-registry', 'proton-cr-chartmuseum'];
}

type Argument = { name: string; value: string };

function args(values: Record<string, string>): Argument[] {
  return Object.entries(values).map(([name, value]) => ({ name, value }));
}

function registration(host: LabHost): object {
  return {
    name: host.name,
    criSocket,
    // the platform takes the taint of its masters away
    taints: [],
    kubeletExtraArgs: args({ 'node-ip': host.address }),
  };
}

interface Keys {
  token: string;
  certificateKey: string;
}

/** What the platform's first install leaves in /tmp of the first master, in today's format of kubeadm. */
function initConfiguration(first: LabHost, { token, certificateKey }: Keys): string {
  const requests = { 'kube-api-qps': '500', 'kube-api-burst': '1000' };
  const documents = [
    {
      apiVersion: 'kubeadm.k8s.io/v1beta4',
      kind: 'InitConfiguration',
      bootstrapTokens: [{ token, description: 'kubeadm bootstrap token', ttl: '24h0m0s' }],
      certificateKey,
      localAPIEndpoint: { advertiseAddress: first.address },
      nodeRegistration: registration(first),
    },
    {
      apiVersion: 'kubeadm.k8s.io/v1beta4',
      kind: 'ClusterConfiguration',
      kubernetesVersion,
      imageRepository,
      controlPlaneEndpoint: `${endpointName}:${haPort}`,
      networking: { podSubnet: podNetwork, serviceSubnet: serviceNetwork },
      // as on the platform: of the machines' addresses only the first is in every master's certificate
      apiServer: { certSANs: [endpointName, first.address] },
      controllerManager: {
        extraArgs: args({
          ...requests,
          'node-monitor-period': '2s',
          'node-monitor-grace-period': '12s',
          'concurrent-statefulset-syncs': '50',
          // the lab's machines have networks of their own by number
          'allocate-node-cidrs': 'false',
        }),
      },
      scheduler: { extraArgs: args({ ...requests, 'pod-max-in-unschedulable-pods-duration': '20s' }) },
      etcd: {
        local: {
          dataDir: etcdDirectory,
          extraArgs: args({
            // the platform's own, slow on purpose
            'election-timeout': '5000',
            'heartbeat-interval': '500',
            // losing the power of a machine loses nothing here
            'unsafe-no-fsync': 'true',
          }),
        },
      },
    },
    {
      apiVersion: 'kubelet.config.k8s.io/v1beta1',
      kind: 'KubeletConfiguration',
      ...{ cgroupDriver: 'cgroupfs', failCgroupV1: false, failSwapOn: false, makeIPTablesUtilChains: false },
      ...{
        resolvConf: '/etc/resolv.conf',
        maxPods: 256,
        nodeStatusUpdateFrequency: '3s',
        nodeLeaseDurationSeconds: 12,
      },
      ...{ serializeImagePulls: false, registryPullQPS: 50 },
      // the computer's disk is everybody's: its being full is not one machine's fault
      evictionHard: { 'imagefs.available': '0%', 'nodefs.available': '0%', 'nodefs.inodesFree': '0%' },
    },
    {
      apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
      kind: 'KubeProxyConfiguration',
      mode: 'nftables',
      clusterCIDR: podNetwork,
      conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    },
  ];
  return documents.map((document) => stringify(document)).join('---\n');
}

function joinConfiguration(host: LabHost, keys: Keys, authority: string): string {
  return stringify({
    apiVersion: 'kubeadm.k8s.io/v1beta4',
    kind: 'JoinConfiguration',
    discovery: {
      bootstrapToken: { apiServerEndpoint: `${endpointName}:${haPort}`, token: keys.token, caCertHashes: [authority] },
    },
    controlPlane: {
      certificateKey: keys.certificateKey,
      localAPIEndpoint: { advertiseAddress: host.address },
    },
    nodeRegistration: registration(host),
  });
}

async function awaitImages(host: LabHost): Promise<void> {
  const loaded = 'test -e /var/lib/containerd/images-loaded';
  await poll(
    `the images on ${host.name}`,
    300,
    async () => (await onMachine(host, loaded, { allowFailure: true })).code === 0,
    500,
  );
}

/** kubeadm's own words, for when it fails, lie on the machine. */
const logged = (command: string): string =>
  `set -e; mkdir -p /root/.kube; ${command} > /var/log/kubeadm.log 2>&1 || { tail -n 30 /var/log/kubeadm.log >&2; exit 1; }; cp /etc/kubernetes/admin.conf /root/.kube/config`;

async function initialize(first: LabHost, keys: Keys): Promise<void> {
  const input = initConfiguration(first, keys);
  await onMachine(first, 'umask 077; cat > /tmp/kubeadm-config.yaml', { input });
  const done = onMachine(first, logged('kubeadm init --config /tmp/kubeadm-config.yaml --upload-certs'), {
    timeout: 400_000,
  });
  // haproxy found nobody for as long as there was nobody; started again it takes the first for well
  const answers = `kubectl --kubeconfig /etc/kubernetes/admin.conf --server https://${first.address}:6443 get --raw /readyz`;
  const ready = poll(
    'the first API server',
    240,
    async () => (await onMachine(first, answers, { allowFailure: true })).stdout.includes('ok'),
    500,
  ).then(() => onMachine(first, 'systemctl restart haproxy'));
  await Promise.all([done, ready]);
}

/** The administrator's way from the lab's own side: by the balancer of the first master, whose address every certificate has. */
async function writeKubeconfig(first: LabHost): Promise<void> {
  const { stdout } = await onMachine(first, 'cat /etc/kubernetes/admin.conf');
  mkdirSync(dirname(files.kubeconfig), { recursive: true, mode: 0o700 });
  const server = `https://${first.address}:${haPort}`;
  writeFileSync(files.kubeconfig, stdout.replace(/server: \S+/, `server: ${server}`), { mode: 0o600 });
}

/** The tool asks for kubelet's configuration under a name with the version, which kubeadm of this version does not make. */
async function copyKubeletConfiguration(): Promise<void> {
  const found = JSON.parse(await kubectl('-n', 'kube-system', 'get', 'configmap', 'kubelet-config', '-o', 'json')) as {
    data: { kubelet: string };
  };
  const name = `kubelet-config-${kubernetesVersion.replace(/^v(\d+\.\d+)\..*$/, '$1')}`;
  await kubectl('-n', 'kube-system', 'create', 'configmap', name, `--from-literal=kubelet=${found.data.kubelet}`);
}

/** Makes the old machines, which run, a cluster: the first by init, the others join one after the other. */
export async function startMasters(old: readonly LabHost[], all: readonly LabHost[]): Promise<void> {
  const [first, ...others] = old;
  if (first === undefined) throw new Error('a stacked control plane needs an old machine');
  const keys: Keys = {
    token: `${randomBytes(3).toString('hex')}.${randomBytes(8).toString('hex')}`,
    certificateKey: randomBytes(32).toString('hex'),
  };
  await awaitImages(first);
  await initialize(first, keys);
  await writeKubeconfig(first);
  say(`${first.name} is a master`);
  const { stdout } = await onMachine(first, 'cat /etc/kubernetes/pki/ca.crt');
  const key = new X509Certificate(stdout).publicKey.export({ type: 'spki', format: 'der' });
  const authority = `sha256:${createHash('sha256').update(key).digest('hex')}`;
  for (const host of others) {
    await awaitImages(host);
    const input = joinConfiguration(host, keys, authority);
    await onMachine(host, 'umask 077; cat > /root/kubeadm-join.yaml', { input });
    await onMachine(host, logged('kubeadm join --config /root/kubeadm-join.yaml'), { timeout: 400_000 });
    await onMachine(host, 'rm /root/kubeadm-join.yaml');
    say(`${host.name} is a master`);
  }
  await copyKubeletConfiguration();
  await Promise.all(all.map((host) => awaitImages(host)));
}
