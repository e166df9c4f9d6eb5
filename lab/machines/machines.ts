import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { partFolder, type PartName } from '../build/parts.ts';
import {
  allHosts,
  controlAddress,
  files,
  labState,
  machineState,
  nodeDirectory,
  repository,
  type LabHost,
} from '../paths.ts';
import { inLab, isAlive, isInside, pause, poll, readPid, startInLab } from '../process.ts';
import { run, type RunOptions, type RunOutput } from '../workloads/run.ts';

/** Writes a file of a machine before its first boot; it lies over the common root file system. */
export function writeInto(host: LabHost, path: string, content: string, mode = 0o644): void {
  const file = join(machineState(host.name), 'up', path);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, content, { mode });
  chmodSync(file, mode);
}

/** Makes a unit start at boot, as `systemctl enable` would. */
export function enableUnit(host: LabHost, unit: string): void {
  const upper = join(machineState(host.name), 'up');
  const own = `/etc/systemd/system/${unit}.service`;
  const wants = join(upper, 'etc', 'systemd', 'system', 'multi-user.target.wants');
  mkdirSync(wants, { recursive: true });
  symlinkSync(
    existsSync(join(upper, own)) ? own : `/lib/systemd/system/${unit}.service`,
    join(wants, `${unit}.service`),
  );
}

/** One key for whoever operates the lab; host keys of every machine are known beforehand and pinned. */
export async function makeKeys(): Promise<void> {
  mkdirSync(join(labState, 'keys'), { recursive: true, mode: 0o700 });
  await run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'lab', '-f', files.identity]);
  writeFileSync(files.knownHosts, '');
}

export function writeHostsFile(): void {
  const lines = allHosts.map(({ address, name }) => `${address} ${name}`);
  writeFileSync(files.hosts, ['127.0.0.1 localhost', `${controlAddress} control`, ...lines, ''].join('\n'));
}

/** The bridge that all machines and the lab's own side hang on. There is no way from it to the network outside. */
export async function makeBridge(): Promise<void> {
  await inLab(['ip', 'link', 'add', 'br0', 'type', 'bridge']);
  await inLab(['ip', 'addr', 'add', `${controlAddress}/24`, 'dev', 'br0']);
  await inLab(['ip', 'link', 'set', 'br0', 'up']);
  await inLab(['sysctl', '-q', '-w', 'net.ipv4.ip_forward=1']);
}

/** Directories of a machine that lie on a plain file system instead of its overlay, as databases and containerd want. */
const plainDirectories = ['sysvol', 'anyshare', 'srv', 'var/lib/kubelet', 'var/lib/containerd'];

