import { randomBytes } from 'node:crypto';
import { posix } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import type { HostConnection, RunOptions, RunResult } from '../hosts/contract.ts';
import { isWithin } from '../plan/directories.ts';
import { criSocket, findContainer } from './containers.ts';
import { lastLines } from './helm.ts';

/*
 * etcdctl on a master. The hosts seldom have it: it comes in etcd's own image, and runs inside the member's container then, where the
 * certificates have the same paths.
 */

export const etcdManifest = '/etc/kubernetes/manifests/etcd.yaml';

/** What the manifest of a master's static pod says of its member. */
export interface EtcdSetup {
  /** As etcd sees it. */
  dataDirectory: string;
  /** As the host sees it. */
  hostDataDirectory: string;
  /** Where the certificates lie; those of kubeadm's health check open every member. */
  certificates: string;
  /** The member's own client address. */
  endpoint: string;
  /** Ports of clients and peers. */
  ports: number[];
}

const manifestSchema = z.object({
  spec: z.object({
    containers: z.array(
      z.object({
        name: z.string(),
        command: z.array(z.string()).default([]),
        args: z.array(z.string()).default([]),
        volumeMounts: z.array(z.object({ name: z.string(), mountPath: z.string() })).default([]),
      }),
    ),
    volumes: z.array(z.object({ name: z.string(), hostPath: z.object({ path: z.string() }).optional() })).default([]),
  }),
});

/** Throws when it is not the manifest of an etcd member. */
export function parseEtcdManifest(text: string): EtcdSetup {
  const { spec } = manifestSchema.parse(parse(text));
  const container = spec.containers.find(({ name }) => name === 'etcd');
  if (container === undefined) throw new Error(`${etcdManifest} has no container etcd`);
  const words = [...container.command, ...container.args];
  const flag = (name: string): string => {
    const at = words.findIndex((word) => word === `--${name}` || word.startsWith(`--${name}=`));
    const word = words[at] ?? '';
    const value = word.includes('=') ? word.slice(word.indexOf('=') + 1) : words[at + 1];
    if (at < 0 || value === undefined || value === '') throw new Error(`${etcdManifest} does not set --${name}`);
    return value;
  };
  const dataDirectory = flag('data-dir');
  const clients = flag('listen-client-urls').split(',');
  const endpoint = clients.find((url) => /^https:\/\/(127\.|localhost|\[::1\])/.test(url)) ?? clients[0] ?? '';
  return {
    dataDirectory,
    hostDataDirectory: onHostPath(dataDirectory, container.volumeMounts, spec.volumes),
    certificates: posix.dirname(flag('trusted-ca-file')),
    endpoint,
    ports: [...new Set([...clients, ...flag('listen-peer-urls').split(',')].map(portOf))],
  };
}

function onHostPath(
  path: string,
  mounts: readonly { name: string; mountPath: string }[],
  volumes: readonly { name: string; hostPath?: { path: string } | undefined }[],
): string {
  const [mount] = mounts
    .filter(({ mountPath }) => isWithin(path, mountPath))
    .toSorted((a, b) => b.mountPath.length - a.mountPath.length);
  const source = volumes.find(({ name }) => name === mount?.name)?.hostPath?.path;
  if (mount === undefined || source === undefined)
    throw new Error(`${etcdManifest}: ${path} is no directory of the host`);
  return `${source.replace(/\/$/, '')}${path.slice(mount.mountPath.length)}`;
}

function portOf(url: string): number {
  const { port } = new URL(url);
  return port === '' ? 443 : Number(port);
}

/** What a machine's manifest says of its member; undefined when it has none. Throws EtcdUnavailable when it is none that is known here. */
export async function readSetup(connection: HostConnection): Promise<EtcdSetup | undefined> {
  const manifest = await connection.readFile(etcdManifest);
  if (manifest === undefined) return undefined;
  try {
    return parseEtcdManifest(manifest.toString('utf8'));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new EtcdUnavailable(`${connection.host.name}: ${why}`, { cause: error });
  }
}

