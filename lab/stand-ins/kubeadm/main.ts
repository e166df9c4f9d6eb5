/**
 * Stand-in for kubeadm on the light lab, whose control plane runs beside the machines: the few calls that proton-cli and an operator make,
 * with their preflights. Joining installs the files that lie prepared below /etc/kubernetes/lab-join and starts kubelet.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';

const prepared = '/etc/kubernetes/lab-join';
const joined = ['ca.crt', 'kubelet.kubeconfig', 'kubelet.yaml'];

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}

function systemctl(...args: string[]): void {
  const { status } = spawnSync('systemctl', args, { stdio: 'inherit' });
  if (status !== 0) fail(`systemctl ${args.join(' ')} failed`);
}

function place(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(`${prepared}/${from}`, to);
}

function join(file: string): void {
  if (!existsSync(file)) fail(`error: open ${file}: no such file or directory`);
  if (existsSync('/etc/kubernetes/kubelet.kubeconfig')) {
    fail(
      '[preflight] Some fatal errors occurred:\n\t[ERROR FileAvailable--etc-kubernetes-kubelet.conf]: /etc/kubernetes/kubelet.conf already exists',
    );
  }
  if (!existsSync(prepared)) fail('this machine has nothing to join with');
  for (const name of joined) place(name, `/etc/kubernetes/${name}`);
  if (readFileSync(file, 'utf8').includes('controlPlane:')) place('admin.conf', '/etc/kubernetes/admin.conf');
  systemctl('enable', '--now', 'kubelet');
}

function reset(): void {
  spawnSync('systemctl', ['disable', '--now', 'kubelet']);
  const kill =
    'for t in $(ctr -n k8s.io task ls -q); do ctr -n k8s.io task kill -s SIGKILL $t; done; sleep 1; for c in $(ctr -n k8s.io container ls -q); do ctr -n k8s.io task rm -f $c; ctr -n k8s.io container rm $c; done';
  spawnSync('sh', ['-c', kill], { stdio: 'ignore' });
  // what the node needs to join once more stays: on the platform the package brings it
  if (!existsSync(prepared)) {
    mkdirSync(prepared, { recursive: true });
    for (const name of [...joined, 'admin.conf']) {
      if (existsSync(`/etc/kubernetes/${name}`)) copyFileSync(`/etc/kubernetes/${name}`, `${prepared}/${name}`);
    }
  }
  for (const name of [...joined, 'admin.conf']) rmSync(`/etc/kubernetes/${name}`, { force: true });
}

const args = process.argv.slice(2);
const [command, ...rest] = args;
const config =
  rest.find((word) => word.startsWith('--config='))?.slice('--config='.length) ??
  rest[rest.indexOf('--config') + 1] ??
  '';
if (command === 'version') console.log('kubeadm version: v1.34.4');
else if (command === 'token')
  console.log('kubeadm join 10.77.0.1:6443 --token lab.lab --discovery-token-ca-cert-hash sha256:0');
else if (command === 'init' && rest[0] === 'phase') {
  if (!existsSync(config))
    fail(`error: unable to read config from "${config}" : open ${config}: no such file or directory`);
  console.log('[upload-certs] Storing the certificates in Secret "kubeadm-certs" in the "kube-system" Namespace');
  console.log('[upload-certs] Using certificate key:');
  console.log('0000000000000000000000000000000000000000000000000000000000000000');
} else if (command === 'init') {
  fail('[preflight] Some fatal errors occurred:\n\t[ERROR Port-6443]: Port 6443 is in use');
} else if (command === 'join') join(config);
else if (command === 'reset') reset();
else fail(`unknown command "${command ?? ''}" for "kubeadm"`);
