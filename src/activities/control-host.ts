import { isMap, isScalar, parseAllDocuments, parseDocument, type Scalar } from 'yaml';
import type { HostConnection, Hosts } from '../hosts/contract.ts';
import type { Host, Plan } from '../plan/plan.ts';
import { criSocket } from './containers.ts';
import type { Evidence } from './contract.ts';
import type { Deadlines } from './deadlines.ts';
import { needsHuman, onHost } from './failures.ts';
import { lastLines } from './helm.ts';
import { hostState } from './host-state.ts';
import { type KubernetesApi, type KubernetesObject, onApi, path } from './kubernetes-api.ts';
import { connectUnlessAway } from './kubelet.ts';
import { sha256 } from './platform-secrets.ts';

/* Where proton-cli runs: what it needs there besides its package, which a transfer of its own carries. */

/** From this file the first master makes the keys with which nodes join; reboots and cleaners of /tmp remove it. */
export const kubeadmConfig = '/tmp/kubeadm-config.yaml';

export interface ControlDeps {
  api: KubernetesApi;
  hosts: Hosts;
  deadlines: Deadlines;
}

interface MoveInput {
  migration: string;
  from: Host;
  to: Host;
  platform: Plan['platform'];
}

export async function moveControl(deps: ControlDeps, input: MoveInput): Promise<Evidence> {
  const { from, to, platform } = input;
  const untouched = `${from.name}, and what ${to.name} had already`;
  const old = await onHost(from.name, untouched, () => connectUnlessAway(deps.hosts, from, deps.deadlines.away));
  return onHost(to.name, untouched, async () => {
    const connection = await deps.hosts.connect(to);
    await requirePackage(connection, platform);
    const written: string[] = [];
    const put = async (file: string, content: string | Buffer): Promise<void> => {
      const bytes = Buffer.from(content);
      if ((await connection.readFile(file))?.equals(bytes) === true) return;
      await connection.writeFile(file, bytes, 0o600);
      written.push(file);
    };
    await carryNamespaceFile(connection, old, input, put);
    await put(kubeadmConfig, await kubeadmConfigFor(deps, connection, old, to));
    await giveKubeconfig(connection, platform, put);
    const version = await proveTool(connection, platform);
    return {
      changed: written.length > 0,
      proof: `proton-cli ${version} works on ${to.name}${written.length === 0 ? '' : `, with ${written.join(', ')}`}${old === undefined ? `; ${from.name} did not answer, so they were made from the cluster and the plan` : ''}`,
    };
  });
}

/** proton-cli works anywhere, but has the first master make the keys: another one than the control host when masters leave in front of it. */
export async function giveJoinFile(deps: ControlDeps, { control, to }: { control: Host; to: Host }): Promise<Evidence> {
  const untouched = `everything but ${kubeadmConfig} on ${to.name}`;
  const old =
    control.name === to.name
      ? undefined
      : await onHost(control.name, untouched, () => connectUnlessAway(deps.hosts, control, deps.deadlines.away));
  return onHost(to.name, untouched, async () => {
    const connection = await deps.hosts.connect(to);
    const isThere = (await connection.readFile(kubeadmConfig)) !== undefined;
    if (!isThere) {
      const content = await kubeadmConfigFor(deps, connection, old, to);
      await connection.writeFile(kubeadmConfig, Buffer.from(content), 0o600);
    }
    return { changed: !isThere, proof: `nodes can join with ${kubeadmConfig} on ${to.name}` };
  });
}

type Put = (file: string, content: string | Buffer) => Promise<void>;

async function requirePackage(connection: HostConnection, { packageDirectory }: Plan['platform']): Promise<void> {
  const found = await connection.run(['test', '-d', `${packageDirectory}/service-package`], { timeout: 30_000 });
  if (found.code === 0) return;
  throw needsHuman({
    what: `${connection.host.name} cannot become the control host`,
    cause: `the dependency package is not in ${packageDirectory} there`,
    untouched: `everything on ${connection.host.name}`,
    next: `copy the package directory there, then: ferry resume`,
  });
}

/**
 * The file that tells proton-cli where its configuration lies; with a wrong one it installs a new cluster. Its digest from before the
 * migration comes along, which every apply is held against.
 */
async function carryNamespaceFile(
  connection: HostConnection,
  old: HostConnection | undefined,
  { migration, platform }: MoveInput,
  put: Put,
): Promise<void> {
  const file = `${platform.home}/.proton-cli.yaml`;
  const { directory, namespaceFile } = hostState(migration);
  const content = old === undefined ? namespaceFileOf(platform) : await old.readFile(file);
  const record = old === undefined ? undefined : await old.readFile(namespaceFile);
  if (content !== undefined) await put(file, content);
  else if ((await connection.readFile(file)) !== undefined) {
    throw needsHuman({
      what: `${file} of ${connection.host.name} would lead proton-cli elsewhere`,
      cause: `${old?.host.name ?? 'the platform'} has no such file, and works with the usual namespaces`,
      untouched: `everything on ${connection.host.name}`,
      next: `look at ${file} on ${connection.host.name} and move it away, then: ferry resume`,
    });
  }
  await connection.run(['install', '-d', '-m', '0700', '--', directory], { timeout: 30_000 });
  await put(namespaceFile, record ?? (content === undefined ? 'absent' : sha256(content)));
}

const usualNamespaces = { configNamespace: 'proton', resourceNamespace: 'resource' };

