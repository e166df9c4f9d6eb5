import { readFileSync } from 'node:fs';
import { Agent } from '../ecms/client.ts';
import { cr, cs, firewall, nodes, type ClusterNode, type Scope } from './cluster.ts';
import { componentManage, directModules, hasCharts } from './components.ts';
import { configKey, configSecret } from './get-conf.ts';
import { Kubernetes } from './kubernetes.ts';
import { build, Crash, Failure, readSwitches, type Log } from './log.ts';
import { ownKubernetes, readNamespaces, updateNamespaces } from './namespaces.ts';
import { nilPointer, nodesOf, part, text, texts } from './rules/access.ts';
import { documentOf, dumpConfig, judgeConfig, readConfig, type ClusterConfig } from './rules/config.ts';

export interface ApplyOptions {
  file: string;
  namespace: string;
  servicePackage: string;
  ecephPackage: string;
  log: Log;
}

function green(line: string): string {
  return `\u001b[1;37;42m${line}\u001b[0m\n`;
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The recorded configuration, or nothing: an error is a line at level debug and no more. */
async function loadOld(log: Log, namespace: string): Promise<string | undefined> {
  const kubernetes = ownKubernetes();
  if (kubernetes === undefined) return undefined;
  try {
    const secret = await kubernetes.secret(namespace, configSecret, 3000);
    const found = Buffer.from(secret.data?.[configKey] ?? '', 'base64').toString();
    const read = readConfig(found);
    if (read.kind === 'rejected') throw new Error(read.message);
    return found;
  } catch (error) {
    log.line('debug', `unable load old cluster conf: ${message(error)}`, 'apply.go:72');
    return undefined;
  }
}

function readFile(path: string): string {
  try {
    // a name that stands for a descriptor cannot be opened when that is a socket
    return readFileSync(path === '/dev/stdin' ? 0 : path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EISDIR') throw new Failure(`read ${path.replace(/\/$/, '')}: is a directory`);
    throw new Failure(`open ${path}: no such file or directory`);
  }
}

/** The file, read by its types; the tool dies here when what it takes for granted is not in it. */
function load(path: string, log: Log): { given: string; config: ClusterConfig } {
  const given = readFile(path);
  const read = readConfig(given);
  if (read.kind === 'rejected') throw new Failure(read.message);
  if (part(read.config, 'cs') === undefined) throw new Crash(nilPointer);
  // the platform's JSON keeps out of the way of HTML
  const content = JSON.stringify(documentOf(read.config)).replace(
    /[<>&]/g,
    (letter) => `\\u00${letter.charCodeAt(0).toString(16)}`,
  );
  log.line('debug', 'load config file', 'apply.go:55', `content=${content} path=${path}`);
  return { given, config: read.config };
}

/** Rejects with what the tool says; otherwise the completed configuration. */
function judged(given: string, old: string | undefined, log: Log): ClusterConfig {
  const verdict = judgeConfig({ old, new: given });
  if (verdict.completed !== undefined) return verdict.completed;
  const said = verdict.message ?? '';
  if (verdict.exitCode === 2) throw new Crash(said);
  const [what, source] =
    verdict.stage === 'update'
      ? ['invalid cluster config update', 'apply.go:115']
      : ['invalid cluster config', 'apply.go:109'];
  log.line('error', `${what}: [${(verdict.errors ?? []).join(' ')}]`, source);
  throw new Failure(said);
}

/** Connections of components that component-manage runs are known again once it has answered. */
function withConnections(config: ClusterConfig, given: ClusterConfig): ClusterConfig {
  const info = part(config, 'resource_connect_info') ?? {};
  if (part(config, 'component_management') === undefined) return { ...config, resource_connect_info: info };
  return { ...config, resource_connect_info: { ...info, ...part(given, 'resource_connect_info') } };
}

/** `apply`: reads what is recorded, judges the file against it, runs the modules in order, and records the file only at the very end. */
export async function apply(options: ApplyOptions): Promise<void> {
  const { log } = options;
  const facts = Object.entries(build).map(([name, value]) => `${name}=${value === '' ? '""' : value}`);
  log.info('version info', 'apply.go:41', facts.join(' '));
  const path = options.file.startsWith('/') ? options.file : `${process.cwd()}/${options.file}`;
  const { given, config: read } = load(path, log);
  const namespace = options.namespace !== '' ? options.namespace : text(part(read, 'deploy'), 'namespace');
  if (namespace !== '') await updateNamespaces(namespace, ownKubernetes());
  const namespaces = readNamespaces();
  const old = await loadOld(log, namespaces.config);
  if (!hasCharts(options.servicePackage)) {
    const why = `unable to list charts directory: open ${options.servicePackage}/charts: no such file or directory`;
    log.line('error', `unable load service package: ${why}`, 'apply.go:80');
    throw new Failure(why);
  }
  if (!hasCharts(options.ecephPackage)) {
    const why = `unable to list charts directory: open ${options.ecephPackage}/charts: no such file or directory`;
    log.info(`unable to load ECeph service package: ${why}`, 'apply.go:94');
  }
  process.stdout.write(green('start apply cluster conf'));
  const config = judged(given, old, log);
  const isUpdate = old !== undefined && listed(readConfigOrEmpty(old)).length > 0;
  const scope: Scope = { log, switches: readSwitches(), config, isUpdate, nodes: listed(config), namespaces };
  for (const [module, run] of [
    ['firewall', firewall],
    ['nodes', nodes],
    ['cr', cr],
    ['cs', cs],
  ] as const) {
    await inModule(module, () => run(scope));
  }
  log.info(`create resource namespace: ${namespaces.resource}`, 'cs.go:92');
  await inModule('component_manage', () => componentManage(scope, options.servicePackage));
  for (const { module, run } of directModules) await inModule(module, () => run(scope, options.servicePackage));
  for (const node of scope.nodes) {
    log.info(`remove old proton cli dir of {${node.name} ${node.ip4}  }`, 'node.go:873');
    await new Agent(node.ip4).run('rm', '-rf', '/etc/proton-cli');
  }
  await new Kubernetes('/etc/kubernetes/admin.conf')
    .putSecret(namespaces.config, configSecret, { [configKey]: dumpConfig(withConnections(config, read)) })
    .catch((error: unknown) => {
      throw new Failure(`unable to upload cluster config to kubernetes: ${message(error)}`);
    });
  const [first = ''] = texts(part(config, 'cs'), 'master') ?? [];
  const manifest = '/etc/kubernetes/manifests/etcd.yaml';
  log.info(`Reading etcd static pod manifest from ${manifest} on node ${first}`, 'etcd.go:39');
  log.info('Apply conf success', 'apply.go:231');
  process.stdout.write(green('Apply conf success'));
}

function readConfigOrEmpty(given: string): ClusterConfig {
  const read = readConfig(given);
  return read.kind === 'ok' ? read.config : {};
}

function listed(config: ClusterConfig): ClusterNode[] {
  return nodesOf(config).map((node) => ({ name: text(node, 'name'), ip4: text(node, 'ip4') || text(node, 'ip6') }));
}

async function inModule(name: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (error instanceof Crash) throw error;
    throw new Failure(`apply module ${name} fail: ${message(error)}`);
  }
}
