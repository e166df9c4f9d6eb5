import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { partFolder } from '../build/parts.ts';
import { controlAddress, files, labState } from '../paths.ts';
import { inLab, poll, startInLab } from '../process.ts';
import { pki } from './pki.ts';

function kube(name: string): string {
  return join(partFolder('kubernetes'), name);
}

export async function kubectl(...args: string[]): Promise<string> {
  const { stdout } = await inLab([kube('kubectl'), '--kubeconfig', files.kubeconfig, ...args], { timeout: 30_000 });
  return stdout;
}

/** etcd, API server, controller manager and scheduler on the lab's own side, all real. */
export async function startControlPlane(): Promise<void> {
  const state = join(labState, 'control-plane');
  mkdirSync(state, { recursive: true });
  const start = (name: string, argv: string[]): void => {
    // process ids, as the lab counts, for faults
    const wrapper = 'echo $$ > "$1"; shift; exec "$@"';
    startInLab(['bash', '-c', wrapper, name, join(state, `${name}.pid`), ...argv], join(state, `${name}.log`));
  };
  // The API's service address works for pods without a kube-proxy; it leads nowhere else.
  await inLab(['ip', 'addr', 'replace', '10.96.0.1/32', 'dev', 'br0']);
  const redirect =
    'table ip kapi { chain c { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 tcp dport 443 redirect to :6443; }; }';
  await inLab(['nft', redirect]);
  const client = 'http://127.0.0.1:2379';
  const peer = 'http://127.0.0.1:2380';
  start('etcd', [
    ...[join(partFolder('etcd'), 'etcd'), '--data-dir', join(state, 'etcd')],
    ...['--listen-client-urls', client, '--advertise-client-urls', client, '--listen-peer-urls', peer],
    ...[
      '--initial-advertise-peer-urls',
      peer,
      '--initial-cluster',
      `default=${peer}`,
      '--unsafe-no-fsync',
      '--log-level',
      'warn',
    ],
  ]);
  start('apiserver', [
    ...[kube('kube-apiserver'), `--etcd-servers=${client}`, '--bind-address=0.0.0.0', '--secure-port=6443'],
    ...[
      `--advertise-address=${controlAddress}`,
      `--tls-cert-file=${pki}/apiserver.crt`,
      `--tls-private-key-file=${pki}/apiserver.key`,
    ],
    ...[
      `--client-ca-file=${pki}/ca.crt`,
      `--service-account-key-file=${pki}/sa.pub`,
      `--service-account-signing-key-file=${pki}/sa.key`,
    ],
    ...['--service-account-issuer=https://kubernetes.default.svc', '--service-cluster-ip-range=10.96.0.0/16'],
    ...['--authorization-mode=Node,RBAC', '--enable-admission-plugins=NodeRestriction', '--allow-privileged=true'],
    ...[`--kubelet-client-certificate=${pki}/admin.crt`, `--kubelet-client-key=${pki}/admin.key`],
    '--kubelet-preferred-address-types=InternalIP',
  ]);
  await poll('the API server', 60, async () => (await kubectl('get', '--raw', '/readyz')) === 'ok');
  const as = (name: string): string[] => [
    ...['kubeconfig', 'authentication-kubeconfig', 'authorization-kubeconfig'].map(
      (flag) => `--${flag}=${pki}/${name}.kubeconfig`,
    ),
    ...['--leader-elect=false', '--kube-api-qps=500', '--kube-api-burst=1000'],
  ];
  start('controller-manager', [
    ...[
      kube('kube-controller-manager'),
      ...as('kcm'),
      `--root-ca-file=${pki}/ca.crt`,
      '--use-service-account-credentials=true',
    ],
    ...[`--service-account-private-key-file=${pki}/sa.key`, `--cluster-signing-cert-file=${pki}/ca.crt`],
    ...[
      `--cluster-signing-key-file=${pki}/ca.key`,
      '--concurrent-statefulset-syncs=50',
      '--node-monitor-grace-period=12s',
    ],
  ]);
  // A pod whose volume was bound in the very moment of its first try would else wait for five minutes.
  const lookAgain = '--pod-max-in-unschedulable-pods-duration=20s';
  start('scheduler', [kube('kube-scheduler'), ...as('sched'), lookAgain]);
  await poll(
    'the controllers',
    60,
    async () => (await kubectl('-n', 'default', 'get', 'serviceaccount', 'default', '-o', 'name')) !== '',
  );
}
