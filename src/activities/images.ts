import { createHash } from 'node:crypto';
import type { HostConnection, Hosts } from '../hosts/contract.ts';
import { componentRows } from '../plan/components.ts';
import type { Host } from '../plan/plan.ts';
import type { Evidence, ImageActivities } from './contract.ts';
import { needsHuman, onHost, transient } from './failures.ts';
import { lastLines } from './helm.ts';
import { type KubernetesApi, type KubernetesObject, onApi, path } from './kubernetes-api.ts';
import { activityScope, whileBeating } from './polling.ts';

export interface ImageDeps {
  api: KubernetesApi;
  hosts: Hosts;
  /** Bytes that travel at once; default 8 MiB. */
  chunkBytes?: number;
}

interface PodSpec {
  nodeName?: string;
  containers?: { image?: string }[];
  initContainers?: { image?: string }[];
}
interface Pod extends KubernetesObject {
  spec: PodSpec;
  status?: { phase?: string };
}
interface Templated extends KubernetesObject {
  spec: { template?: { spec: PodSpec }; jobTemplate?: { spec: { template: { spec: PodSpec } } } };
}
interface Node extends KubernetesObject {
  status?: {
    images?: { names?: string[] }[];
    nodeInfo?: { containerRuntimeVersion?: string };
    conditions?: { type: string; status: string }[];
  };
}

const folder = '/var/lib/ferry/images';

/** Images for machines that have none yet. */
export function createImageActivities(deps: ImageDeps): ImageActivities {
  return {
    listImages: (input) => onApi(deps.api, 'Listing the images', 'everything', () => listImages(deps.api, input)),
    prewarmHost: (input) => onHost(input.target.name, 'images that are there already', () => prewarmHost(deps, input)),
  };
}

/** The reference as the container runtime stores it: with registry, and a tag where there is neither tag nor digest. */
export function fullReference(image: string): string {
  const slash = image.indexOf('/');
  const first = slash < 0 ? '' : image.slice(0, slash);
  const hasRegistry = first === 'localhost' || /[.:]/.test(first);
  const name = hasRegistry ? image : `docker.io/${slash < 0 ? `library/${image}` : image}`;
  const last = name.slice(name.lastIndexOf('/') + 1);
  return /[:@]/.test(last) ? name : `${name}:latest`;
}

async function listImages(
  api: KubernetesApi,
  input: { namespaces: string[]; references: string[] },
): Promise<{ image: string; host: string }[]> {
  const operators = componentRows.flatMap(({ workload }) =>
    workload.type === 'helm' ? [] : [workload.operator.namespace],
  );
  const namespaces = [...new Set([...input.namespaces, ...operators])];
  const wanted = new Set(input.references.map(fullReference));
  const hostsOf = new Map<string, Set<string>>();
  const found = (image: string, host: string): void => {
    const hosts = hostsOf.get(image) ?? new Set();
    hostsOf.set(image, hosts.add(host));
  };

  for (const namespace of namespaces) {
    for (const pod of await api.list<Pod>(path('v1', namespace, 'pods'))) {
      for (const image of imagesOf(pod.spec)) {
        wanted.add(image);
        if (pod.status?.phase === 'Running' && pod.spec.nodeName !== undefined) found(image, pod.spec.nodeName);
      }
    }
    // What runs only now and then, or has 0 replicas just now, needs its image as well.
    for (const [groupVersion, plural] of [
      ['apps/v1', 'deployments'],
      ['apps/v1', 'statefulsets'],
      ['apps/v1', 'daemonsets'],
      ['batch/v1', 'cronjobs'],
    ] as const) {
      for (const { spec } of await api.list<Templated>(path(groupVersion, namespace, plural))) {
        const template = spec.template?.spec ?? spec.jobTemplate?.spec.template.spec;
        if (template !== undefined) imagesOf(template).forEach((image) => wanted.add(image));
      }
    }
  }
  const nodes = await api.list<Node>(path('v1', undefined, 'nodes'));
  for (const { metadata, status } of nodes) {
    for (const name of (status?.images ?? []).flatMap(({ names }) => names ?? []))
      found(fullReference(name), metadata.name);
  }
  const ready = nodes.find(({ status }) =>
    status?.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'True'),
  )?.metadata.name;
  const named = new Set(input.references.map(fullReference));
  return [...wanted].sort().flatMap((image) => {
    // Nodes report their largest 50 images only, so an image a person named is looked for on a node that does not report it.
    const host = [...(hostsOf.get(image) ?? [])].sort()[0] ?? (named.has(image) ? ready : undefined);
    return host === undefined ? [] : [{ image, host }];
  });
}

