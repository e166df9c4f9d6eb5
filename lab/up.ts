import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, openSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { besideParts, ensureImages, ensureParts, lightParts, partFolder, stackedParts } from './build/parts.ts';
import { enabledUnits, nodesReady, prepareNode, routePods } from './cluster/nodes.ts';
import { makePki } from './cluster/pki.ts';
import { masterUnits, prepareMaster, startMasters } from './cluster/stacked.ts';
import { kubectl, startControlPlane } from './cluster/control-plane.ts';
import {
  awaitSsh,
  createMachine,
  enableUnit,
  endLab,
  makeBridge,
  makeKeys,
  onMachine,
  startMachine,
  writeHostsFile,
  type Equipment,
} from './machines/machines.ts';
import { files, labName, labState, machineState, repository, type ControlPlane, type LabHost } from './paths.ts';
import { enter, inLab, poll, readPid, say, startInLab } from './process.ts';
import { run } from './workloads/run.ts';
import { buildServicePackage, profileFromEnvironment } from './workloads/service-package.ts';

export interface UpOptions {
  /** Machines with sshd and rsync only. */
  light: boolean;
  controlPlane: ControlPlane;
  hosts: readonly LabHost[];
  /** The lab ends with this process. */
  whilePid?: number;
  temporal: boolean;
  /** Installs the platform, applications and data as well. */
  platform: boolean;
  /** Ports of this machine that lead to the Web UI and to the Temporal frontend. */
  ports: { ui: number; frontend: number } | undefined;
}

export const searchAttributes = {
  FerryCluster: 'Keyword',
  FerryPhase: 'Keyword',
  FerryAwaitingGate: 'Keyword',
  FerryDowntimeStart: 'Datetime',
} as const;

async function startKeeper({ whilePid, ports }: UpOptions): Promise<void> {
  const log = openSync(files.log, 'a');
  const relayed = ports === undefined ? [] : [String(ports.ui), String(ports.frontend)];
  const argv = [join(repository, 'lab', 'keeper.ts'), String(process.pid), String(whilePid ?? '-'), ...relayed];
  const keeper = spawn(process.execPath, argv, { detached: true, stdio: ['ignore', log, log], cwd: '/' });
  keeper.unref();
  writeFileSync(files.keeper, String(keeper.pid));
  await poll('the namespaces of the lab', 15, () => Promise.resolve(readPid(files.init) !== undefined));
}

/** Commands of the lab's PATH: real tools from the cache, and `ferry` from this checkout. */
function writeCommands({ light, controlPlane }: UpOptions): void {
  mkdirSync(files.bin, { recursive: true });
  const link = (name: string, target: string): void => symlinkSync(target, join(files.bin, name));
  link('temporal', join(partFolder('temporal'), 'temporal'));
  link('temporal-test-server', join(partFolder('temporal'), 'temporal-test-server'));
  if (!light) {
    link('kubectl', join(partFolder('kubernetes'), 'kubectl'));
    link('helm3', join(partFolder('helm'), 'helm3'));
    link('etcdctl', join(partFolder('etcd'), 'etcdctl'));
    if (controlPlane === 'stacked') {
      link('etcd', join(partFolder('etcd'), 'etcd'));
      link('etcdutl', join(partFolder('etcdutl'), 'etcdutl'));
    }
  }
  const ferry = join(files.bin, 'ferry');
  writeFileSync(ferry, `#!/bin/sh\nexec '${process.execPath}' '${join(repository, 'src', 'client', 'bin.ts')}' "$@"\n`);
  chmodSync(ferry, 0o755);
}

async function startTemporal(isRelayed: boolean): Promise<void> {
  const attributes = Object.entries(searchAttributes).flatMap(([name, type]) => [
    '--search-attribute',
    `${name}=${type}`,
  ]);
  const temporal = join(partFolder('temporal'), 'temporal');
  const database = ['--db-filename', join(labState, 'temporal.db'), '--log-level', 'error'];
  const ports = ['--ip', '127.0.0.1', '--port', '7233', '--ui-port', '8233'];
  startInLab([temporal, 'server', 'start-dev', ...ports, ...database, ...attributes], join(labState, 'temporal.log'));
  if (isRelayed) {
    const sockets = [join(labState, 'ui.sock'), '8233', join(labState, 'frontend.sock'), '7233'];
    startInLab([process.execPath, join(repository, 'lab', 'relay-inside.ts'), ...sockets], join(labState, 'relay.log'));
  }
  await poll('the Temporal server', 60, async () => {
    const { code } = await inLab([temporal, 'operator', 'cluster', 'health'], { allowFailure: true });
    return code === 0;
  });
  say('Temporal answers');
}

/** What `lab run` sets for a command. */
export function labEnvironment(): Record<string, string> {
  return {
    IN_LAB: '1',
    LAB_NAME: labName,
    LAB_CONTROL_PLANE: existsSync(files.controlPlane) ? readFileSync(files.controlPlane, 'utf8') : 'beside',
    KUBECONFIG: files.kubeconfig,
    TEMPORAL_ADDRESS: '127.0.0.1:7233',
    FERRY_SSH_IDENTITY: files.identity,
    FERRY_KNOWN_HOSTS: files.knownHosts,
    PATH: `${files.bin}:${join(repository, 'node_modules', '.bin')}:${process.env['PATH'] ?? ''}`,
  };
}

