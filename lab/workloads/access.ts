import { homedir } from 'node:os';
import { join } from 'node:path';
import { quoteCommand } from '../../src/hosts/quote.ts';
import type { Machine } from './cluster-config.ts';
import { run, type RunOptions, type RunOutput } from './run.ts';

/** How the platform is reached from inside a running lab. */
export interface LabAccess {
  /** The machines that hold the platform at first; the first is where proton-cli runs. */
  old: Machine[];
  /** Address of the lab's own side: the API server, and the ledger. */
  controlAddress: string;
  /** Who keeps the firewall of the machines: the platform, or nobody. */
  firewall: 'firewalld' | 'usermanaged';
  /** Folder for what outlives a command: the ledger. */
  state: string;
  /** Folder of built programs and images. */
  cache: string;
  kubectl(args: readonly string[], options?: RunOptions): Promise<RunOutput>;
  onMachine(machine: Machine, argv: readonly string[], options?: RunOptions): Promise<RunOutput>;
  progress: (line: string) => void;
}

function needed(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === '')
    throw new Error(`${name} is not set: run this inside the lab (npm run -s lab -- run …)`);
  return value;
}

/** Folder where the lab keeps what is built once per machine. */
export function workloadsCache(env: NodeJS.ProcessEnv = process.env): string {
  const base = env['LAB_CACHE'] ?? join(env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'proton-ferry');
  return join(base, 'workloads');
}

/** Access by what `lab run` has set in the environment. */
export function accessFromEnvironment(progress: (line: string) => void = console.error): LabAccess {
  const identity = needed('FERRY_SSH_IDENTITY');
  const knownHosts = needed('FERRY_KNOWN_HOSTS');
  needed('KUBECONFIG');
  const name = process.env['LAB_NAME'] ?? 'lab';
  const stateHome = process.env['XDG_STATE_HOME'] ?? join(homedir(), '.local', 'state');
  const ssh = [
    'ssh',
    '-i',
    identity,
    '-o',
    `UserKnownHostsFile=${knownHosts}`,
    '-o',
    'StrictHostKeyChecking=yes',
    '-o',
    'BatchMode=yes',
  ];
  return {
    old: [1, 2, 3].map((number) => ({ name: `old${number}`, address: `10.77.0.${10 + number}` })),
    controlAddress: '10.77.0.1',
    firewall: process.env['LAB_CONTROL_PLANE'] === 'stacked' ? 'firewalld' : 'usermanaged',
    state: join(stateHome, 'proton-ferry', 'lab', name, 'workloads'),
    cache: workloadsCache(),
    kubectl: (args, options) => run(['kubectl', ...args], options),
    onMachine: (machine, argv, options) =>
      run([...ssh, '-o', 'ConnectTimeout=10', `root@${machine.address}`, '--', quoteCommand(argv)], options),
    progress,
  };
}