function imagesOf(spec: PodSpec): string[] {
  return [...(spec.containers ?? []), ...(spec.initContainers ?? [])].flatMap(({ image }) =>
    image === undefined || image === '' ? [] : [fullReference(image)],
  );
}

/** The commands of a container runtime. */
interface Runtime {
  list: readonly string[];
  pulls: (image: string) => readonly string[][];
  save: (image: string, file: string) => readonly string[];
  load: (file: string) => readonly string[];
}

const ctr = ['ctr', '--namespace', 'k8s.io', 'images'];
const runtimes: Record<'containerd' | 'docker', Runtime> = {
  containerd: {
    list: [...ctr, 'ls', '-q'],
    // crictl knows the registries containerd is configured with; ctr is everywhere.
    pulls: (image) => [
      ['crictl', 'pull', image],
      [...ctr, 'pull', '--hosts-dir', '/etc/containerd/certs.d', image],
    ],
    save: (image, file) => [...ctr, 'export', file, image],
    load: (file) => [...ctr, 'import', file],
  },
  docker: {
    list: ['docker', 'image', 'ls', '--format', '{{.Repository}}:{{.Tag}}'],
    pulls: (image) => [['docker', 'pull', image]],
    save: (image, file) => ['docker', 'image', 'save', '--output', file, image],
    load: (file) => ['docker', 'image', 'load', '--input', file],
  },
};

async function prewarmHost(
  deps: ImageDeps,
  input: { target: Host; images: { image: string; from: Host }[] },
): Promise<Evidence & { loaded: number; present: number }> {
  const target = await deps.hosts.connect(input.target);
  const runtime = runtimes[await runtimeOf(deps.api, input.images[0]?.from.name)];
  const here = await presentImages(target, runtime);
  const missing = input.images.filter(({ image }) => !here.has(fullReference(image)));
  let pulls = true;
  let relayed = 0;
  for (const [index, { image, from }] of missing.entries()) {
    const label = `image ${index + 1} of ${missing.length}: ${image}`;
    if (pulls && (await pull(target, runtime, image, label))) continue;
    // One failed pull means that the registry is not reachable from there; the others would fail as slowly.
    pulls = false;
    const source = await onHost(from.name, 'images that are there already', () => deps.hosts.connect(from));
    await relay(source, target, runtime, image, label, deps.chunkBytes ?? 8 * 1024 * 1024);
    relayed += 1;
  }
  const after = await presentImages(target, runtime);
  const absent = input.images.filter(({ image }) => !after.has(fullReference(image))).map(({ image }) => image);
  if (absent.length > 0) {
    throw needsHuman({
      what: `Images are missing on ${input.target.name}`,
      cause: `loaded without an error, but not listed: ${absent.join(', ')}`,
      untouched: 'images that are there already',
      next: `${runtime.list.join(' ')} on ${input.target.name}, load them by hand, then: ferry resume`,
    });
  }
  return {
    changed: missing.length > 0,
    loaded: missing.length,
    present: input.images.length - missing.length,
    proof: `all ${input.images.length} images listed on ${input.target.name}: ${missing.length - relayed} pulled, ${relayed} relayed from old machines, ${input.images.length - missing.length} there before`,
  };
}

async function runtimeOf(api: KubernetesApi, host: string | undefined): Promise<'containerd' | 'docker'> {
  const node =
    host === undefined
      ? undefined
      : await onApi(api, 'Reading the container runtime', 'everything', () =>
          api.find<Node>(path('v1', undefined, 'nodes', host)),
        );
  return node?.status?.nodeInfo?.containerRuntimeVersion?.startsWith('docker') === true ? 'docker' : 'containerd';
}

async function presentImages(connection: HostConnection, runtime: Runtime): Promise<Set<string>> {
  const result = await connection.run(runtime.list, { timeout: 60_000, maxOutput: 16 * 1024 * 1024 });
  if (result.code !== 0) throw commandFailure(connection, runtime.list, result.stderr);
  return new Set(
    result.stdout
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '')
      .map(fullReference),
  );
}

