/**
 * What makes a machine of the lab a Kubernetes node where the control plane runs beside the machines. containerd runs on all of them. On old machines kubelet is configured and enabled; on
 * new ones the same files lie prepared below `/etc/kubernetes/lab-join/`: `kubelet.kubeconfig`, `kubelet.yaml`, `ca.crt`. Joining is
 * copying these three to `/etc/kubernetes/` and `systemctl enable --now kubelet`, which is what the stand-in for `kubeadm join` does.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { files, type LabHost } from '../paths.ts';
import { inLab } from '../process.ts';
import { writeInto } from '../machines/machines.ts';
import { kubectl } from './control-plane.ts';
import { pki } from './pki.ts';

const containerdConfiguration = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/lab/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
`;

const kubeletConfiguration = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: /etc/kubernetes/ca.crt}}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
resolvConf: /etc/resolv.conf
nodeStatusUpdateFrequency: 4s
nodeLeaseDurationSeconds: 12
serializeImagePulls: false
registryPullQPS: 50
`;

function network(host: LabHost): string {
  const ranges = [[{ subnet: `10.88.${host.number}.0/24` }]];
  const ipam = { type: 'host-local', ranges, routes: [{ dst: '0.0.0.0/0' }] };
  const bridge = { type: 'bridge', bridge: 'cni0', isGateway: true, ipMasq: false, hairpinMode: true, ipam };
  return JSON.stringify({ cniVersion: '0.4.0', name: 'lab', plugins: [bridge] });
}

export function unit(description: string, lines: string[]): string {
  return `[Unit]\nDescription=${description}\n${lines.join('\n')}\n`;
}

export const install = ['[Install]', 'WantedBy=multi-user.target'];

function kubelet({ name, address }: LabHost): string {
  const flags = ['config=/etc/kubernetes/kubelet.yaml', 'kubeconfig=/etc/kubernetes/kubelet.kubeconfig'];
  const own = [`hostname-override=${name}`, `node-ip=${address}`];
  return unit('kubelet', [
    ...[
      'After=containerd.service load-images.service',
      'Wants=containerd.service',
      'ConditionPathExists=/etc/kubernetes/kubelet.kubeconfig',
    ],
    '[Service]',
    `ExecStart=/usr/local/sbin/with-cgroup1 /opt/kubernetes/kubelet ${[...flags, ...own].map((flag) => `--${flag}`).join(' ')}`,
    ...['Restart=always', 'RestartSec=2', ...install],
  ]);
}

/** What the first install leaves behind for joins; like there, in /tmp, and so gone after a reboot. */
const joinFile =
  'test ! -f /etc/lab/kubeadm-config.yaml || cp -p /etc/lab/kubeadm-config.yaml /tmp/kubeadm-config.yaml';

/** Images are imported once. */
function loadImages(which: string): string {
  const command = `for f in ${which}; do ctr -n k8s.io images import --no-unpack=false $f || ctr -n k8s.io images import $f || exit 1; done; ${joinFile}; touch /var/lib/containerd/images-loaded`;
  return unit('import the images of the lab', [
    ...[
      'After=containerd.service',
      'Wants=containerd.service',
      'ConditionPathExists=!/var/lib/containerd/images-loaded',
    ],
    ...['[Service]', 'Type=oneshot', 'TimeoutStartSec=600', `ExecStart=/bin/sh -c '${command}'`, ...install],
  ]);
}

/** Host services of the platform that cannot be had: something that runs, holds its directory, and can be stopped. */
function standIn(name: string, directory: string): string {
  return unit(`stand-in for ${name}`, [
    '[Service]',
    `ExecStart=/bin/sh -c 'mkdir -p ${directory}; exec sleep infinity'`,
    ...['Restart=always', ...install],
  ]);
}

const registryStorage = '/sysvol/proton_data/cr_data';

const registryConfiguration = `storage: ${registryStorage}
port: {chartmuseum: 5001, crmanager: 5002, registry: 5000, rpm: 5003}
configfile: {chartmuseum: /etc/chartmuseum/config.yaml, registry: /etc/docker/registry/config.yml}
`;

function agent(name: string, path: string): string {
  return unit(name, [
    ...['After=network.target', '[Service]', `ExecStart=/opt/node/bin/node /opt/ferry-lab/lab/stand-ins/${path}`],
    ...['Restart=always', 'RestartSec=1', ...install],
  ]);
}

