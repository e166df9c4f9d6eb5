import { parse } from 'yaml';
import type { HostConnection } from '../hosts/contract.ts';
import { configNodes, readConfigTexts } from '../plan/config-edit.ts';
import type { ConfigStage, PlanReference } from './contract.ts';
import { needsHuman, permanent, transient } from './failures.ts';
import { lastLines } from './helm.ts';
import { hostState } from './host-state.ts';
import type { KubernetesApi } from './kubernetes-api.ts';
import { listNodes } from './kubernetes.ts';
import { configSecretName, sha256 } from './platform-secrets.ts';

export interface GateInput {
  migration: string;
  stage: ConfigStage;
  plan: PlanReference;
  /** The document that is to be applied. */
  text: string;
  /** Names of the Nodes when the document was prepared. */
  nodesBefore?: string[];
}

const nothing = 'everything; proton-cli was not started';

/**
 * Everything that has to hold before the tool may run: it deletes every Node its file does not list, and it installs a new cluster over
 * the live one when it cannot read the recorded configuration within 3 s. Throws `Transient` for what heals while waiting.
 */
export async function checkGate(api: KubernetesApi, connection: HostConnection, input: GateInput): Promise<void> {
  await checkNodes(api, input);
  checkDocument(input);
  await checkTool(connection, input);
  await checkNamespaceFile(connection, input);
  await checkFiles(connection, input);
  await checkApiServers(connection, input);
  // Last: it is the one that may change from one second to the next.
  await checkReadable(connection, input);
}

function plannedRemovals(stage: ConfigStage, plan: PlanReference): string[] {
  if (stage === 'remove-nodes') return plan.nodes.remove;
  return stage === 'remove-new-nodes' ? plan.nodes.add.map(({ name }) => name) : [];
}
function plannedAdditions(stage: ConfigStage, plan: PlanReference): string[] {
  return stage === 'add-nodes' ? plan.nodes.add.map(({ name }) => name) : [];
}

async function checkNodes(api: KubernetesApi, input: GateInput): Promise<void> {
  const live = await listNodes(api);
  const names = live.map(({ name }) => name);
  const file = configNodes(input.text);
  const removals = plannedRemovals(input.stage, input.plan);
  const additions = plannedAdditions(input.stage, input.plan);

  const deleted = names.filter((name) => !file.includes(name));
  const unplanned = deleted.filter((name) => !removals.includes(name));
  if (unplanned.length > 0) {
    throw needsHuman({
      what: `Applying this file would delete ${unplanned.join(', ')}`,
      cause: `the platform deletes every Node its file does not list; planned for removal here: ${removals.join(', ') || 'none'}`,
      untouched: nothing,
      next: 'add these nodes to the platform configuration or delete the Nodes by hand, then: ferry resume',
    });
  }
  const kept = removals.filter((name) => file.includes(name));
  if (kept.length > 0) {
    throw permanent({
      what: `The file still lists ${kept.join(', ')}`,
      cause: 'these nodes are to be removed by this apply',
      untouched: nothing,
      next: 'ferry abort',
    });
  }
  const joined = file.filter((name) => !names.includes(name));
  const strange = joined.filter((name) => !additions.includes(name));
  if (strange.length > 0) {
    throw needsHuman({
      what: `Applying this file would add ${strange.join(', ')} to the cluster`,
      cause: `the file lists nodes that do not exist; planned to be added here: ${additions.join(', ') || 'none'}`,
      untouched: nothing,
      next: 'bring these nodes back (systemctl start kubelet there) or correct the configuration, then: ferry resume',
    });
  }
  checkSince(input, names, [...removals, ...additions]);

  const first = live.find(({ controlPlane }) => controlPlane);
  if (first !== undefined && deleted.includes(first.name)) {
    throw permanent({
      what: `The platform cannot remove ${first.name} by an apply`,
      cause: `it works through the first control-plane node by name, which is ${first.name} itself: "ip of master node "${first.name}" not found", at every try`,
      untouched: nothing,
      next: 'take these nodes out one at a time outside of apply (drain, etcd member remove, kubeadm reset, kubectl delete node), then: ferry resume',
    });
  }
}