function commandFailure(connection: HostConnection, argv: readonly string[], stderr: string): Error {
  const { name } = connection.host;
  return needsHuman({
    what: `${argv.slice(0, 5).join(' ')} failed on ${name}`,
    cause: lastLines(stderr) || 'no message',
    untouched: 'images that are there already',
    next: `see to the container runtime and the space below /var/lib on ${name}, then: ferry resume`,
  });
}

async function pull(connection: HostConnection, runtime: Runtime, image: string, label: string): Promise<boolean> {
  for (const argv of runtime.pulls(image)) {
    const result = await whileBeating({ waiting: `pull, ${label}` }, () =>
      connection.run(argv, { timeout: 600_000 }).catch(() => undefined),
    );
    if (result?.code === 0) return true;
    // 127: no such program; the next one may exist.
    if (result?.code !== 127) return false;
  }
  return false;
}

/**
 * From an old machine to a new one through the worker, in pieces: the two may not reach each other, and the worker never holds more than
 * a piece. A retry goes on after the last whole piece.
 */
async function relay(
  source: HostConnection,
  target: HostConnection,
  runtime: Runtime,
  image: string,
  label: string,
  chunkBytes: number,
): Promise<void> {
  const scope = activityScope();
  const name = createHash('sha256').update(image).digest('hex').slice(0, 16);
  const file = `${folder}/${name}-${target.host.name}.tar`;
  for (const connection of [source, target]) {
    await must(connection, ['install', '-d', '-m', '0700', '--', folder], 30_000);
  }
  await whileBeating({ waiting: `export, ${label}` }, () => must(source, runtime.save(image, file), 1_800_000));
  const total = Number(await must(source, ['stat', '-c', '%s', '--', file], 30_000));
  const digest = await digestOf(source, file);

  const partial = await target.run(['stat', '-c', '%s', '--', file], { timeout: 30_000 });
  // An export need not have the same bytes each time, so a partial file is of use only as a whole one.
  const whole = partial.code === 0 && Number(partial.stdout) === total && (await digestOf(target, file)) === digest;
  for (let offset = whole ? total : 0; offset < total; offset += chunkBytes) {
    scope.signal?.throwIfAborted();
    scope.heartbeat({ waiting: label, bytes: offset, total });
    const piece = await readPiece(source, file, offset / chunkBytes, chunkBytes);
    const wanted = Math.min(chunkBytes, total - offset);
    if (piece.length !== wanted) throw brokenRelay(source, image, `${piece.length} of ${wanted} bytes at ${offset}`);
    const argv = [
      'dd',
      `of=${file}`,
      `bs=${chunkBytes}`,
      `seek=${offset / chunkBytes}`,
      'iflag=fullblock',
      'status=none',
    ];
    const result = await target.run(argv, { input: piece, timeout: 300_000 });
    if (result.code !== 0) throw commandFailure(target, argv, result.stderr);
  }
  scope.heartbeat({ waiting: `import, ${label}`, bytes: total, total });
  if ((await digestOf(target, file)) !== digest) throw brokenRelay(target, image, 'its digest differs');
  await whileBeating({ waiting: `import, ${label}` }, () => must(target, runtime.load(file), 1_800_000));
  for (const connection of [source, target]) await must(connection, ['rm', '-f', '--', file], 60_000);
}

function brokenRelay(connection: HostConnection, image: string, why: string): Error {
  return transient({
    what: `The image ${image} did not arrive as it was sent`,
    cause: `${why} (${connection.host.name})`,
    untouched: 'images that are there already',
    next: 'it is tried again by itself',
  });
}

async function readPiece(connection: HostConnection, file: string, index: number, chunkBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const argv = ['dd', `if=${file}`, `bs=${chunkBytes}`, `skip=${index}`, 'count=1', 'status=none'];
  const result = await connection.run(argv, {
    timeout: 300_000,
    maxOutput: 1024,
    onStdout: (chunk) => chunks.push(chunk),
  });
  if (result.code !== 0) throw commandFailure(connection, argv, result.stderr);
  return Buffer.concat(chunks);
}

async function digestOf(connection: HostConnection, file: string): Promise<string> {
  const text = await whileBeating({ waiting: `digest of ${file}` }, () =>
    must(connection, ['sha256sum', '--', file], 600_000),
  );
  return text.split(/\s/)[0] ?? '';
}

async function must(connection: HostConnection, argv: readonly string[], timeout: number): Promise<string> {
  const result = await connection.run(argv, { timeout });
  if (result.code !== 0) throw commandFailure(connection, argv, result.stderr);
  return result.stdout.trim();
}
