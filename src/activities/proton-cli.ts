import type { HostAddress, HostConnection, Hosts, Jobs } from '../hosts/contract.ts';
import { componentRows } from '../plan/components.ts';
import {
  configKey,
  configNodes,
  configStages,
  editConfig,
  readConfigTexts,
  YamlEditError,
} from '../plan/config-edit.ts';
import type { PlannedComponent } from '../plan/plan.ts';
import { redacted, redactedYamlDiff, redactText, redactYaml } from '../plan/redact.ts';
import { classifyApply, errorPart, hasSuccessMarker } from './apply-failures.ts';
import { guardPauseSeconds, guardScript } from './apply-guard.ts';
import { checkGate } from './apply-gate.ts';
import type { ApplyInput, ConfigStage, Evidence, PlanReference, ProtonCliActivities } from './contract.ts';
import type { Deadlines } from './deadlines.ts';
import { failureOf, needsHuman, onHost, transient } from './failures.ts';
import { lastLines } from './helm.ts';
import { hostState } from './host-state.ts';
import { ifThere, type KubernetesApi, onApi, path } from './kubernetes-api.ts';
import { configSecretName, decode, requireSecret, type Secret, sha256 } from './platform-secrets.ts';
import { activityScope, pause, poll, whileBeating } from './polling.ts';

export interface ProtonCliDeps {
  api: KubernetesApi;
  hosts: Hosts;
  jobs: Jobs;
  deadlines: Deadlines;
}

type PrepareInput = Parameters<ProtonCliActivities['prepareConfig']>[0];

/** Labels of what the activities themselves put into the cluster. */
export const ownLabel = 'ferry.migration/id';
const digestAnnotation = 'ferry.migration/digest';
/** Digest of the recorded configuration that the document was made from. */
const baseAnnotation = 'ferry.migration/base';

/** Editing and applying the platform's configuration with its own tool. */
export function createProtonCliActivities(deps: ProtonCliDeps): ProtonCliActivities {
  return {
    prepareConfig: (input) => prepareConfig(deps.api, input),
    checkApply: (input) => checkApply(deps, input),
    applyConfig: (input) => applyConfig(deps, input),
    settleApply: (input) => settleApply(deps, input),
    dropPrepared: (input) => dropPrepared(deps.api, input),
  };
}

/**
 * The edited document waits in a Secret beside the one it was made from: the same people can read it, any worker finds it, and it is
 * in a file on the control host only while it is applied.
 */
function preparedName(stage: ConfigStage): string {
  return `ferry-config-${stage}`;
}

async function prepareConfig(
  api: KubernetesApi,
  input: PrepareInput,
): Promise<{ stage: ConfigStage; digest: string; diff: string; nodes: string[] }> {
  const namespace = input.plan.platform.configNamespace;
  return onApi(api, `Preparing the configuration for ${input.stage}`, 'the configuration in use', async () => {
    // From the Secret and not from `get conf`, which adds a stray line and drops component_management.nodeSelector.
    const text = decode(await requireSecret(api, namespace, configSecretName))[configKey] ?? '';
    const edit = editOrFail(text, input.stage, input.plan, input.components);
    const digest = sha256(edit.text);
    const name = preparedName(input.stage);
    const secret: Secret = {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: {
        name,
        namespace,
        labels: { [ownLabel]: input.migration },
        annotations: { [digestAnnotation]: digest, [baseAnnotation]: sha256(text) },
      },
      type: 'ferry.migration/config',
      data: { [configKey]: Buffer.from(edit.text).toString('base64') },
    };
    const exists = (await api.find(path('v1', namespace, 'secrets', name))) !== undefined;
    if (exists) await api.request('PUT', path('v1', namespace, 'secrets', name), { body: secret });
    else await api.request('POST', path('v1', namespace, 'secrets'), { body: secret });
    return {
      stage: input.stage,
      digest,
      diff: redactedYamlDiff(text, edit.text, `${configSecretName}/${configKey}`),
      nodes: edit.nodes,
    };
  });
}

function editOrFail(
  text: string,
  stage: ConfigStage,
  plan: PlanReference,
  components: readonly PlannedComponent[],
): { text: string; nodes: string[] } {
  try {
    return editConfig(text, stage, plan, components);
  } catch (error) {
    if (!(error instanceof YamlEditError)) throw error;
    throw needsHuman({
      what: `The configuration cannot be edited for ${stage}`,
      cause: redactText(error.message),
      untouched: 'the configuration in use',
      next: 'compare the plan with the recorded configuration (ferry check), correct one of them, then: ferry resume',
    });
  }
}

