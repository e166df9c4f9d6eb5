import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

/** Root of the checkout; bound read-only at /opt/ferry-lab on every machine. */
export const repository = join(import.meta.dirname, '..');

/** What is built or fetched once per machine and kept, keyed by version. */
export const cache =
  process.env['LAB_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'proton-ferry');

const stateHome = process.env['XDG_STATE_HOME'] ?? join(homedir(), '.local', 'state');

/** Several labs may be up at once, each under a name of its own. */
export const labName = process.env['LAB_NAME'] ?? 'lab';
export const labState = join(stateHome, 'proton-ferry', 'lab', labName);

/** The interpreter that runs the lab, bound at /opt/node/bin on every machine. */
export const nodeDirectory = dirname(process.execPath);

export interface LabHost {
  name: string;
  address: string;
  /** Last number of the address; names its pod network 10.88.N.0/24. */
  number: number;
  role: 'old' | 'new';
}

function host(name: string, number: number, role: 'old' | 'new'): LabHost {
  return { name, address: `10.77.0.${number}`, number, role };
}

export const allHosts: readonly LabHost[] = [
  host('old1', 11, 'old'),
  host('old2', 12, 'old'),
  host('old3', 13, 'old'),
  host('new1', 21, 'new'),
  host('new2', 22, 'new'),
  host('new3', 23, 'new'),
];

/** The lab's own side of the bridge: API server, Temporal, ledger. */
export const controlAddress = '10.77.0.1';
export const apiServer = `https://${controlAddress}:6443`;

/** Where Kubernetes runs: beside the machines, or on the old ones, which kubeadm makes masters with etcd on them. */
export const controlPlanes = ['beside', 'stacked'] as const;
export type ControlPlane = (typeof controlPlanes)[number];

export function isControlPlane(name: string): name is ControlPlane {
  return controlPlanes.some((known) => known === name);
}

export const files = {
  /** Process id of the keeper, outside. */
  keeper: join(labState, 'keeper.pid'),
  /** Process id, outside, of the first process of the lab's namespaces. */
  init: join(labState, 'init.pid'),
  /** Exists when the lab is up; holds how it was brought up, as JSON. */
  ready: join(labState, 'ready.json'),
  /** Where Kubernetes runs in this lab. */
  controlPlane: join(labState, 'control-plane.txt'),
  log: join(labState, 'log'),
  identity: join(labState, 'keys', 'id_ed25519'),
  knownHosts: join(labState, 'keys', 'known_hosts'),
  kubeconfig: join(labState, 'pki', 'admin.kubeconfig'),
  hosts: join(labState, 'hosts'),
  bin: join(labState, 'bin'),
};

/** State of one machine: console log, overlay, data directories. */
export function machineState(name: string): string {
  return join(labState, 'machines', name);
}
