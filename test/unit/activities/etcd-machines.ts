/* Members of etcd on loopback addresses, each the only one of a machine that runs its commands here: etcd, etcdctl and TLS are real. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureParts, partFolder } from '../../../lab/build/parts.ts';
import type { HostConnection, Hosts, RunOptions, RunResult } from '../../../src/hosts/contract.ts';
import { HostUnreachable } from '../../../src/hosts/errors.ts';
import type { Host } from '../../../src/plan/plan.ts';
import { Authority } from './api-servers.ts';

/** Paths of a machine that lie in its own directory here. */
const own = ['/etc/kubernetes', '/var/lib/kubelet', '/var/lib/ferry'];

/** $0 is a name in the machine's bin; what each would do to a machine it does to files and the one process that runs there. */
const systemctl = `#!/bin/sh
cd "$(dirname "$0")/.."
case "$1" in
  show) case "$2" in
      *LoadState) echo loaded ;;
      *ActiveState) cat kubelet-active ;;
      *UnitFileState) cat kubelet-file ;;
    esac ;;
  disable) echo disabled >kubelet-file ;;
  stop) echo inactive >kubelet-active ;;
  *) exit 1 ;;
esac
`;
const crictl = `#!/bin/sh
here=$(dirname "$0")/..
[ "$1" = --runtime-endpoint ] && shift 2
running() { [ -e "$here/etcd.pid" ] && kill -0 "$(cat "$here/etcd.pid")" 2>/dev/null; }
case "$1 $*" in
  ps*container.name=kube-apiserver*) if [ -e "$here/api-runs" ]; then echo a91; fi ;;
  ps*) if running; then echo 5ca1ab1e; fi ;;
  stop*' a91') rm "$here/api-runs"; running && echo with-etcd >"$here/api-ended" ;;
  exec*) running || { echo 'container not found' >&2; exit 1; }; shift 2; program=$1; shift; exec "$here/image/$program" "$@" ;;
  stop*) kill "$(cat "$here/etcd.pid")"; echo stopped >>"$here/etcd-stopped" ;;
  *) exit 1 ;;
esac
`;

export class EtcdMachine {
  readonly host: Host;
  readonly directory: string;
  /** Does not answer ssh. */
  silent = false;
  /** Command lines, with the scripts they got. */
  readonly commands: string[] = [];
  /** Called with each command line before it runs; what it throws is what the caller sees. */
  onRun: (command: string) => void = () => undefined;
  #etcd: ChildProcess | undefined;
  #api: Server | undefined;
  ready = true;