/** The extracted dependency package on every old machine, and its version on all: where the platform would have them. */
async function putPackage(hosts: readonly LabHost[]): Promise<void> {
  const folder = join(labState, 'package');
  await buildServicePackage(folder, profileFromEnvironment());
  for (const { name, role } of hosts) {
    const upper = join(machineState(name), 'up');
    const share = join(upper, 'usr', 'local', 'share');
    mkdirSync(share, { recursive: true });
    await run(['cp', join(folder, 'proton-version.txt'), share]);
    if (role === 'old') await run(['cp', '-a', folder, join(upper, 'opt', 'proton-package')]);
  }
}

/** What machines are started with. */
function equipmentOf({ light, controlPlane }: UpOptions, images: string | undefined): Equipment {
  if (light || images === undefined) return { rootfs: 'rootfs', programs: {} };
  const programs = { kubernetes: 'kubernetes', helm: 'helm' } as const;
  if (controlPlane === 'beside') return { rootfs: 'rootfs', images, programs: { ...programs, etcd: 'etcd' } };
  return { rootfs: 'masterRootfs', images, programs: { ...programs, kubeadm: 'kubeadm' } };
}

async function bootMachines(options: UpOptions, images: string | undefined): Promise<void> {
  const { hosts, controlPlane } = options;
  const old = hosts.filter(({ role }) => role === 'old');
  for (const host of hosts) await createMachine(host);
  for (const host of hosts) {
    if (images !== undefined) {
      if (controlPlane === 'stacked') prepareMaster(host, old);
      else prepareNode(host);
      for (const unit of controlPlane === 'stacked' ? masterUnits(host) : enabledUnits(host)) enableUnit(host, unit);
    }
    enableUnit(host, 'ssh');
  }
  if (images !== undefined) await putPackage(hosts);
  const equipment = equipmentOf(options, images);
  await Promise.all(hosts.map((host) => startMachine(host, equipment)));
  await Promise.all(hosts.map((host) => awaitSsh(host)));
  say(`${hosts.map(({ name }) => name).join(' ')} answer ssh`);
}

async function awaitNodes(old: readonly LabHost[]): Promise<void> {
  await poll('the nodes to be Ready', 180, () => nodesReady(old), 500);
  await kubectl(
    'label',
    'node',
    ...old.map(({ name }) => name),
    'node-role.kubernetes.io/control-plane=',
    '--overwrite',
  );
  say('nodes Ready');
  const loaded = 'test -e /var/lib/containerd/images-loaded';
  for (const host of old) {
    await poll(
      `the images on ${host.name}`,
      300,
      async () => (await onMachine(host, loaded, { allowFailure: true })).code === 0,
      500,
    );
  }
  say('images imported');
}

/** Instances of inotify that all labs of this computer share; a machine with kubelet takes about a dozen. */
const inotifyInstances = 1024;

/**
 * Two labs at once run into the kernel's usual limit of 128, and kubelet then does not start. It is the one setting of the computer itself
 * that the lab changes, and it stays: other labs may live on it.
 */
function raiseInotifyLimit(): void {
  const file = '/proc/sys/fs/inotify/max_user_instances';
  if (Number(readFileSync(file, 'utf8')) < inotifyInstances) writeFileSync(file, String(inotifyInstances));
}

/** Brings a lab up and comes back when everything in it is ready. */
export async function up(options: UpOptions): Promise<void> {
  if (readPid(files.keeper) !== undefined)
    throw new Error(`lab ${labName} is already up; take it down first: npm run -s lab -- down`);
  if (process.getuid?.() !== 0) throw new Error('the lab makes machines and needs root');
  const isStacked = options.controlPlane === 'stacked';
  if (isStacked && options.light) throw new Error('--light machines have no control plane: leave --control-plane out');
  // Its machine went down under it: what is left stands in the way, and nothing runs.
  await endLab();
  await ensureParts(options.light ? lightParts : isStacked ? stackedParts : besideParts);
  const images = options.light ? undefined : await ensureImages(isStacked);
  raiseInotifyLimit();
  mkdirSync(labState, { recursive: true, mode: 0o700 });
  writeHostsFile();
  await makeKeys();
  writeCommands(options);
  writeFileSync(files.controlPlane, options.controlPlane);
  await startKeeper(options);
  await makeBridge();
  const work: Promise<void>[] = options.temporal ? [startTemporal(options.ports !== undefined)] : [];
  const old = options.hosts.filter(({ role }) => role === 'old');
  if (options.light) {
    await Promise.all([...work, bootMachines(options, undefined)]);
  } else {
    if (isStacked) {
      await Promise.all([...work, bootMachines(options, images)]);
      await routePods(options.hosts);
      await startMasters(old, options.hosts);
    } else {
      await makePki(options.hosts);
      const controlPlane = startControlPlane().then(() => say('Kubernetes API answers'));
      await Promise.all([...work, controlPlane, bootMachines(options, images)]);
      await routePods(options.hosts);
    }
    await awaitNodes(old);
    if (options.platform) await installPlatform();
  }
  const { ports, light, controlPlane } = options;
  const hosts = options.hosts.map(({ name }) => name);
  writeFileSync(files.ready, JSON.stringify({ light, controlPlane, hosts, ports }));
  say(`lab ${labName} is up`);
  if (ports !== undefined && options.temporal)
    console.error(`Web UI: http://127.0.0.1:${ports.ui}   Temporal: 127.0.0.1:${ports.frontend}`);
}

/** By the platform's own way: `proton-cli apply` on the first old machine. */
async function installPlatform(): Promise<void> {
  const argv = enter([process.execPath, join(repository, 'lab', 'workloads', 'main.ts'), 'install'], repository);
  const [file = '', ...args] = argv;
  const child = spawn(file, args, { stdio: 'inherit', env: { ...process.env, ...labEnvironment() } });
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (status) => resolve(status ?? 1));
  });
  if (code !== 0) throw new Error(`installing the platform failed (exit ${code})`);
}
