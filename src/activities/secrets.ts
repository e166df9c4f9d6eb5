import type { HostConnection, Hosts } from '../hosts/contract.ts';
import { componentsSecretName, editComponentsSecret } from '../plan/components-secret.ts';
import { configKey, configNodes, editConfig, YamlEditError } from '../plan/config-edit.ts';
import type { Host, Plan, PlannedComponent } from '../plan/plan.ts';
import { redactedYamlDiff, redactText } from '../plan/redact.ts';
import { isWithin, whyClosed } from '../plan/directories.ts';
import { encrypt, readKey } from './backup-cipher.ts';
import type { Evidence, PlanReference, SecretActivities } from './contract.ts';
import { errorText, needsHuman, onHost, transient } from './failures.ts';
import { lastLines } from './helm.ts';
import { type KubernetesApi, onApi } from './kubernetes-api.ts';
import {
  configSecretName,
  decode,
  pluginsSecretName,
  requireSecret,
  type Secret,
  sha256,
  writeKeys,
} from './platform-secrets.ts';
import { activityScope } from './polling.ts';
import { hostState } from './host-state.ts';
import { shellWord, sshCommand } from './shell-words.ts';

export interface SecretDeps {
  api: KubernetesApi;
  hosts: Hosts;
  /** Where backups go on the control host, and the key on the worker; used when the input names none. */
  backup: Plan['backup'];
}

export interface BackupInput {
  migration: string;
  control: Host;
  plan: PlanReference;
  /** What the plan says of it; the rest is as the worker was told. */
  backup?: Partial<Plan['backup']>;
  again?: true;
}

interface BackupFile {
  name: string;
  digest: string;
}

/** Saving and editing the platform's Secrets. Their values stay inside these functions. */
export function createSecretActivities(deps: SecretDeps): SecretActivities & {
  backupSecrets(input: BackupInput): Promise<Evidence & { files: BackupFile[] }>;
} {
  return {
    backupSecrets: (input: BackupInput) => backupSecrets(deps, input),
    editSecrets: (input) => editSecrets(deps.api, input),
  };
}

async function backupSecrets(deps: SecretDeps, input: BackupInput): Promise<Evidence & { files: BackupFile[] }> {
  // Each of the two by itself: a plan that names a directory does not turn the worker's encryption off.
  const directory = input.backup?.directory ?? deps.backup.directory;
  const keyFile = input.backup?.keyFile ?? deps.backup.keyFile;
  const { platform } = input.plan;
  const untouched = 'the cluster; the backup only reads it';
  const key = keyFile === undefined ? undefined : await loadKey(keyFile);
  const secrets = await onApi(deps.api, 'Reading the Secrets', untouched, async () => [
    await requireSecret(deps.api, platform.configNamespace, configSecretName),
    await requireSecret(deps.api, platform.resourceNamespace, componentsSecretName),
    await requireSecret(deps.api, platform.resourceNamespace, pluginsSecretName),
  ]);

  return onHost(input.control.name, untouched, async () => {
    const connection = await deps.hosts.connect(input.control);
    const namespaceFile = await connection.readFile(`${platform.home}/.proton-cli.yaml`);
    const target = await backupDirectory(connection, directory, input.migration, input.again);
    const known = await connection.readFile(`${target}/manifest.json`);
    if (known !== undefined) {
      const manifest = JSON.parse(known.toString('utf8')) as { files: BackupFile[] };
      return {
        changed: false,
        proof: `${manifest.files.length} files in ${target} on ${input.control.name}, saved before`,
        files: manifest.files,
      };
    }
    await recordNamespaceFile(connection, input.migration, namespaceFile);
    const files: BackupFile[] = [];
    const save = async (name: string, content: Buffer): Promise<void> => {
      const stored = key === undefined ? name : `${name}.aes`;
      const bytes = key === undefined ? content : encrypt(content, key, stored);
      await connection.writeFile(`${target}/${stored}`, bytes, 0o600);
      const back = await connection.readFile(`${target}/${stored}`);
      if (back === undefined || !back.equals(bytes)) {
        throw transient({
          what: `The backup ${target}/${stored} on ${input.control.name} does not read back as it was written`,
          cause: 'the file differs or is missing',
          untouched,
          next: `${sshCommand(input.control.name, ['df', '-h', target])}; it is tried again by itself`,
        });
      }
      files.push({ name: stored, digest: sha256(content) });
    };
    for (const secret of secrets) await save(fileName(secret), Buffer.from(restorable(secret)));
    if (namespaceFile !== undefined) await save('dot-proton-cli.yaml', namespaceFile);
    // Last, so that a backup with a manifest is a whole one.
    const manifest = {
      migration: input.migration,
      takenAt: new Date().toISOString(),
      encrypted: key !== undefined,
      files,
    };
    await connection.writeFile(`${target}/manifest.json`, `${JSON.stringify(manifest, null, 2)}\n`, 0o600);
    return {
      changed: true,
      proof: `${files.length} files in ${target} on ${input.control.name}, mode 0600, ${key === undefined ? 'as they are' : 'encrypted (AES-256-GCM)'}, read back`,
      files,
    };
  });
}