/** This machine cannot be asked about etcd; another may. */
export class EtcdUnavailable extends Error {
  override readonly name = 'EtcdUnavailable';
}

export interface Etcdctl {
  connection: HostConnection;
  setup: EtcdSetup;
  /** Whether the tool runs in the member's container, which sees the data directory and not the rest of the host. */
  inContainer: boolean;
  /** etcdctl with the member's certificates; without endpoints it asks the member of this machine. */
  run(args: readonly string[], options?: { endpoints?: readonly string[]; timeout?: number }): Promise<RunResult>;
  /** etcdutl, which reads files; where there is none (before 3.5), etcdctl does its work. */
  runOnFiles(args: readonly string[], options?: RunOptions): Promise<RunResult>;
}

/** The way to etcdctl on a machine. Throws EtcdUnavailable when it is no master now, or has no etcdctl and no running member. */
export async function openEtcdctl(connection: HostConnection): Promise<Etcdctl> {
  const setup = await readSetup(connection);
  if (setup === undefined) throw new EtcdUnavailable(`${connection.host.name} has no ${etcdManifest}`);
  const prefix = await wayTo(connection);

  const certificates = [
    ...['--cacert', `${setup.certificates}/ca.crt`],
    ...['--cert', `${setup.certificates}/healthcheck-client.crt`],
    ...['--key', `${setup.certificates}/healthcheck-client.key`],
  ];
  return {
    connection,
    setup,
    inContainer: prefix.inContainer,
    run: (args, { endpoints = [setup.endpoint], timeout = 5000 } = {}) =>
      connection.run(
        [
          ...prefix.of('etcdctl'),
          ...['--endpoints', endpoints.join(','), ...certificates],
          // Somebody's ETCDCTL_HEX would change the ids, and in some versions leave no JSON at all.
          ...['--dial-timeout', '2s', '--command-timeout', `${timeout}ms`, '--hex=false'],
          ...args,
        ],
        // Each endpoint may take its time.
        { timeout: endpoints.length * (timeout + 2000) + 15_000, env: { ETCDCTL_API: '3' } },
      ),
    runOnFiles: async (args, options) => {
      const modern = await connection.run([...prefix.of('etcdutl'), ...args], options);
      if (modern.code === 0 || !isMissing(modern)) return modern;
      return connection.run([...prefix.of('etcdctl'), ...args], { ...options, env: { ETCDCTL_API: '3' } });
    },
  };
}

function isMissing({ code, stderr }: RunResult): boolean {
  return code === 127 || /not found|no such file/i.test(stderr);
}

interface Way {
  inContainer: boolean;
  of(program: 'etcdctl' | 'etcdutl'): string[];
}

async function wayTo(connection: HostConnection): Promise<Way> {
  const onPath = await connection.run(['sh', '-c', 'command -v etcdctl'], { timeout: 30_000 });
  if (onPath.code === 0) return { inContainer: false, of: (program) => [program] };
  const socket = await criSocket(connection);
  const member = await findContainer(connection, socket, 'etcd');
  if (member === undefined) {
    throw new EtcdUnavailable(`${connection.host.name} has no etcdctl, and its member of etcd does not run`);
  }
  const { runtime, id } = member;
  return {
    inContainer: true,
    of: (program) => {
      switch (runtime) {
        case 'crictl':
          return ['crictl', '--runtime-endpoint', socket, 'exec', id, program];
        case 'docker':
          return ['docker', 'exec', id, program];
        case 'ctr': {
          const exec = `ferry-${randomBytes(6).toString('hex')}`;
          return ['ctr', '--namespace', 'k8s.io', 'task', 'exec', '--exec-id', exec, id, program];
        }
      }
    },
  };
}

/** What etcdctl said last: before it stand its retries, a line of JSON each. */
export function complaint({ stderr, stdout, code }: RunResult): string {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('{"level"'));
  return lastLines(lines.join('\n'), 2) || lastLines(stdout, 1) || `exit code ${code ?? '?'}`;
}