interface PreparedDocument {
  text: string;
  base: string | undefined;
}

async function readPrepared(api: KubernetesApi, input: ApplyInput): Promise<PreparedDocument> {
  const namespace = input.plan.platform.configNamespace;
  const name = preparedName(input.stage);
  const secret = await onApi(api, 'Reading the prepared configuration', 'everything', () =>
    api.find<Secret>(path('v1', namespace, 'secrets', name)),
  );
  const text = secret === undefined ? undefined : decode(secret)[configKey];
  if (secret !== undefined && text !== undefined && sha256(text) === input.digest) {
    return { text, base: secret.metadata.annotations?.[baseAnnotation] };
  }
  throw needsHuman({
    what: `The configuration prepared for ${input.stage} is ${text === undefined ? 'gone' : 'another one'}`,
    cause: `Secret ${namespace}/${name} does not hold the document of digest ${input.digest}, the one whose diff was shown`,
    untouched: 'everything; nothing was applied',
    next: 'find out who changed it; ferry resume prepares it again',
  });
}

/** What somebody wrote into the configuration since the document was made from it must not be written over. */
async function checkBase(api: KubernetesApi, input: ApplyInput, document: PreparedDocument): Promise<void> {
  const { base } = document;
  const namespace = input.plan.platform.configNamespace;
  const recorded = await onApi(api, 'Reading the recorded configuration', 'everything', async () =>
    decode(await requireSecret(api, namespace, configSecretName)),
  );
  const now = recorded[configKey] ?? '';
  if (base === undefined || sha256(now) === base) return;
  // An apply whose end nobody saw has recorded what it applied.
  if (differingPlaces(document.text, now).length === 0) return;
  throw needsHuman({
    what: `The configuration was changed since it was prepared for ${input.stage}`,
    cause: `Secret ${namespace}/${configSecretName} is not the one whose edit was shown; applying the older document would take that change back`,
    untouched: 'everything; nothing was applied',
    next: 'find out who changed it; ferry resume prepares it again from what is recorded now',
  });
}

async function checkApply(deps: ProtonCliDeps, input: ApplyInput): Promise<Evidence> {
  return onHost(input.control.name, 'everything; nothing was applied', () =>
    whileBeating({ waiting: 'the gate of an apply' }, async () => {
      const document = await readPrepared(deps.api, input);
      await checkBase(deps.api, input, document);
      const connection = await deps.hosts.connect(input.control);
      await checkGate(deps.api, connection, { ...input, text: document.text });
      return { changed: false, proof: `an apply of ${input.stage} may start on ${input.control.name}` };
    }),
  );
}

async function settleApply(
  deps: ProtonCliDeps,
  { migration, control }: { migration: string; control: HostAddress },
): Promise<Evidence> {
  return onHost(control.name, 'an apply that runs is left to come to its end', async () => {
    const connection = await deps.hosts.connect(control);
    const job = `apply-${migration}`;
    const { state } = await deps.jobs.state(connection, job);
    if (state === 'running') await awaitExit(deps, connection, job);
    return { changed: false, proof: `no apply of ${migration} runs on ${control.name}` };
  });
}

async function dropPrepared(
  api: KubernetesApi,
  { migration, plan }: { migration: string; plan: PlanReference },
): Promise<Evidence> {
  const namespace = plan.platform.configNamespace;
  return onApi(api, 'Removing the prepared configurations', 'the configuration in use', async () => {
    const dropped: string[] = [];
    for (const stage of configStages) {
      const name = preparedName(stage);
      const secret = await api.find<Secret>(path('v1', namespace, 'secrets', name));
      if (secret?.metadata.labels?.[ownLabel] !== migration) continue;
      await ifThere(() => api.request('DELETE', path('v1', namespace, 'secrets', name)));
      dropped.push(name);
    }
    return { changed: dropped.length > 0, proof: `no prepared configuration is left in ${namespace}` };
  });
}

