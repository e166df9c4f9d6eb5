/**
 * Images of the lab as OCI archives: real servers from Debian's packages cut down to what they need, the lab's own writer, and a pause
 * that ends when told to. Nothing of it needs a container engine or a registry.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import {
  chmod,
  cp,
  link,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  readlink,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { run } from './run.ts';

/** Bump when the way images are made changes without their inputs changing. */
const recipe = '1';
const packages = ['redis-server', 'mariadb-server-core', 'libaio1', 'liburing2', 'libstdc++6'];
const suite = 'bookworm';

export interface ImageParts {
  /** The lab's etcd binary. */
  etcd: string;
  /** Folder for what is kept between builds. */
  cache: string;
  /** Told about each step that takes time. */
  progress?: (line: string) => void;
  /** Programs of masters that kubeadm makes; absent: no images of a control plane. */
  controlPlane?: ControlPlanePrograms;
}

/** Paths of built programs; their folders carry their versions. */
export interface ControlPlanePrograms {
  kubernetes: string;
  kubernetesVersion: string;
  kubeadm: string;
  etcd: string;
  etcdVersion: string;
  etcdutl: string;
  coredns: string;
  corednsVersion: string;
}

interface ImageSpec {
  name: string;
  /** Absent: the lab's own name for it. */
  reference?: string;
  /** What the image depends on; with the recipe it makes the key. */
  inputs: () => Promise<string[]>;
  config: { Entrypoint?: string[]; Cmd?: string[]; Env?: string[] };
  fill: (root: string) => Promise<void>;
}