export async function loadKey(file: string): Promise<Buffer> {
  try {
    return await readKey(file);
  } catch (error) {
    throw needsHuman({
      what: 'The key for the backup cannot be used',
      cause: errorText(error),
      untouched: 'the cluster; nothing was saved yet',
      next: `put a 32-byte key to ${file} on the worker (openssl rand -out ${shellWord(file)} 32), then: ferry resume`,
    });
  }
}

/**
 * One directory per run of a migration, and another for what is saved `again`: a repeated step finds its own, a later migration never
 * overwrites an earlier one.
 */
export async function backupDirectory(
  connection: HostConnection,
  directory: string,
  migration: string,
  again = false,
): Promise<string> {
  const run = `${activityScope().token.split('/')[0]?.slice(0, 8) ?? ''}${again ? '-again' : ''}`;
  await refuseShared(connection, directory);
  // It may be a disk for backups that other programs and people use as well: its mode is theirs, and set only where it is made.
  await must(connection, ['mkdir', '-p', '-m', '0700', '--', directory]);
  const parent = `${directory}/${migration}`;
  await must(connection, ['install', '-d', '-m', '0700', '--', parent]);
  const names = (await must(connection, ['ls', '-1', '--', parent])).split('\n');
  const mine = names.find((name) => name.endsWith(`-${run}`));
  const target = `${parent}/${mine ?? `${new Date().toISOString().replaceAll(/[:.]/g, '')}-${run}`}`;
  await must(connection, ['install', '-d', '-m', '0700', '--', target]);
  return target;
}

/** Below it, everything is this program's own. */
const ownTree = '/var/lib/ferry/backup';

/** Directories of the system are no place for Secrets: they are swept, shared or read by everybody. */
async function refuseShared(connection: HostConnection, directory: string): Promise<void> {
  const resolved = (await must(connection, ['readlink', '-m', '--', directory])).replace(/\n$/, '');
  for (const path of new Set([directory, resolved])) {
    const why = isWithin(path, ownTree) ? undefined : whyClosed(path);
    if (why === undefined) continue;
    throw needsHuman({
      what: `The backup cannot go to ${directory} on ${connection.host.name}`,
      cause: why,
      untouched: 'the cluster, and this directory; nothing was saved yet',
      next: 'name a directory of its own, such as /mnt/backup/ferry, in backup.directory of the plan: ferry abort, then start the new plan',
    });
  }
}

/** Runs a small command that has to succeed; answers its stdout. */
async function must(connection: HostConnection, argv: readonly string[]): Promise<string> {
  const result = await connection.run(argv, { timeout: 30_000 });
  if (result.code === 0) return result.stdout;
  throw needsHuman({
    what: `${argv[0] ?? ''} failed on ${connection.host.name}`,
    cause: lastLines(result.stderr) || `exit code ${result.code ?? '?'}`,
    untouched: 'the cluster',
    next: `${sshCommand(connection.host.name, argv)}; repair, then: ferry resume`,
  });
}

/** What `~/.proton-cli.yaml` was before the migration; every apply is gated on it being unchanged. */
async function recordNamespaceFile(
  connection: HostConnection,
  migration: string,
  content: Buffer | undefined,
): Promise<void> {
  const { directory, namespaceFile } = hostState(migration);
  await must(connection, ['install', '-d', '-m', '0700', '--', directory]);
  await connection.writeFile(namespaceFile, content === undefined ? 'absent' : sha256(content), 0o600);
}

function fileName(secret: Secret): string {
  return `secret-${secret.metadata.namespace ?? ''}-${secret.metadata.name}.json`;
}

/** In the form in which `kubectl replace -f` takes it back: without what the server fills in. */
function restorable(secret: Secret): string {
  const { name, namespace, labels, annotations } = secret.metadata;
  const metadata = { name, namespace, ...(labels && { labels }), ...(annotations && { annotations }) };
  const object = { apiVersion: 'v1', kind: 'Secret', metadata, type: secret.type ?? 'Opaque', data: secret.data ?? {} };
  return `${JSON.stringify(object, null, 2)}\n`;
}

/** How often a conflict is answered by reading again before Temporal waits a while. */
const conflictTries = 5;

interface EditInput {
  migration: string;
  plan: PlanReference;
  components: PlannedComponent[];
  direction: 'forth' | 'back';
}