async function applyConfig(
  deps: ProtonCliDeps,
  input: ApplyInput,
): Promise<Evidence & { seconds: number; attempt: number }> {
  const scope = activityScope();
  const document = await readPrepared(deps.api, input);
  const { text } = document;
  const untouched = 'what the apply did so far stays; the same file may be applied again';
  return onHost(input.control.name, untouched, async () => {
    const connection = await deps.hosts.connect(input.control);
    const job = `apply-${input.migration}`;
    const files = hostState(input.migration);
    const owner = (await connection.readFile(files.applyToken))?.toString('utf8');
    let { state } = await deps.jobs.state(connection, job);
    const mine = owner === scope.token && state !== 'absent';
    if (!mine) {
      // An apply of an execution that was given up still runs to its end: two at a time would edit the same nodes.
      if (state === 'running') state = await awaitExit(deps, connection, job);
      if (state === 'exited') await deps.jobs.clear(connection, job);
      await whileBeating({ waiting: 'the gate of the apply' }, async () => {
        await checkBase(deps.api, input, document);
        await checkGate(deps.api, connection, { ...input, text });
        await startApply(deps.jobs, connection, job, scope.token, input, text);
      });
    }
    const startedAt = Date.now();
    await awaitExit(deps, connection, job);
    const ended = await deps.jobs.state(connection, job);
    const seconds = Math.round((Date.now() - (Date.parse(ended.startedAt ?? '') || startedAt)) / 100) / 10;
    await connection.run(['rm', '-f', '--', files.applyFile], { timeout: 30_000 });

    const stdout = await readAll(deps.jobs, connection, job, 'stdout');
    const stderr = await readAll(deps.jobs, connection, job, 'stderr');
    if (ended.exitCode !== 0 || !hasSuccessMarker(stdout)) {
      // Cleared, so that the next try starts a new one instead of reading this verdict again.
      await deps.jobs.clear(connection, job);
      const verdict = classifyApply({ exitCode: ended.exitCode, result: ended.result, stdout, stderr });
      const message = redactBy(errorPart(stderr), text).slice(0, 600);
      throw failureOf(verdict.type, {
        what: `proton-cli apply (${input.stage}, try ${scope.attempt}) ended with ${ended.exitCode === undefined ? (ended.result ?? 'no exit code') : `exit code ${ended.exitCode}`}`,
        cause: message === '' ? verdict.cause : `${verdict.cause}. It said: ${message.replaceAll(/\s*\n\s*/g, ' | ')}`,
        untouched: verdict.untouched,
        next: verdict.next,
      });
    }
    const proof = await proveApplied(deps, connection, input, text);
    return { changed: true, proof, seconds, attempt: scope.attempt };
  });
}

