import { readFileSync } from 'node:fs';
import { Agent } from '../ecms/client.ts';
import { cr, cs, firewall, nodes, type ClusterNode, type Scope } from './cluster.ts';
import { componentManage, directModules, hasCharts } from './components.ts';
import { configKey, configSecret } from './get-conf.ts';
import { Kubernetes } from './kubernetes.ts';
import { build, Crash, Failure, readSwitches, type Log } from './log.ts';
import { ownKubernetes, readNamespaces, updateNamespaces } from './namespaces.ts';
import { dumpConfig, judgeConfig, readConfig } from './rules/config.ts';

export interface ApplyOptions {
  file: string;
  namespace: string;
  servicePackage: string;
  ecephPackage: string;
  log: Log;
}

function green(text: string): string {
  return `\u001b[1;37;42m${text}\u001b[0m\n`;
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
    return Buffer.from(secret.data?.[configKey] ?? '', 'base64').toString();
  } catch (error) {
    log.line('debug', `unable load old cluster conf: ${message(error)}`, 'apply.go:71');
    return undefined;
  }
}

function readFile(file: string): string {
  const path = file.startsWith('/') ? file : `${process.cwd()}/${file}`;
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EISDIR') throw new Failure(`read ${path.replace(/\/$/, '')}: is a directory`);
    throw new Failure(`open ${path}: no such file or directory`);
  }
}

/** `apply`: reads what is recorded, judges the file against it, runs the modules in order, and records the file only at the very end. */
export async function apply(options: ApplyOptions): Promise<void> {
  const { log } = options;
  const facts = Object.entries(build).map(([name, value]) => `${name}=${value === '' ? '""' : value}`);
  log.info('version info', 'apply.go:41', facts.join(' '));
  const text = readFile(options.file);
  const read = readConfig(text);
  if (read.kind === 'rejected') throw read.exitCode === 2 ? new Crash(read.message) : new Failure(read.message);
  const given =
    options.namespace !== ''
      ? options.namespace
      : String((read.config['deploy'] as { namespace?: string } | undefined)?.namespace ?? '');
  if (given !== '') await updateNamespaces(given, ownKubernetes());
  const namespaces = readNamespaces();
  const old = await loadOld(log, namespaces.config);
  if (!hasCharts(options.servicePackage)) {
    throw new Failure(
      `unable to list charts directory: open ${options.servicePackage}/charts: no such file or directory`,
    );
  }
  if (!hasCharts(options.ecephPackage)) {
    const why = `unable to list charts directory: open ${options.ecephPackage}/charts: no such file or directory`;
    log.info(`unable to load ECeph service package: ${why}`, 'apply.go:94');
  }
  process.stdout.write(green('start apply cluster conf'));
  const verdict = judgeConfig({ old, new: text });
  if (verdict.verdict === 'rejected' && verdict.stage !== 'modules') {
    const said = verdict.message ?? '';
    throw verdict.exitCode === 2 ? new Crash(said) : new Failure(said);
  }
  const config = verdict.completed ?? read.config;
  const isUpdate = old !== undefined && readConfig(old).kind === 'ok' && listed(readConfigOrEmpty(old)).length > 0;
  const scope: Scope = { log, switches: readSwitches(), config, isUpdate, nodes: listed(config), namespaces };
  for (const [module, run] of [
    ['firewall', firewall],
    ['nodes', nodes],
    ['cr', cr],
    ['cs', cs],
  ] as const) {
    await inModule(module, () => run(scope));
  }
  await inModule('component_manage', () => componentManage(scope, options.servicePackage));
  for (const { module, run } of directModules) await inModule(module, () => run(scope, options.servicePackage));
  for (const node of scope.nodes) {
    log.info(`remove old proton cli dir of {${node.name} ${node.ip4}  }`, 'node.go:873');
    await new Agent(node.ip4).run('rm', '-rf', '/etc/proton-cli');
  }
  await new Kubernetes('/etc/kubernetes/admin.conf')
    .putSecret(namespaces.config, configSecret, { [configKey]: dumpConfig(config) })
    .catch((error: unknown) => {
      throw new Failure(`unable to upload cluster config to kubernetes: ${message(error)}`);
    });
  log.info('Apply conf success', 'apply.go:231');
  process.stdout.write(green('Apply conf success'));
}

function readConfigOrEmpty(text: string): Record<string, unknown> {
  const read = readConfig(text);
  return read.kind === 'ok' ? read.config : {};
}

function listed(config: Record<string, unknown>): ClusterNode[] {
  const list = Array.isArray(config['nodes']) ? (config['nodes'] as Record<string, unknown>[]) : [];
  return list.map((node) => ({ name: String(node['name']), ip4: String(node['ip4'] ?? node['ip6']) }));
}

async function inModule(name: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (error instanceof Crash) throw error;
    throw new Failure(`apply module ${name} fail: ${message(error)}`);
  }
}