async function editSecrets(
  api: KubernetesApi,
  input: EditInput,
): Promise<Evidence & { diff: string; digests: Record<string, string> }> {
  const { platform } = input.plan;
  const untouched = 'everything but the hosts of components already shown in the diff';
  return onApi(api, 'Editing the Secrets', untouched, async () => {
    // Both edits are computed before one is written: a document that is not as expected stops the step with nothing changed.
    const edits = [
      {
        namespace: platform.configNamespace,
        name: configSecretName,
        edit: (data: Record<string, string>) => editConfigSecret(data, input),
      },
      {
        namespace: platform.resourceNamespace,
        name: componentsSecretName,
        edit: (data: Record<string, string>) => editComponentsSecret(data, input.components, input.direction).data,
      },
    ];
    for (const { namespace, name, edit } of edits) {
      const secret = await requireSecret(api, namespace, name);
      expected(`${namespace}/${name}`, () => edit(decode(secret)));
    }
    const digests: Record<string, string> = {};
    const diffs: string[] = [];
    for (const { namespace, name, edit } of edits) {
      const result = await editOne(api, namespace, name, edit);
      Object.assign(digests, result.digests);
      diffs.push(...result.diffs);
    }
    const count = input.components.length;
    return {
      changed: diffs.length > 0,
      proof: `${count} components on their ${input.direction === 'forth' ? 'new' : 'old'} hosts in ${configSecretName} and ${componentsSecretName}, written under resourceVersion and read back`,
      diff: diffs.join(''),
      digests,
    };
  });
}

function editConfigSecret(data: Record<string, string>, input: EditInput): Record<string, string> {
  const text = data[configKey];
  if (text === undefined) throw new YamlEditError('has no such key', [configKey]);
  const nodes = new Set(configNodes(text));
  const { add, remove } = input.plan.nodes;
  // The way back needs the old nodes only: a new one that was lost may have been taken off the list.
  const needed = input.direction === 'forth' ? [...remove, ...add.map(({ name }) => name)] : remove;
  const missing = needed.filter((name) => !nodes.has(name));
  if (missing.length > 0) {
    throw new YamlEditError(
      `does not list ${missing.join(', ')}: ${input.direction === 'forth' ? 'old and new nodes must both' : 'old nodes must'} be recorded now`,
      ['nodes'],
    );
  }
  const stage = input.direction === 'forth' ? 'reinstall' : 'reinstall-back';
  return { ...data, [configKey]: editConfig(text, stage, input.plan, input.components).text };
}

async function editOne(
  api: KubernetesApi,
  namespace: string,
  name: string,
  edit: (data: Record<string, string>) => Record<string, string>,
): Promise<{ digests: Record<string, string>; diffs: string[] }> {
  for (let attempt = 1; attempt <= conflictTries; attempt += 1) {
    const secret = await requireSecret(api, namespace, name);
    const before = decode(secret);
    const after = expected(`${namespace}/${name}`, () => edit(before));
    const changed = Object.keys(after).filter((key) => after[key] !== before[key]);
    const digests = Object.fromEntries(Object.entries(after).map(([key, value]) => [`${name}/${key}`, sha256(value)]));
    if (changed.length === 0) return { digests, diffs: [] };
    const values = Object.fromEntries(changed.map((key) => [key, after[key] ?? '']));
    const version = await writeKeys(api, secret, values);
    if (version === undefined) continue;
    const written = decode(await requireSecret(api, namespace, name));
    const wrong = Object.keys(after).filter((key) => written[key] !== after[key]);
    if (wrong.length > 0) {
      throw transient({
        what: `${namespace}/${name} does not read back as it was written`,
        cause: `somebody wrote ${wrong.join(', ')} at the same time`,
        untouched: 'the other Secret',
        next: 'it is read and edited again by itself; if it stays so, find the other writer',
      });
    }
    return {
      digests,
      diffs: changed.map((key) => redactedYamlDiff(before[key] ?? '', after[key] ?? '', `${name}/${key}`)),
    };
  }
  throw transient({
    what: `${namespace}/${name} could not be edited`,
    cause: `somebody else wrote it each of ${conflictTries} times between reading and writing`,
    untouched: 'their writes: nothing was overwritten',
    next: 'it is tried again by itself; if it stays so, find the other writer',
  });
}

/** An unexpected document is a matter for people. Its message names paths and host names, never other values. */
function expected<T>(name: string, edit: () => T): T {
  try {
    return edit();
  } catch (error) {
    if (!(error instanceof YamlEditError)) throw error;
    throw needsHuman({
      what: `${name} is not as the plan expects`,
      cause: redactText(error.message),
      untouched: 'this Secret',
      next: 'compare the plan with the cluster (ferry check); correct the record or make a new plan, then: ferry resume',
    });
  }
}