function checkSince(input: GateInput, names: readonly string[], planned: readonly string[]): void {
  const before = input.nodesBefore;
  if (before === undefined) return;
  const changed = [
    ...names.filter((name) => !before.includes(name)),
    ...before.filter((name) => !names.includes(name)),
  ].filter((name) => !planned.includes(name));
  if (changed.length === 0) return;
  throw needsHuman({
    what: 'The Nodes changed since the configuration was prepared',
    cause: `${changed.join(', ')} appeared or disappeared`,
    untouched: nothing,
    next: 'find out why, then: ferry resume, which prepares the configuration again',
  });
}

function checkDocument(input: GateInput): void {
  const document = readConfigTexts(input.text);
  const deploy = document['deploy'] as Record<string, unknown> | null | undefined;
  const namespace = deploy?.['namespace'];
  if (typeof namespace === 'string' && namespace !== '') {
    throw needsHuman({
      what: 'The configuration sets deploy.namespace',
      cause: 'with it the platform skips mariadb, mongodb and nebula, and rewrites its namespace file',
      untouched: nothing,
      next: 'take deploy.namespace out (proton-cli edit conf) and make a new plan',
    });
  }
}

function environment(plan: PlanReference): Record<string, string> {
  // The tool looks at nothing but ~/.kube/config; whoever checks for it has to use the same file.
  return { HOME: plan.platform.home, KUBECONFIG: `${plan.platform.home}/.kube/config` };
}

async function checkTool(connection: HostConnection, input: GateInput): Promise<void> {
  const { platform } = input.plan;
  const help = await connection.run([platform.protonCli, 'apply', '--help'], {
    cwd: platform.packageDirectory,
    env: environment(input.plan),
    timeout: 60_000,
  });
  const text = `${help.stdout}\n${help.stderr}`;
  if (help.code === 0 && /--file\b/.test(text)) return;
  throw needsHuman({
    what: `proton-cli cannot be used on ${connection.host.name}`,
    cause:
      help.code === 0
        ? '"apply --help" does not know --file'
        : `"${platform.protonCli} apply --help" in ${platform.packageDirectory} ended with ${help.code ?? 'a signal'}: ${lastLines(help.stderr)}`,
    untouched: nothing,
    next: 'correct platform.protonCli and platform.packageDirectory of the plan, or install the tool, then: ferry resume',
  });
}

async function checkNamespaceFile(connection: HostConnection, input: GateInput): Promise<void> {
  const { platform } = input.plan;
  const file = `${platform.home}/.proton-cli.yaml`;
  const content = await connection.readFile(file);
  const fail = (cause: string): Error =>
    needsHuman({
      what: `${file} on ${connection.host.name} is not what it has to be`,
      cause: `${cause}; the tool would not find the recorded configuration and install a new cluster over this one`,
      untouched: nothing,
      next: 'put it back from the backup on the control host, then: ferry resume',
    });
  const before = (await connection.readFile(hostState(input.migration).namespaceFile))?.toString('utf8').trim();
  const now = content === undefined ? 'absent' : sha256(content);
  if (before !== undefined && before !== 'absent' && before !== now) throw fail('it was changed since the backup');

  const names = content === undefined ? {} : namespacesOf(content.toString('utf8'));
  if (names === undefined) {
    // A file that does not parse counts as none.
    if (platform.configNamespace !== 'proton' || platform.resourceNamespace !== 'resource') {
      throw fail(
        'it does not parse, so the tool takes its defaults proton and resource, which are not those of the plan',
      );
    }
    return;
  }
  const config = content === undefined ? 'proton' : (names['proton_cli_config_namespace'] ?? '');
  if (config !== platform.configNamespace) {
    throw fail(`it makes the tool look in namespace "${config}", the plan says "${platform.configNamespace}"`);
  }
  const resource = content === undefined ? 'resource' : names['resource_namespace'];
  if (resource !== undefined && resource !== platform.resourceNamespace) {
    throw fail(`it names resource namespace "${resource}", the plan says "${platform.resourceNamespace}"`);
  }
}