/** What every machine of the platform has, whoever runs its control plane. `images`: the archives that it imports at first boot. */
export function preparePlatform(host: LabHost, images: string): void {
  const put = (path: string, content: string, mode?: number): void => writeInto(host, path, content, mode);
  put('etc/containerd/config.toml', containerdConfiguration);
  put('etc/cni/net.d/10-lab.conflist', network(host));
  const system = 'etc/systemd/system';
  put(
    `${system}/containerd.service.d/lab.conf`,
    '[Service]\nExecStartPre=\nExecStart=\nExecStart=/usr/local/sbin/with-cgroup1 /usr/bin/containerd\n',
  );
  put(`${system}/load-images.service`, loadImages(images));
  put(`${system}/docker.service`, standIn('docker', '/sysvol/proton_data/cs_docker_data'));
  put(
    `${system}/docker.socket`,
    unit('stand-in for docker.socket', [
      '[Socket]',
      'ListenStream=/run/lab-docker.sock',
      '[Install]',
      'WantedBy=sockets.target',
    ]),
  );
  for (const name of ['proton-cr', 'proton-cr-registry', 'proton-cr-chartmuseum']) {
    put(`${system}/${name}.service`, standIn(name, registryStorage));
  }
  put('etc/proton-cr/proton-cr.yaml', registryConfiguration);
  put(`${system}/ecms.service`, agent('ecms', 'ecms/main.ts'));
  put(`${system}/proton_slb_manager.service`, agent('proton_slb_manager', 'slb/main.ts'));
  put('usr/local/bin/proton-cli', standInCommand('proton-cli/main.ts'), 0o755);
  put('usr/local/bin/kubectl', '#!/bin/sh\nexec /opt/kubernetes/kubectl "$@"\n', 0o755);
  put('usr/local/bin/helm3', '#!/bin/sh\nexec /opt/helm/helm3 "$@"\n', 0o755);
  // the tool's own fixed waits, shortened: nothing is learned from them
  put('etc/lab/proton-cli.json', '{"sleepScale":0.1}\n');
}

/** A command of a machine that a program of the lab answers. */
export function standInCommand(path: string): string {
  return `#!/bin/sh\nexec /opt/node/bin/node /opt/ferry-lab/lab/stand-ins/${path} "$@"\n`;
}

/** Writes everything a machine needs to become, or be, a node of the platform. Before its first boot. */
export function prepareNode(host: LabHost): void {
  const put = (path: string, content: string, mode?: number): void => writeInto(host, path, content, mode);
  // new machines get the pause image alone: warming them is the migration's work
  preparePlatform(host, host.role === 'old' ? '/images/*.tar' : '/images/pause.tar');
  const joined = host.role === 'old' ? 'etc/kubernetes' : 'etc/kubernetes/lab-join';
  put(`${joined}/ca.crt`, readFileSync(join(pki, 'ca.crt'), 'utf8'));
  put(`${joined}/kubelet.kubeconfig`, readFileSync(join(pki, `node-${host.name}.kubeconfig`), 'utf8'), 0o600);
  put(`${joined}/kubelet.yaml`, kubeletConfiguration);
  const admin = readFileSync(files.kubeconfig, 'utf8');
  put(host.role === 'old' ? 'etc/kubernetes/admin.conf' : 'etc/kubernetes/lab-join/admin.conf', admin, 0o600);
  if (host.role === 'old') {
    put('root/.kube/config', admin, 0o600);
    put(
      'etc/lab/kubeadm-config.yaml',
      'apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.34.4\n',
      0o600,
    );
  }
  put('etc/systemd/system/kubelet.service', kubelet(host));
  put('usr/local/bin/kubeadm', standInCommand('kubeadm/main.ts'), 0o755);
}

/** Units that a machine starts at boot. */
export function enabledUnits(host: LabHost): string[] {
  const always = ['containerd', 'load-images', 'ecms', 'proton_slb_manager', 'proton-cr'];
  if (host.role === 'new') return always;
  return [...always, 'kubelet', 'docker', 'proton-cr-registry', 'proton-cr-chartmuseum'];
}

/** Pods of different machines reach each other through the lab's own side. */
export async function routePods(hosts: readonly LabHost[]): Promise<void> {
  for (const { address, number } of hosts)
    await inLab(['ip', 'route', 'replace', `10.88.${number}.0/24`, 'via', address]);
}

export async function nodesReady(hosts: readonly LabHost[]): Promise<boolean> {
  const path = 'jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}';
  const answer = await kubectl('get', 'nodes', '-o', path);
  return hosts.every(({ name }) => answer.split('\n').includes(`${name}=True`));
}
