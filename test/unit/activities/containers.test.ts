/* The ways to the containers of a machine: our scripts run as they are, beside programs that answer as crictl, docker and ctr do. */
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { endContainers, findContainer } from '../../../src/activities/containers.ts';
import { openEtcdctl } from '../../../src/activities/etcd-command.ts';
import type { HostConnection, RunResult } from '../../../src/hosts/contract.ts';

const containerd = 'unix:///run/containerd/containerd.sock';
const dockershim = 'unix:///var/run/dockershim.sock';

/** What runs: id, name of the container, namespace of its pod, state. A component may be an etcd as well. */
const table = ['e1 etcd kube-system RUNNING', 'e2 etcd resource RUNNING', 'e0 etcd kube-system STOPPED'];

const tableReader = `here=$(dirname "$0")
words="$*"
name=; namespace=
case $words in *container.name*etcd*) name=etcd namespace=kube-system ;; esac
pick() { awk -v n="$name" -v s="$namespace" '(n == "" || $2 == n) && (s == "" || $3 == s) && $4 == "RUNNING" { print $1 }' "$here/table"; }
drop() { for id in "$@"; do sed -i "/^$id /d" "$here/table"; done; echo "$words" >>"$here/log"; }
`;
const programs = {
  crictl: `#!/bin/sh
${tableReader}
shift 2
case $1 in ps) pick ;; stop) shift 3; drop "$@" ;; *) exit 1 ;; esac
`,
  docker: `#!/bin/sh
${tableReader}
case $1 in ps) pick ;; stop) shift 3; drop "$@" ;; *) exit 1 ;; esac
`,
  ctr: `#!/bin/sh
${tableReader}
case "$3 $4" in
  'task ls') echo 'TASK    PID    STATUS'; awk '{ print $1, 100, $4 }' "$here/table" ;;
  'containers ls') awk -v n="$name" '$2 == n && $3 == "kube-system" { print $1 }' "$here/table" ;;
  'task kill') shift 7; drop "$@" ;;
  *) exit 1 ;;
esac
`,
  /** One that is there, of a runtime that is not. */
  broken: '#!/bin/sh\necho "cannot connect to the runtime" >&2\nexit 1\n',
};

let bin: string;
beforeEach(() => {
  bin = mkdtempSync(join(tmpdir(), 'ferry-containers-'));
  writeFileSync(join(bin, 'table'), `${table.join('\n')}\n`);
  writeFileSync(join(bin, 'log'), '');
});
afterEach(() => rmSync(bin, { recursive: true, force: true }));

function install(names: Partial<Record<'crictl' | 'docker' | 'ctr', keyof typeof programs>>): HostConnection {
  for (const [name, program] of Object.entries(names)) {
    writeFileSync(join(bin, name), programs[program]);
    chmodSync(join(bin, name), 0o755);
  }
  return {
    host: { name: 'm1', address: '10.0.0.1', port: 22, user: 'root', hostKeys: [] },
    run: (argv, options = {}) =>
      new Promise<RunResult>((resolve, reject) => {
        const [program = '', ...args] = argv;
        const child = spawn(program, args, { env: { PATH: `${bin}:/usr/bin:/bin` } });
        let [stdout, stderr] = ['', ''];
        child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
        child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
        child.on('error', reject);
        child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
        child.stdin.on('error', () => undefined);
        child.stdin.end(options.input ?? '');
      }),
    readFile: () => Promise.resolve(undefined),
    writeFile: () => Promise.reject(new Error('nothing is written here')),
  };
}