async function startApply(
  jobs: Jobs,
  connection: HostConnection,
  job: string,
  token: string,
  input: ApplyInput,
  text: string,
): Promise<void> {
  const files = hostState(input.migration);
  const { platform } = input.plan;
  const made = await connection.run(['install', '-d', '-m', '0700', '--', files.directory], { timeout: 30_000 });
  if (made.code !== 0) {
    throw needsHuman({
      what: `${files.directory} cannot be made on ${input.control.name}`,
      cause: lastLines(made.stderr),
      untouched: 'everything; nothing was applied',
      next: `df -h /var/lib on ${input.control.name}, then: ferry resume`,
    });
  }
  await connection.writeFile(files.guard, guardScript, 0o700);
  await connection.writeFile(files.applyFile, text, 0o600);
  await connection.writeFile(files.applyToken, token, 0o600);
  // A unit has next to no PATH of its own; the tool calls helm3, kubectl and skopeo by name.
  const { stdout: searchPath } = await connection.run(['printenv', 'PATH'], { timeout: 30_000 });
  await jobs.start(connection, {
    name: job,
    token,
    cwd: platform.packageDirectory,
    env: {
      HOME: platform.home,
      PATH: searchPath.trim() || '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    },
    argv: [
      '/bin/sh',
      files.guard,
      String(guardPauseSeconds * 100),
      String(guardPauseSeconds),
      platform.protonCli,
      'apply',
      '-f',
      files.applyFile,
    ],
  });
}

async function awaitExit(deps: ProtonCliDeps, connection: HostConnection, job: string): Promise<'exited'> {
  const startedAt = Date.now();
  return poll(
    async () => {
      const { state } = await deps.jobs.state(connection, job);
      if (state === 'exited') return { done: true, value: state };
      if (state === 'absent') {
        throw transient({
          what: `The apply on ${connection.host.name} is gone`,
          cause: 'its unit does not exist any more: the machine was restarted, or somebody removed it',
          untouched: 'the Secret proton-cli-config, unless the apply came to its end',
          next: 'it is started again by itself after its gate',
        });
      }
      return { done: false, waiting: `proton-cli apply runs for ${Math.round((Date.now() - startedAt) / 1000)} s` };
    },
    // Half an apply is worse than a long one: whoever gives this migration up waits for its end, and undoes what it did.
    { deadline: deps.deadlines.apply, outlivesCancellation: true },
    (waiting) =>
      needsHuman({
        what: 'proton-cli apply does not come to an end',
        cause: waiting,
        untouched: 'it was not killed: half an apply is worse than a long one',
        next: `see what it waits for (journalctl -u ferry-${job} on ${connection.host.name}), then: ferry resume, which finds it again`,
      }),
  );
}

async function readAll(
  jobs: Jobs,
  connection: HostConnection,
  job: string,
  stream: 'stdout' | 'stderr',
): Promise<string> {
  const chunks: Buffer[] = [];
  let offset = 0;
  for (;;) {
    const chunk = await jobs.read(connection, job, stream, offset);
    if (chunk.length === 0) break;
    chunks.push(chunk);
    offset += chunk.length;
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Text with every secret value of the configuration taken out, however the tool came to print it. */
export function redactBy(text: string, config: string): string {
  let result = redactText(text);
  for (const raw of redactYaml(config).secrets.values()) {
    const value = raw.trim().replace(/^(['"])(.*)\1$/s, '$2');
    if (value.length >= 4) result = result.replaceAll(value, redacted);
  }
  return result;
}

/** Exit code and marker are the tool's word; this is what the cluster says. */
async function proveApplied(
  deps: ProtonCliDeps,
  connection: HostConnection,
  input: ApplyInput,
  text: string,
): Promise<string> {
  const { api } = deps;
  const namespace = input.plan.platform.configNamespace;
  await assertNamespaceFile(connection, input);
  return onApi(api, 'Proving the apply', 'the applied configuration', async () => {
    const recorded = decode(await requireSecret(api, namespace, configSecretName))[configKey] ?? '';
    const wrong = differingPlaces(text, recorded);
    if (wrong.length > 0) {
      throw needsHuman({
        what: 'The apply reported success, but the Secret does not hold what was applied',
        cause: `${configSecretName} differs at ${wrong.join(', ')}`,
        untouched: 'nothing was undone',
        next: 'find out who wrote the Secret (proton-cli uses the namespace in ~/.proton-cli.yaml), then: ferry resume',
      });
    }
    const wanted = new Set(configNodes(text));
    let live: string[] = [];
    for (let look = 0; look < 5; look += 1) {
      live = (await api.list<{ metadata: { name: string } }>(path('v1', undefined, 'nodes'))).map(
        ({ metadata }) => metadata.name,
      );
      if (live.length === wanted.size && live.every((name) => wanted.has(name))) {
        return `exit 0, success marker, ${configSecretName} holds the applied hosts; Nodes are ${[...wanted].sort().join(', ')}`;
      }
      await pause(2000);
    }
    throw needsHuman({
      what: 'The apply reported success, but the Nodes are not those of the file',
      cause: `the cluster has ${live.sort().join(', ')}; the file lists ${[...wanted].sort().join(', ')}`,
      untouched: 'nothing was undone',
      next: 'kubectl get nodes; a removed machine whose kubelet still runs registers again: disable its kubelet, delete the Node, then: ferry resume',
    });
  });
}

async function assertNamespaceFile(connection: HostConnection, input: ApplyInput): Promise<void> {
  const { namespaceFile } = hostState(input.migration);
  const before = (await connection.readFile(namespaceFile))?.toString('utf8').trim();
  const content = await connection.readFile(`${input.plan.platform.home}/.proton-cli.yaml`);
  const now = content === undefined ? 'absent' : sha256(content);
  // The tool writes the defaults when there was no file; whether they fit is what the gate of the next apply checks.
  if (before === undefined || before === now || before === 'absent') return;
  throw needsHuman({
    what: 'proton-cli changed its namespace file during the apply',
    cause: `${input.plan.platform.home}/.proton-cli.yaml is not what it was; the next apply would look for the configuration elsewhere and install afresh`,
    untouched: 'the applied configuration',
    next: 'put the file back from the backup on the control host, then: ferry resume',
  });
}

/** Places that name nodes and differ between the applied file and the recorded document; the tool may complete other fields. */
export function differingPlaces(applied: string, recorded: string): string[] {
  const [a, b] = [readConfigTexts(applied), readConfigTexts(recorded)];
  const places = [
    ['nodes'],
    ['cs', 'master'],
    ...componentRows.flatMap((row) => [[row.section, 'hosts'], ...row.dataPath.map((part) => [row.section, ...part])]),
  ];
  return places
    .filter((place) => JSON.stringify(at(a, place)) !== JSON.stringify(at(b, place)))
    .map((place) => place.join('.'));
}

function at(document: unknown, place: readonly string[]): unknown {
  let value = document;
  for (const key of place) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  if (place[0] !== 'nodes' || !Array.isArray(value)) return value ?? undefined;
  return value.map((node: unknown) => (node as Record<string, unknown>)['name']);
}