/** `docker.io/lab/<name>:1`: the reference by which charts and pods name an image of the lab. */
export function imageReference(name: string): string {
  return `docker.io/lab/${name}:1`;
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Digest of all files below a folder, by name and content. */
export async function folderDigest(folder: string): Promise<string> {
  const hash = createHash('sha256');
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  for (const file of files.sort()) hash.update(`${relative(folder, file)}\0${await sha256(file)}\n`);
  return hash.digest('hex');
}

const here = import.meta.dirname;

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Makes `path` once: `make` fills a folder beside it that takes its place when complete, so a killed build leaves nothing half done. */
async function once(path: string, make: (draft: string) => Promise<void>): Promise<string> {
  if (await exists(path)) return path;
  await mkdir(dirname(path), { recursive: true });
  const draft = await mkdtemp(`${path}.draft-`);
  try {
    await make(join(draft, 'out'));
    await rename(join(draft, 'out'), path).catch(async (error: unknown) => {
      // somebody else was faster: theirs is as good
      if (!(await exists(path))) throw error;
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return path;
}

/** Builds a static Go program of the lab; returns the path of the binary. */
export async function buildProgram(
  name: 'writer' | 'pause',
  cache: string,
  progress?: (line: string) => void,
): Promise<string> {
  const source = join(here, name);
  const key = (await folderDigest(source)).slice(0, 16);
  return once(join(cache, `${name}-${key}`), async (out) => {
    progress?.(`build ${name}`);
    await run(['go', 'build', '-trimpath', '-ldflags', '-s -w', '-o', out, '.'], {
      cwd: source,
      env: { CGO_ENABLED: '0', GOFLAGS: '', GOTOOLCHAIN: 'local', GOWORK: 'off' },
    });
  });
}

/** Debian's packages of the real servers, unpacked, with a mariadb data directory prepared in /template. */
async function debian(cache: string, progress?: (line: string) => void): Promise<string> {
  const key = createHash('sha256')
    .update([recipe, suite, ...packages].join('\n'))
    .digest('hex')
    .slice(0, 16);
  return once(join(cache, `servers-${key}`), async (root) => {
    progress?.(`fetch Debian packages: ${packages.join(' ')}`);
    const trim = ['man', 'locale', 'doc'].map((folder) => `--dpkgopt=path-exclude=/usr/share/${folder}/*`);
    const sources = '/etc/apt/sources.list.d/debian.sources';
    const list = (await exists(sources)) ? [sources] : [];
    await run([
      'mmdebstrap',
      '--quiet',
      '--variant=extract',
      `--include=${packages.join(',')}`,
      ...trim,
      suite,
      root,
      ...list,
    ]);
    progress?.('prepare an empty mariadb data directory');
    const share = join(root, 'usr/share/mysql');
    const scripts = ['mysql_system_tables.sql', 'mysql_performance_tables.sql', 'mysql_system_tables_data.sql'];
    const sql = await Promise.all(scripts.map((script) => readFile(join(share, script), 'utf8')));
    await mkdir(join(root, 'template'));
    const options = [
      '--no-defaults',
      '--bootstrap',
      '--user=root',
      '--datadir=/template',
      '--enforce-storage-engine=',
      ...mariadbFiles,
    ];
    await run(['chroot', root, '/usr/sbin/mariadbd', ...options, '--max-allowed-packet=8M', '--log-warnings=0'], {
      input: ['create database mysql;', 'use mysql;', 'set @auth_root_socket=NULL;', ...sql].join('\n'),
    });
    await run(['chmod', '-R', 'a+rX', join(root, 'template')]);
  });
}

/** Options that decide how mariadb's files look; the prepared directory and the running server must agree on them. */
const mariadbFiles = [
  '--innodb-log-file-size=4M',
  '--innodb-data-file-path=ibdata1:12M:autoextend',
  '--innodb-buffer-pool-size=8M',
  '--innodb-use-native-aio=0',
];

/** Arguments that keep a mariadb of the lab small (28 MB). */
export const mariadbArguments = [
  ...mariadbFiles,
  '--lc-messages-dir=/usr/share/mysql',
  '--socket=/tmp/mysqld.sock',
  '--pid-file=/tmp/mysqld.pid',
  '--skip-name-resolve',
  '--performance-schema=off',
  '--innodb-log-buffer-size=2M',
  '--innodb-flush-log-at-trx-commit=1',
  '--innodb-temp-data-file-path=ibtmp1:4M:autoextend:max:64M',
  '--key-buffer-size=1M',
  '--aria-pagecache-buffer-size=1M',
  '--tmp-table-size=1M',
  '--table-open-cache=64',
  '--max-connections=30',
];

const loader = '/lib64/ld-linux-x86-64.so.2';

/** Copies a program of `from` and the shared libraries it names to the same places below `root`. */
async function copyProgram(from: string, path: string, root: string, to = path): Promise<void> {
  await copyFile(join(from, path), join(root, to));
  const list = from === '/' ? [loader, '--list', path] : ['chroot', from, loader, '--list', path];
  const { code, stdout } = await run(list, { allowFailure: true });
  // a static program names none, and the loader says so by its exit code
  if (code !== 0) return;
  const libraries = [...stdout.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1] ?? '');
  for (const library of new Set([...libraries, loader])) await copyFile(join(from, library), join(root, library));
}

async function copyFile(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await cp(from, to, { dereference: true, preserveTimestamps: true });
}

const proxyPackages = ['nftables', 'iptables', 'conntrack', 'kmod', 'libc6'];

/** What kube-proxy calls. */
async function proxyBase(cache: string, progress?: (line: string) => void): Promise<string> {
  const key = createHash('sha256')
    .update([recipe, suite, ...proxyPackages].join('\n'))
    .digest('hex')
    .slice(0, 16);
  return once(join(cache, `proxy-base-${key}`), async (root) => {
    progress?.(`fetch Debian packages: ${proxyPackages.join(' ')}`);
    const sources = '/etc/apt/sources.list.d/debian.sources';
    const list = (await exists(sources)) ? [sources] : [];
    const flags = ['--quiet', '--variant=extract', `--include=${proxyPackages.join(',')}`];
    await run(['mmdebstrap', ...flags, '--dpkgopt=path-exclude=/usr/share/*', suite, root, ...list]);
    for (const path of ['dev', 'var/lib/apt', 'var/cache/apt'])
      await rm(join(root, path), { recursive: true, force: true });
  });
}

/** Where kubeadm looks for the images of a control plane. */
export const imageRepository = 'docker.io/lab';

/**
 * The images of a control plane under the names that kubeadm of this version asks for (`kubeadm config images list`). The programs are
 * entry points: CoreDNS' Deployment gives arguments alone.
 */
function controlPlaneSpecifications(parts: ImageParts, programs: ControlPlanePrograms): ImageSpec[] {
  const { kubernetesVersion, etcdVersion, corednsVersion } = programs;
  const bin = '/usr/local/bin';
  const image = (name: string, tag: string, version: string, paths: readonly string[]): ImageSpec => ({
    name: `control-plane-${name}`,
    reference: `${imageRepository}/${name}:${tag}`,
    inputs: () => Promise.resolve([version, ...paths.map((path) => basename(path))]),
    config: { Entrypoint: [`${bin}/${basename(paths[0] ?? '')}`] },
    fill: async (root) => {
      for (const path of paths) await copyProgram('/', path, root, join(bin, basename(path)));
      await mkdir(join(root, 'etc'), { recursive: true });
      await writeFile(join(root, 'etc/passwd'), 'root:x:0:0::/:/\n');
      await mkdir(join(root, 'tmp'), { recursive: true });
      await chmod(join(root, 'tmp'), 0o1777);
    },
  });
  const proxy = image('kube-proxy', kubernetesVersion, kubernetesVersion, [join(programs.kubeadm, 'kube-proxy')]);
  return [
    ...['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'].map((name) =>
      image(name, kubernetesVersion, kubernetesVersion, [join(programs.kubernetes, name)]),
    ),
    {
      ...proxy,
      inputs: () => Promise.resolve([kubernetesVersion, ...proxyPackages]),
      fill: async (root) => {
        await cp(await proxyBase(parts.cache, parts.progress), root, { recursive: true, verbatimSymlinks: true });
        // the base has the libraries
        await copyFile(join(programs.kubeadm, 'kube-proxy'), join(root, bin, 'kube-proxy'));
      },
    },
    // with its tools, as the image of the platform: masters have none of them outside
    image('etcd', `${etcdVersion.slice(1)}-0`, etcdVersion, [
      ...['etcd', 'etcdctl'].map((name) => join(programs.etcd, name)),
      join(programs.etcdutl, 'etcdutl'),
    ]),
    image('coredns', corednsVersion, corednsVersion, [join(programs.coredns, 'coredns')]),
    {
      name: 'control-plane-pause',
      reference: `${imageRepository}/pause:${pauseTag}`,
      inputs: async () => [await folderDigest(join(here, 'pause'))],
      config: { Entrypoint: ['/pause'] },
      fill: async (root) => copyFile(await buildProgram('pause', parts.cache, parts.progress), join(root, 'pause')),
    },
  ];
}

/** The pause image that kubeadm of the lab's version names. */
const pauseTag = '3.10.1';

function specifications(parts: ImageParts): ImageSpec[] {
  const { cache, progress } = parts;
  const sources = async (...folders: string[]): Promise<string[]> =>
    Promise.all(folders.map((folder) => folderDigest(join(here, folder))));
  const program = async (name: 'writer' | 'pause', root: string): Promise<void> =>
    copyFile(await buildProgram(name, cache, progress), join(root, name));
  const temporary = async (root: string): Promise<void> => {
    await mkdir(join(root, 'tmp'), { recursive: true });
    await chmod(join(root, 'tmp'), 0o1777);
  };
  return [
    {
      name: 'pause',
      inputs: () => sources('pause'),
      config: { Entrypoint: ['/pause'] },
      fill: (root) => program('pause', root),
    },
    {
      name: 'writer',
      inputs: () => sources('writer'),
      config: { Entrypoint: ['/writer'] },
      fill: async (root) => {
        await program('writer', root);
        await temporary(root);
      },
    },
    {
      name: 'etcd',
      inputs: async () => [await sha256(parts.etcd)],
      config: { Entrypoint: ['/usr/local/bin/etcd'] },
      fill: (root) => copyProgram('/', parts.etcd, root, 'usr/local/bin/etcd'),
    },
    {
      name: 'redis',
      inputs: () => Promise.resolve(packages),
      config: { Cmd: ['/usr/bin/redis-server'] },
      fill: async (root) => {
        await copyProgram(await debian(cache, progress), '/usr/bin/redis-server', root);
        await temporary(root);
      },
    },
    {
      name: 'mariadb',
      inputs: async () => [...packages, ...(await sources('writer')), ...mariadbFiles],
      config: { Entrypoint: ['/writer', 'mariadb'] },
      fill: async (root) => {
        const from = await debian(cache, progress);
        await copyProgram(from, '/usr/sbin/mariadbd', root);
        for (const part of ['template', 'usr/share/mysql/charsets', 'usr/share/mysql/english'])
          await cp(join(from, part), join(root, part), { recursive: true });
        await program('writer', root);
        await temporary(root);
      },
    },
    {
      // holds no Node: the machine's own is mounted, this brings the C++ library it needs
      name: 'node',
      inputs: () => Promise.resolve(packages),
      config: { Cmd: ['/opt/node/bin/node', '--version'] },
      fill: async (root) => {
        const from = await debian(cache, progress);
        for (const library of [
          'libstdc++.so.6',
          'libgcc_s.so.1',
          'libm.so.6',
          'libc.so.6',
          'libdl.so.2',
          'libpthread.so.0',
          'librt.so.1',
          'libatomic.so.1',
        ]) {
          for (const folder of ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu']) {
            if (await exists(join(from, folder, library)))
              await copyFile(join(from, folder, library), join(root, 'lib/x86_64-linux-gnu', library));
          }
        }
        await copyFile(join(from, loader), join(root, loader));
        await mkdir(join(root, 'opt'));
        await temporary(root);
      },
    },
  ];
}

/**
 * Packs a folder as an OCI image archive of one layer. The layer is not compressed: machines import it from the same disk.
 * The same folder gives the same bytes.
 */
export async function packImage(
  root: string,
  out: string,
  reference: string,
  config: ImageSpec['config'],
): Promise<void> {
  const work = await mkdtemp(`${out}.pack-`);
  try {
    const blobs = join(work, 'blobs/sha256');
    await mkdir(blobs, { recursive: true });
    const same = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--format=gnu'];
    const layer = join(work, 'layer');
    await run(['tar', ...same, '-C', root, '-cf', layer, '.']);
    const layerDigest = await sha256(layer);
    const { size } = await stat(layer);
    await rename(layer, join(blobs, layerDigest));
    const put = async (content: object): Promise<{ digest: string; size: number }> => {
      const text = JSON.stringify(content);
      const digest = createHash('sha256').update(text).digest('hex');
      await writeFile(join(blobs, digest), text);
      return { digest: `sha256:${digest}`, size: Buffer.byteLength(text) };
    };
    const environment = ['PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...(config.Env ?? [])];
    const image = await put({
      architecture: 'amd64',
      os: 'linux',
      config: { ...config, Env: environment },
      rootfs: { type: 'layers', diff_ids: [`sha256:${layerDigest}`] },
      history: [{ created_by: 'lab' }],
    });
    const type = (name: string): string => `application/vnd.oci.image.${name}`;
    const manifest = await put({
      schemaVersion: 2,
      mediaType: type('manifest.v1+json'),
      config: { mediaType: type('config.v1+json'), ...image },
      layers: [{ mediaType: type('layer.v1.tar'), digest: `sha256:${layerDigest}`, size }],
    });
    const index = {
      schemaVersion: 2,
      manifests: [
        {
          mediaType: type('manifest.v1+json'),
          ...manifest,
          annotations: {
            'io.containerd.image.name': reference,
            'org.opencontainers.image.ref.name': reference.slice(reference.lastIndexOf(':') + 1),
          },
        },
      ],
    };
    await writeFile(join(work, 'index.json'), JSON.stringify(index));
    await writeFile(join(work, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    await run(['tar', ...same, '-C', work, '-cf', out, 'oci-layout', 'index.json', 'blobs']);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/**
 * Builds what is missing of the lab's images and returns the folder that holds exactly the archives of this state of the sources
 * (`<name>.tar`, to be imported by containerd). Kept by content: a second call takes milliseconds.
 */
export async function buildImages(parts: ImageParts): Promise<string> {
  const archives: { name: string; path: string }[] = [];
  const { controlPlane } = parts;
  const own = specifications(parts);
  const all = controlPlane === undefined ? own : [...own, ...controlPlaneSpecifications(parts, controlPlane)];
  for (const spec of all) {
    const inputs = await spec.inputs();
    const key = createHash('sha256')
      .update(JSON.stringify([recipe, suite, spec.name, spec.config, inputs]))
      .digest('hex')
      .slice(0, 16);
    const path = await once(join(parts.cache, `${spec.name}-${key}.tar`), async (out) => {
      const root = `${out}.root`;
      await mkdir(root, { mode: 0o755 });
      await spec.fill(root);
      parts.progress?.(`pack image ${spec.name}`);
      await packImage(root, out, spec.reference ?? imageReference(spec.name), spec.config);
    });
    archives.push({ name: spec.name, path });
  }
  const set = createHash('sha256')
    .update(archives.map(({ path }) => path).join('\n'))
    .digest('hex')
    .slice(0, 16);
  return once(join(parts.cache, `set-${set}`), async (folder) => {
    await mkdir(folder);
    for (const { name, path } of archives) await link(path, join(folder, `${name}.tar`));
  });
}

/** Copies a folder following symbolic links: a packaged chart stands alone. */
export async function copyFollowing(from: string, to: string): Promise<void> {
  const status = await lstat(from);
  if (status.isSymbolicLink()) return copyFollowing(join(dirname(from), await readlink(from)), to);
  if (!status.isDirectory()) return copyFile(from, to);
  await mkdir(to, { recursive: true });
  for (const name of await readdir(from)) await copyFollowing(join(from, name), join(to, name));
}