function namespacesOf(text: string): Record<string, string | undefined> | undefined {
  try {
    const value: unknown = parse(text, { schema: 'failsafe' });
    return typeof value === 'object' && value !== null ? (value as Record<string, string>) : {};
  } catch {
    return undefined;
  }
}

async function checkFiles(connection: HostConnection, input: GateInput): Promise<void> {
  const { platform } = input.plan;
  const needed = [
    { file: `${platform.home}/.kube/config`, why: 'the tool finds the cluster by it, and by nothing else' },
    {
      file: '/etc/kubernetes/admin.conf',
      why: 'the update path of the tool reads it; apply runs on control-plane nodes only',
    },
    {
      file: `${platform.packageDirectory}/service-package/charts`,
      why: 'the tool reads charts relative to its directory',
    },
  ];
  // Join keys are made on the first master from this file; tmp cleaners and reboots take it away.
  const masters = (readConfigTexts(input.text)['cs'] as { master?: unknown } | undefined)?.master;
  const adding = plannedAdditions(input.stage, input.plan).length > 0;
  if (adding && Array.isArray(masters) && masters[0] === connection.host.name) {
    needed.push({ file: '/tmp/kubeadm-config.yaml', why: 'the first master makes the keys for joining from it' });
  }
  for (const { file, why } of needed) {
    const found = await connection.run(['test', '-r', file], { timeout: 30_000 });
    if (found.code === 0) continue;
    throw needsHuman({
      what: `${file} is missing on ${connection.host.name}`,
      cause: why,
      untouched: nothing,
      next: `put ${file} there, then: ferry resume`,
    });
  }
}

interface EndpointsAnswer {
  subsets?: { addresses?: { ip: string }[]; ports?: { port: number }[] }[];
}

/** Every API server says it is ready, asked from where the tool will run. */
async function checkApiServers(connection: HostConnection, input: GateInput): Promise<void> {
  const answer = await kubectl(connection, input, ['get', '--raw', '/api/v1/namespaces/default/endpoints/kubernetes']);
  if (answer.code !== 0) throw apiNotReady(connection, 'the API did not answer', answer.stderr);
  const { subsets } = JSON.parse(answer.stdout) as EndpointsAnswer;
  const servers = (subsets ?? []).flatMap(({ addresses, ports }) =>
    (addresses ?? []).map(({ ip }) => `https://${ip.includes(':') ? `[${ip}]` : ip}:${ports?.[0]?.port ?? 6443}`),
  );
  if (servers.length === 0) throw apiNotReady(connection, 'service kubernetes has no endpoint', '');
  for (const server of servers) {
    const ready = await kubectl(connection, input, ['--server', server, 'get', '--raw', '/readyz']);
    if (ready.code !== 0) throw apiNotReady(connection, `${server}/readyz is not ok`, ready.stderr);
  }
}

/** The tool gives the Secret 3 s; three reads in a row, each under one, leave room. */
async function checkReadable(connection: HostConnection, input: GateInput): Promise<void> {
  const { configNamespace } = input.plan.platform;
  const resource = `/api/v1/namespaces/${configNamespace}/secrets/${configSecretName}`;
  for (let read = 1; read <= 3; read += 1) {
    const answer = await kubectl(connection, input, ['--request-timeout', '1s', 'get', '--raw', resource]);
    if (answer.code === 0) continue;
    throw apiNotReady(
      connection,
      `the recorded configuration (${configNamespace}/${configSecretName}) was not readable within 1 s at read ${read} of 3`,
      answer.stderr,
    );
  }
}

function kubectl(
  connection: HostConnection,
  input: GateInput,
  argv: readonly string[],
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const limit = argv.includes('--request-timeout') ? [] : ['--request-timeout', '5s'];
  return connection.run(['kubectl', ...limit, ...argv], { env: environment(input.plan), timeout: 30_000 });
}

function apiNotReady(connection: HostConnection, cause: string, stderr: string): Error {
  const said = lastLines(stderr, 1);
  return transient({
    what: `The API is not ready for an apply, as seen from ${connection.host.name}`,
    cause: said === '' ? cause : `${cause} (${said})`,
    untouched: nothing,
    next: 'it is tried again by itself; if it stays so, look at kube-apiserver and etcd on the masters',
  });
}