  constructor(name: string, address: string, root: string) {
    this.host = { name, address, port: 22, user: 'root', hostKeys: [], role: 'other' };
    this.directory = join(root, name);
    for (const path of [
      'bin',
      'image',
      'data',
      'etc/kubernetes/manifests',
      'etc/kubernetes/pki/etcd',
      'var/lib/kubelet',
    ]) {
      mkdirSync(join(this.directory, path), { recursive: true, mode: 0o700 });
    }
    this.#put('bin/systemctl', systemctl, 0o755);
    this.#put('bin/crictl', crictl, 0o755);
    for (const program of ['etcdctl', 'etcdutl'] as const) {
      const part = partFolder(program === 'etcdctl' ? 'etcd' : 'etcdutl');
      this.#put(`image/${program}`, `#!/bin/sh\nexec ${join(part, program)} "$@"\n`, 0o755);
    }
    this.#put('api-runs', '');
    this.#put('kubelet-active', 'active\n');
    this.#put('kubelet-file', 'enabled\n');
    this.#put(
      'var/lib/kubelet/kubeadm-flags.env',
      'KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=unix:///run/containerd/containerd.sock --v=2"\n',
    );
  }

  #put(path: string, content: string, mode = 0o600): void {
    writeFileSync(join(this.directory, path), content);
    chmodSync(join(this.directory, path), mode);
  }

  state(name: 'kubelet-active' | 'kubelet-file' | 'api-ended'): string {
    return readFileSync(join(this.directory, name), 'utf8').trim();
  }

  get runs(): boolean {
    return this.#etcd !== undefined && this.#etcd.exitCode === null && this.#etcd.signalCode === null;
  }

  get peer(): string {
    return `${this.host.name}=https://${this.host.address}:2380`;
  }

  /** Writes certificates and the manifest as kubeadm does. */
  prepare(authority: Authority, initial: readonly EtcdMachine[], state: 'new' | 'existing'): void {
    const { name, address } = this.host;
    const pki = 'etc/kubernetes/pki/etcd';
    this.#put(`${pki}/ca.crt`, authority.certificate);
    for (const role of ['server', 'peer', 'healthcheck-client']) {
      const { key, cert } = authority.issue(`${name}-${role}`, `IP:${address},IP:127.0.0.1`);
      this.#put(`${pki}/${role}.key`, key);
      this.#put(`${pki}/${role}.crt`, cert);
    }
    copyFileSync(join(this.directory, pki, 'ca.crt'), join(this.directory, 'etc/kubernetes/pki/ca.crt'));
    const at = join(this.directory, pki);
    const [client, peer] = [`https://${address}:2379`, `https://${address}:2380`];
    const command = [
      'etcd',
      ...[`--name=${name}`, `--data-dir=${join(this.directory, 'data')}`, `--initial-cluster-state=${state}`],
      ...[`--advertise-client-urls=${client}`, `--listen-client-urls=${client}`],
      ...[`--initial-advertise-peer-urls=${peer}`, `--listen-peer-urls=${peer}`],
      `--initial-cluster=${initial.map((machine) => machine.peer).join(',')}`,
      ...['cert', 'peer-cert'].map((kind) => `--${kind.replace('cert', 'client-cert-auth')}=true`),
      ...[`--cert-file=${at}/server.crt`, `--key-file=${at}/server.key`, `--trusted-ca-file=${at}/ca.crt`],
      ...[`--peer-cert-file=${at}/peer.crt`, `--peer-key-file=${at}/peer.key`, `--peer-trusted-ca-file=${at}/ca.crt`],
    ];
    const manifest = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'etcd', namespace: 'kube-system' },
      spec: {
        containers: [
          { name: 'etcd', command, volumeMounts: [{ mountPath: join(this.directory, 'data'), name: 'etcd-data' }] },
        ],
        volumes: [{ name: 'etcd-data', hostPath: { path: join(this.directory, 'data'), type: 'DirectoryOrCreate' } }],
      },
    };
    this.#put('etc/kubernetes/manifests/etcd.yaml', JSON.stringify(manifest, null, 2));
    const { key, cert } = authority.issue(`${name}-api`, `IP:${address}`);
    this.#api = createServer({ key, cert }, (_request, response) => {
      if (this.ready) response.end('ok');
      else response.writeHead(500).end('[-]etcd failed: reason withheld\nreadyz check failed');
    });
  }

  /** Starts the member, as kubelet would from the manifest. */
  async start(): Promise<this> {
    const text = readFileSync(join(this.directory, 'etc/kubernetes/manifests/etcd.yaml'), 'utf8');
    const pod = JSON.parse(text) as { spec: { containers: { command: string[] }[] } };
    const [, ...args] = pod.spec.containers[0]?.command ?? [];
    const flags = ['--unsafe-no-fsync', '--log-level', 'error', '--election-timeout=1000', '--heartbeat-interval=100'];
    this.#etcd = spawn(join(partFolder('etcd'), 'etcd'), [...args, ...flags], {
      stdio: 'ignore',
    });
    writeFileSync(join(this.directory, 'etcd.pid'), `${this.#etcd.pid ?? 0}`);
    const api = this.#api;
    if (api !== undefined && !api.listening) {
      await new Promise<void>((resolve) => api.listen(6443, this.host.address, resolve));
    }
    return this;
  }

  /** Loses its power. */
  async crash(): Promise<void> {
    this.silent = true;
    await this.end();
  }

  async end(): Promise<void> {
    const etcd = this.#etcd;
    if (etcd !== undefined && this.runs) {
      const gone = new Promise((resolve) => etcd.once('exit', resolve));
      etcd.kill('SIGKILL');
      await gone;
    }
    this.#api?.closeAllConnections();
    if (this.#api?.listening === true) await new Promise((resolve) => this.#api?.close(resolve));
  }

  here(text: string): string {
    return own.reduce(
      (changed, path) => changed.replaceAll(new RegExp(String.raw`(?<![\w/])${path}`, 'g'), join(this.directory, path)),
      text,
    );
  }

  connection(): HostConnection {
    const check = (command: string): void => {
      if (this.silent) throw new HostUnreachable(this.host.name, 'no answer');
      this.commands.push(command);
      this.onRun(command);
    };
    return {
      host: this.host,
      run: async (argv, options = {}) => {
        check([...argv, String(options.input ?? '').slice(0, 2000)].join(' '));
        const result = await this.#execute(argv, options);
        if (this.silent) throw new HostUnreachable(this.host.name, 'the connection was lost');
        return result;
      },
      readFile: (path) => {
        check(`read ${path}`);
        const file = this.here(path);
        return Promise.resolve(existsSync(file) ? readFileSync(file) : undefined);
      },
      writeFile: (path, content, mode) => {
        check(`write ${path}`);
        this.#putAt(this.here(path), content, mode);
        return Promise.resolve();
      },
    };
  }

  #putAt(file: string, content: string | Buffer, mode: number): void {
    writeFileSync(file, content, { mode });
  }

  #execute(argv: readonly string[], options: RunOptions): Promise<RunResult> {
    const [program = '', ...args] = argv.map((word) => this.here(word));
    const input = typeof options.input === 'string' ? this.here(options.input) : options.input;
    return new Promise((resolve, reject) => {
      const child = spawn(program, args, {
        env: { PATH: `${join(this.directory, 'bin')}:/usr/bin:/bin`, ...options.env },
        timeout: options.timeout,
      });
      const out: Buffer[] = [];
      const err: Buffer[] = [];
      child.stdout.on('data', (chunk: Buffer) => {
        out.push(chunk);
        options.onStdout?.(chunk);
      });
      child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
      child.on('error', reject);
      child.on('close', (code, signal) =>
        resolve({
          code,
          signal,
          stdout: this.#ownSockets(Buffer.concat(out).toString()),
          stderr: Buffer.concat(err).toString(),
        }),
      );
      child.stdin.on('error', () => undefined);
      child.stdin.end(input);
    });
  }

  /** All machines share one table of sockets here; each sees those of its own address. */
  #ownSockets(text: string): string {
    const bytes = this.host.address.split('.').map((part) => Number(part).toString(16).padStart(2, '0').toUpperCase());
    const mine = bytes.toReversed().join('');
    return text
      .split('\n')
      .filter((line) => !/^\s*\d+: [0-9A-F]{8,32}:[0-9A-F]{4} /.test(line) || line.includes(` ${mine}:`))
      .join('\n');
  }
}

