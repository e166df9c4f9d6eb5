import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { apiServer, controlAddress, labState, type LabHost } from '../paths.ts';
import { run } from '../workloads/run.ts';

export const pki = join(labState, 'pki');

async function openssl(...args: string[]): Promise<void> {
  await run(['openssl', ...args], { cwd: pki });
}

async function certificate(name: string, subject: string, alternative?: string): Promise<void> {
  await openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', `${name}.key`);
  await openssl('req', '-new', '-key', `${name}.key`, '-subj', subject, '-out', `${name}.csr`);
  const extensions = ['extendedKeyUsage=clientAuth,serverAuth'];
  if (alternative !== undefined) extensions.push(`subjectAltName=${alternative}`);
  writeFileSync(join(pki, `${name}.ext`), `${extensions.join('\n')}\n`);
  const ca = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '365'];
  await openssl('x509', '-req', '-in', `${name}.csr`, ...ca, '-extfile', `${name}.ext`, '-out', `${name}.crt`);
}

function inline(file: string): string {
  return readFileSync(join(pki, file)).toString('base64');
}

/** Certificates inline, so that one file is all that a node or a client needs. */
function kubeconfig(name: string): void {
  const cluster = { server: apiServer, 'certificate-authority-data': inline('ca.crt') };
  const user = { 'client-certificate-data': inline(`${name}.crt`), 'client-key-data': inline(`${name}.key`) };
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'lab',
    clusters: [{ name: 'lab', cluster }],
    users: [{ name, user }],
    contexts: [{ name: 'lab', context: { cluster: 'lab', user: name } }],
  };
  writeFileSync(join(pki, `${name}.kubeconfig`), JSON.stringify(config), { mode: 0o600 });
}

/** CA, the API server's certificate, and a kubeconfig for everybody who talks to it. */
export async function makePki(hosts: readonly LabHost[]): Promise<void> {
  mkdirSync(pki, { recursive: true, mode: 0o700 });
  await openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', 'ca.key');
  await openssl('req', '-x509', '-new', '-key', 'ca.key', '-subj', '/CN=lab-ca', '-days', '365', '-out', 'ca.crt');
  await openssl('genrsa', '-out', 'sa.key', '2048');
  await openssl('rsa', '-in', 'sa.key', '-pubout', '-out', 'sa.pub');
  const names = ['localhost', 'kubernetes', 'kubernetes.default.svc'].map((name) => `DNS:${name}`);
  const addresses = [controlAddress, '127.0.0.1', '10.96.0.1'].map((address) => `IP:${address}`);
  await certificate('apiserver', '/CN=kube-apiserver', [...addresses, ...names].join(','));
  const clients: [string, string][] = [
    ['admin', '/O=system:masters/CN=admin'],
    ['kcm', '/CN=system:kube-controller-manager'],
    ['sched', '/CN=system:kube-scheduler'],
  ];
  for (const [name, subject] of clients) {
    await certificate(name, subject);
    kubeconfig(name);
  }
  for (const { name } of hosts) {
    await certificate(`node-${name}`, `/O=system:nodes/CN=system:node:${name}`, `DNS:${name}`);
    kubeconfig(`node-${name}`);
  }
}