/** The file as the plan knows it to be; none where the usual names hold. */
export function namespaceFileOf({ configNamespace, resourceNamespace }: Plan['platform']): Buffer | undefined {
  const usual =
    configNamespace === usualNamespaces.configNamespace && resourceNamespace === usualNamespaces.resourceNamespace;
  if (usual) return undefined;
  return Buffer.from(`resource_namespace: ${resourceNamespace}\nproton_cli_config_namespace: ${configNamespace}\n`);
}

/** The file for this host: the old control host's, else one from what the cluster keeps. */
async function kubeadmConfigFor(
  deps: ControlDeps,
  connection: HostConnection,
  old: HostConnection | undefined,
  to: Host,
): Promise<string> {
  const kept = (await old?.readFile(kubeadmConfig))?.toString('utf8');
  return (
    (kept === undefined ? undefined : adaptKubeadmConfig(kept, to)) ??
    newKubeadmConfig(await clusterConfiguration(deps.api, to), to, await criSocket(connection))
  );
}

/** The same file for another host: name and address of its InitConfiguration are that host's. Undefined when it has none. */
export function adaptKubeadmConfig(
  text: string,
  { name, address }: Pick<Host, 'name' | 'address'>,
): string | undefined {
  const documents = parseAllDocuments(text);
  if (!Array.isArray(documents) || documents.some(({ errors }) => errors.length > 0)) return undefined;
  const init = documents.find((document) => document.get('kind') === 'InitConfiguration');
  const hasCluster = documents.some((document) => document.get('kind') === 'ClusterConfiguration');
  if (init === undefined || !hasCluster) return undefined;
  // In the text itself, so that all else stays to the letter.
  const edits = [
    { at: ['nodeRegistration', 'name'], value: name },
    { at: ['localAPIEndpoint', 'advertiseAddress'], value: address },
  ].map(({ at, value }) => ({ range: (init.getIn(at, true) as Scalar | undefined)?.range, value }));
  let moved = text;
  for (const { range, value } of edits.toSorted((one, other) => (other.range?.[0] ?? 0) - (one.range?.[0] ?? 0))) {
    // kubeadm takes what is not set from the machine, which is the wrong one while nobody has looked.
    if (range === undefined || range === null) return undefined;
    moved = `${moved.slice(0, range[0])}${JSON.stringify(value).replace(/^"([a-z][-a-z0-9.]*|[0-9.]+)"$/, '$1')}${moved.slice(range[1])}`;
  }
  return moved;
}

/** The file for a host when nobody has the old one any more, from the configuration that kubeadm keeps in the cluster. */
export function newKubeadmConfig(
  cluster: string,
  { name, address }: Pick<Host, 'name' | 'address'>,
  socket: string,
): string {
  const document = parseDocument(cluster);
  const version = isMap(document.contents) ? document.contents.get('apiVersion', true) : undefined;
  if (!isScalar(version) || typeof version.value !== 'string' || document.get('kind') !== 'ClusterConfiguration') {
    throw new Error('it is no ClusterConfiguration');
  }
  const init = parseDocument('');
  init.contents = init.createNode({
    apiVersion: version.value,
    kind: 'InitConfiguration',
    localAPIEndpoint: { advertiseAddress: address },
    nodeRegistration: { name, ...(socket !== '' && { criSocket: socket }) },
  }) as never;
  return `${init.toString()}---\n${cluster.trimEnd()}\n`;
}

async function clusterConfiguration(api: KubernetesApi, { name }: Host): Promise<string> {
  const untouched = 'everything';
  return onApi(api, "Reading kubeadm's configuration", untouched, async () => {
    const map = await api.find<KubernetesObject & { data?: Record<string, string> }>(
      path('v1', 'kube-system', 'configmaps', 'kubeadm-config'),
    );
    const text = map?.data?.['ClusterConfiguration'];
    if (text !== undefined) return text;
    throw needsHuman({
      what: `${kubeadmConfig} cannot be made`,
      cause: 'no control host has it, and the cluster has no ConfigMap kube-system/kubeadm-config',
      untouched,
      next: `put ${kubeadmConfig} on ${name}, then: ferry resume`,
    });
  });
}

/** The administrator's own, which joining left on every master. */
async function giveKubeconfig(connection: HostConnection, { home }: Plan['platform'], put: Put): Promise<void> {
  const file = `${home}/.kube/config`;
  if ((await connection.readFile(file)) !== undefined) return;
  const admin = await connection.readFile('/etc/kubernetes/admin.conf');
  if (admin === undefined) {
    throw needsHuman({
      what: `${connection.host.name} cannot become the control host`,
      cause: `it has neither ${file} nor /etc/kubernetes/admin.conf: it is no master`,
      untouched: `everything on ${connection.host.name}`,
      next: 'see that it has joined as a master (kubectl get nodes), then: ferry resume',
    });
  }
  await connection.run(['install', '-d', '-m', '0700', '--', `${home}/.kube`], { timeout: 30_000 });
  await put(file, admin);
}

async function proveTool(connection: HostConnection, platform: Plan['platform']): Promise<string> {
  const { packageDirectory, protonCli, home } = platform;
  const options = { cwd: packageDirectory, env: { HOME: home, KUBECONFIG: `${home}/.kube/config` }, timeout: 60_000 };
  const result = await connection.run([protonCli, 'version'], options);
  const version = /^gitVersion: *"?([^"\n]+)/m.exec(result.stdout)?.[1];
  if (result.code === 0 && version !== undefined) return version;
  throw needsHuman({
    what: `proton-cli does not work on ${connection.host.name}`,
    cause: lastLines(result.stderr) || lastLines(result.stdout) || `exit code ${result.code ?? '?'}`,
    untouched: 'the old control host',
    next: `cd ${packageDirectory} && ${protonCli} version on ${connection.host.name}; install the dependency package there, then: ferry resume`,
  });
}