export class EtcdCluster {
  readonly root: string;
  readonly authority = new Authority();
  readonly machines: EtcdMachine[];
  readonly hosts: Hosts = {
    connect: (host) => {
      const machine = this.machines.find((candidate) => candidate.host.name === host.name);
      if (machine === undefined || machine.silent) return Promise.reject(new HostUnreachable(host.name, 'no answer'));
      return Promise.resolve(machine.connection());
    },
    close: () => Promise.resolve(),
  };

  private constructor(names: readonly string[], network: string) {
    this.root = mkdtempSync(join(tmpdir(), 'ferry-etcd-'));
    this.machines = names.map((name, index) => new EtcdMachine(name, `${network}.${index + 11}`, this.root));
  }

  /** Members that found a cluster together. */
  static async start(names: readonly string[], network = '127.61.0'): Promise<EtcdCluster> {
    await ensureParts(['etcd', 'etcdutl']);
    const cluster = new EtcdCluster(names, network);
    for (const machine of cluster.machines) machine.prepare(cluster.authority, cluster.machines, 'new');
    await Promise.all(cluster.machines.map((machine) => machine.start()));
    return cluster;
  }

  machine(name: string): EtcdMachine {
    const found = this.machines.find(({ host }) => host.name === name);
    if (found === undefined) throw new Error(`no machine ${name}`);
    return found;
  }

  /** etcdctl of the test itself, through the first machine that runs. */
  async etcdctl(...args: string[]): Promise<string> {
    const machine = this.machines.find((candidate) => candidate.runs && !candidate.silent);
    if (machine === undefined) throw new Error('no member runs');
    return this.etcdctlOn(machine, ...args);
  }

  async etcdctlOn(machine: EtcdMachine, ...args: string[]): Promise<string> {
    const at = join(machine.directory, 'etc/kubernetes/pki/etcd');
    const child = spawn(join(partFolder('etcd'), 'etcdctl'), [
      ...['--endpoints', `https://${machine.host.address}:2379`, '--cacert', `${at}/ca.crt`],
      ...['--cert', `${at}/healthcheck-client.crt`, '--key', `${at}/healthcheck-client.key`, ...args],
    ]);
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
    const code = await new Promise((resolve) => child.on('close', resolve));
    if (code !== 0) throw new Error(text);
    return text;
  }

  async stop(): Promise<void> {
    await Promise.all(this.machines.map((machine) => machine.end()));
    rmSync(this.root, { recursive: true, force: true });
    this.authority.remove();
  }
}