describe('a container of a static pod', () => {
  it.each([
    ['crictl', { crictl: 'crictl' }, containerd, { runtime: 'crictl', id: 'e1' }],
    ['ctr alone', { ctr: 'ctr' }, containerd, { runtime: 'ctr', id: 'e1' }],
    [
      'ctr, where crictl does not reach its runtime',
      { crictl: 'broken', ctr: 'ctr' },
      containerd,
      { runtime: 'ctr', id: 'e1' },
    ],
    ['docker', { docker: 'docker' }, dockershim, { runtime: 'docker', id: 'e1' }],
    [
      'docker, where crictl knows another runtime',
      { crictl: 'broken', docker: 'docker' },
      dockershim,
      { runtime: 'docker', id: 'e1' },
    ],
  ] as const)('is found with %s, and is not the etcd of a component', async (_with, names, socket, found) => {
    expect(await findContainer(install(names), socket, 'etcd')).toEqual(found);
  });

  it.each([
    ['nothing is there', {}, containerd],
    ['crictl does not reach its runtime', { crictl: 'broken' }, containerd],
    ['docker does not run', { docker: 'broken' }, dockershim],
    ['docker is the runtime and only another one answers', { ctr: 'ctr', docker: 'broken' }, dockershim],
  ] as const)('is never taken for absent because %s', async (_why, names, socket) => {
    await expect(findContainer(install(names), socket, 'etcd')).rejects.toMatchObject({ type: 'NeedsHuman' });
  });
});

describe('containers end', () => {
  it.each([
    ['crictl', /^--runtime-endpoint \S+ stop --timeout 10 e1$/m],
    ['ctr', /^--namespace k8s\.io task kill --signal SIGTERM --all e1$/m],
  ] as const)('with %s, those of the static pod and no others', async (runtime, command) => {
    const connection = install({ [runtime]: runtime });
    const ended = await endContainers(
      { ...connection, run: (argv, options) => connection.run(argv, withSocket(options)) },
      { name: 'etcd', deadline: 5000, untouched: 'everything else' },
    );

    expect(ended).toBe(1);
    expect(readFileSync(join(bin, 'log'), 'utf8')).toMatch(command);
    expect(readFileSync(join(bin, 'table'), 'utf8').split('\n')).toEqual([table[1], table[2], '']);
  });
});

/** The machine of these tests is not asked for its socket. */
function withSocket(options: Parameters<HostConnection['run']>[1]): Parameters<HostConnection['run']>[1] {
  const input = options?.input;
  return typeof input === 'string' && input.includes('container-runtime-endpoint')
    ? { ...options, input: `echo socket=${containerd}` }
    : options;
}

describe('etcdctl', () => {
  const manifest = `
spec:
  containers:
  - name: etcd
    command: [etcd, --data-dir=/var/lib/etcd, --listen-client-urls=https://127.0.0.1:2379, --listen-peer-urls=https://10.0.0.1:2380, --trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt]
    volumeMounts: [{ name: data, mountPath: /var/lib/etcd }]
  volumes: [{ name: data, hostPath: { path: /data/etcd } }]
`;
  it.each([
    ['crictl', { crictl: 'crictl' }, containerd, ['crictl', '--runtime-endpoint', containerd, 'exec', 'e1', 'etcdctl']],
    ['docker', { docker: 'docker' }, dockershim, ['docker', 'exec', 'e1', 'etcdctl']],
    [
      'ctr',
      { ctr: 'ctr' },
      containerd,
      ['ctr', '--namespace', 'k8s.io', 'task', 'exec', '--exec-id', expect.any(String) as string, 'e1', 'etcdctl'],
    ],
  ] as const)('runs in the container of the member, with %s', async (_way, names, socket, prefix) => {
    const connection = install(names);
    const asked: (readonly string[])[] = [];
    const etcdctl = await openEtcdctl({
      ...connection,
      readFile: () => Promise.resolve(Buffer.from(manifest)),
      run: (argv, options) => {
        const input = options?.input;
        if (typeof input === 'string' && input.includes('container-runtime-endpoint')) {
          return Promise.resolve({ code: 0, signal: null, stdout: `socket=${socket}\n`, stderr: '' });
        }
        if (argv.join(' ').includes('command -v etcdctl')) {
          return Promise.resolve({ code: 127, signal: null, stdout: '', stderr: '' });
        }
        asked.push(argv);
        return argv.includes('etcdctl')
          ? Promise.resolve({ code: 0, signal: null, stdout: '', stderr: '' })
          : connection.run(argv, options);
      },
    });

    await etcdctl.run(['member', 'list']);

    expect(etcdctl.inContainer).toBe(true);
    expect(asked.at(-1)?.slice(0, prefix.length)).toEqual(prefix);
    expect(asked.at(-1)).toContain('--hex=false');
  });
});