/** Network, root and identity of a machine, not yet running. */
export async function createMachine(host: LabHost): Promise<void> {
  const { name, address } = host;
  const state = machineState(name);
  for (const directory of ['up', 'work', 'root', ...plainDirectories.map((path) => join('plain', path))]) {
    mkdirSync(join(state, directory), { recursive: true });
  }
  await inLab(['ip', 'netns', 'add', name]);
  await inLab(['ip', '-n', name, 'link', 'set', 'lo', 'up']);
  await inLab(['ip', 'link', 'add', `v${name}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name]);
  await inLab(['ip', 'link', 'set', `v${name}`, 'master', 'br0', 'up']);
  await inLab(['ip', '-n', name, 'addr', 'add', `${address}/24`, 'dev', 'eth0']);
  await inLab(['ip', '-n', name, 'link', 'set', 'eth0', 'up']);
  await inLab(['ip', '-n', name, 'route', 'replace', 'default', 'via', controlAddress]);
  const upper = join(state, 'up');
  const put = (path: string, content: string, mode?: number): void => writeInto(host, path, content, mode);
  mkdirSync(join(upper, 'root', '.ssh'), { recursive: true });
  chmodSync(join(upper, 'root'), 0o700);
  chmodSync(join(upper, 'root', '.ssh'), 0o700);
  put('root/.ssh/authorized_keys', readFileSync(`${files.identity}.pub`, 'utf8'), 0o600);
  put('etc/hostname', `${name}\n`);
  put('etc/machine-id', `${randomUUID().replaceAll('-', '')}\n`);
  put('etc/resolv.conf', '');
  put('etc/hosts', readFileSync(files.hosts, 'utf8'));
  put('etc/systemd/system.conf.d/lab.conf', '[Manager]\nDefaultTimeoutStopSec=10s\n');
  mkdirSync(join(upper, 'etc', 'ssh'), { recursive: true });
  const key = join(upper, 'etc', 'ssh', 'ssh_host_ed25519_key');
  await run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', key]);
  const [type = '', value = ''] = readFileSync(`${key}.pub`, 'utf8').split(' ');
  writeFileSync(files.knownHosts, `${name},${address} ${type} ${value}\n`, { flag: 'a' });
  for (const directory of [
    ...plainDirectories,
    'opt/ferry-lab',
    'opt/node/bin',
    'opt/kubernetes',
    'opt/helm',
    'opt/etcd',
    'opt/kubeadm',
    'images',
    'small',
    // a directory that kube-proxy insists on
    'usr/lib/modules',
  ]) {
    mkdirSync(join(upper, directory), { recursive: true });
  }
  mkdirSync(join(upper, 'tmp'));
  chmodSync(join(upper, 'tmp'), 0o1777);
  const helper = join(upper, 'usr', 'local', 'sbin', 'with-cgroup1');
  mkdirSync(join(helper, '..'), { recursive: true });
  cpSync(join(import.meta.dirname, 'with-cgroup1'), helper);
}

/** What a machine is started with; kept for its next start. */
export interface Equipment {
  rootfs: PartName;
  /** Folder of image archives; absent: no Kubernetes. */
  images?: string;
  /** Parts bound below /opt, by the name of the directory there. */
  programs: Partial<Record<string, PartName>>;
}

function nspawnArguments(host: LabHost, { images, programs }: Equipment): string[] {
  const state = machineState(host.name);
  const binds: [string, string][] = plainDirectories.map((path) => [join(state, 'plain', path), `/${path}`]);
  const readOnly: [string, string][] = [
    [repository, '/opt/ferry-lab'],
    [nodeDirectory, '/opt/node/bin'],
    ...Object.entries(programs).flatMap(([name, part]): [string, string][] =>
      part === undefined ? [] : [[partFolder(part), `/opt/${name}`]],
    ),
    ...(images === undefined ? [] : ([[images, '/images']] satisfies [string, string][])),
  ];
  return [
    ...['--capability=all', '--system-call-filter=@keyring', '--system-call-filter=bpf', '--bind=/dev/kmsg'],
    // a file system that is quickly full, for faults
    '--tmpfs=/small:size=64M,mode=0755',
    ...binds.map(([from, to]) => `--bind=${from}:${to}`),
    ...readOnly.map(([from, to]) => `--bind-ro=${from}:${to}`),
  ];
}

interface SavedStart {
  rootfs: string;
  args: string[];
}

/** Boots a machine that was created or, without equipment, one that was stopped. */
export async function startMachine(host: LabHost, equipment?: Equipment): Promise<void> {
  const state = machineState(host.name);
  const saved = join(state, 'start.json');
  if (equipment !== undefined) {
    const start: SavedStart = { rootfs: partFolder(equipment.rootfs), args: nspawnArguments(host, equipment) };
    writeFileSync(saved, JSON.stringify(start));
  }
  const { rootfs, args } = JSON.parse(readFileSync(saved, 'utf8')) as SavedStart;
  const overlay = `lowerdir=${rootfs},upperdir=${join(state, 'up')},workdir=${join(state, 'work')}`;
  const mount = 'mountpoint -q "$1" || mount -t overlay lab -o "$2" "$1"';
  await inLab(['sh', '-c', mount, 'sh', join(state, 'root'), overlay]);
  rmSync(join(state, 'supervisor.pid'), { force: true });
  const lab = readFileSync(files.keeper, 'utf8').trim();
  const script = join(import.meta.dirname, 'machine-run.sh');
  // its process id, as the lab counts, is what stop and crash need
  const wrapper = 'echo $$ > "$1/supervisor.pid"; shift; exec unshare -m --propagation private "$@"';
  const argv = ['bash', '-c', wrapper, 'machine', state, script, lab, host.name, state, ...args];
  startInLab(argv, join(state, 'console.log'));
}

function supervisor(name: string): string {
  return readFileSync(join(machineState(name), 'supervisor.pid'), 'utf8').trim();
}

/** Runs a shell script in the lab's namespaces, with arguments. */
async function script(text: string, ...args: string[]): Promise<string> {
  const { stdout } = await inLab(['bash', '-euc', text, 'lab', ...args]);
  return stdout.trim();
}

const waitGone =
  'gone() { for i in $(seq 600); do kill -0 $1 2>/dev/null && [ "$(ps -o stat= -p $1 | cut -c1)" != Z ] || return 0; sleep 0.05; done; exit 1; };';

/** Orderly power-off. */
export async function stopMachine(name: string): Promise<void> {
  await script(`${waitGone} kill -TERM $1; gone $1`, supervisor(name));
}

/**
 * Power loss. The link goes first, so that peers see silence and not a closed connection; then the supervisor, which would start it again.
 * Stopping it instead would stop what waits for it outside of the lab, and leave that behind.
 */
export async function crashMachine(name: string): Promise<void> {
  const text = `${waitGone} ip link set v$2 down
    nspawn=$(pgrep -P $1 -x systemd-nspawn); leader=$(pgrep -P $nspawn -x systemd)
    kill -KILL $1; kill -KILL $leader; kill -KILL $nspawn; gone $leader`;
  await script(text, supervisor(name), name);
}

export async function linkUp(name: string): Promise<void> {
  await inLab(['ip', 'link', 'set', `v${name}`, 'up']);
}

export async function linkDown(name: string): Promise<void> {
  await inLab(['ip', 'link', 'set', `v${name}`, 'down']);
}

export async function block(at: string, from: LabHost): Promise<void> {
  const rules = `add table inet lab; add chain inet lab in { type filter hook input priority 0; }; add rule inet lab in ip saddr ${from.address} drop`;
  await inLab(['ip', 'netns', 'exec', at, 'nft', rules]);
}

export async function unblock(at: string): Promise<void> {
  await inLab(['ip', 'netns', 'exec', at, 'nft', 'delete', 'table', 'inet', 'lab']);
}

export async function limitRate(name: string, megabits: string | undefined): Promise<void> {
  const at = ['ip', 'netns', 'exec', name, 'tc', 'qdisc'];
  if (megabits === undefined) await inLab([...at, 'del', 'dev', 'eth0', 'root']);
  else
    await inLab([
      ...at,
      'replace',
      'dev',
      'eth0',
      'root',
      'tbf',
      'rate',
      `${megabits}mbit`,
      'burst',
      '256kb',
      'latency',
      '200ms',
    ]);
}

const sshOptions = [
  '-o',
  'StrictHostKeyChecking=yes',
  '-o',
  'BatchMode=yes',
  '-o',
  'ConnectTimeout=5',
  '-o',
  'LogLevel=ERROR',
];

export function sshArguments(host: LabHost): string[] {
  return [
    'ssh',
    '-i',
    files.identity,
    '-o',
    `UserKnownHostsFile=${files.knownHosts}`,
    ...sshOptions,
    `root@${host.address}`,
  ];
}

export async function onMachine(host: LabHost, command: string, options: RunOptions = {}): Promise<RunOutput> {
  return inLab([...sshArguments(host), '--', command], options);
}

export async function awaitSsh(host: LabHost, seconds = 60): Promise<void> {
  const console_ = join(machineState(host.name), 'console.log');
  try {
    const answer = await poll(`ssh on ${host.name}`, seconds, async () => {
      // Without the lab there is nothing to wait for.
      if (!isInside() && readPid(files.init) === undefined) return 'gone';
      return (await onMachine(host, 'true', { timeout: 8000 })).code === 0 && 'there';
    });
    if (answer === 'gone') throw new Error('the lab has ended');
  } catch (error) {
    const last = existsSync(console_) ? readFileSync(console_, 'utf8').slice(-1500) : '';
    throw new Error(`${host.name} does not answer ssh: ${String(error)}\n${last}`, { cause: error });
  }
}

export function hostNamed(name: string | undefined): LabHost {
  const found = allHosts.find((host) => host.name === name);
  if (found === undefined)
    throw new Error(`no machine ${name ?? '(none named)'}; there are ${allHosts.map((host) => host.name).join(' ')}`);
  return found;
}

/** Ends the lab's keeper and waits until nothing of the lab is left. */
export async function endLab(): Promise<boolean> {
  if (isInside()) throw new Error('the lab cannot be taken down from inside');
  const keeper = readPid(files.keeper);
  if (keeper !== undefined) process.kill(keeper, 'SIGTERM');
  if (keeper === undefined && existsSync(labState)) rmSync(labState, { recursive: true, force: true });
  const deadline = Date.now() + 60_000;
  while (existsSync(labState) || (keeper !== undefined && isAlive(keeper))) {
    if (Date.now() > deadline) throw new Error(`the lab's state is still there after 60 s: ${labState}`);
    await pause(100);
  }
  return keeper !== undefined;
}
