import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { checkGate } from '../../src/activities/apply-gate.ts';
import type { ConfigStage, PlanReference } from '../../src/activities/contract.ts';
import { defaultDeadlines } from '../../src/activities/deadlines.ts';
import { type KubernetesApi, path } from '../../src/activities/kubernetes-api.ts';
import { decode, type Secret } from '../../src/activities/platform-secrets.ts';
import { createProtonCliActivities } from '../../src/activities/proton-cli.ts';
import { createSecretActivities } from '../../src/activities/secrets.ts';
import type { HostConnection, Hosts, Jobs } from '../../src/hosts/contract.ts';
import { type ControlPlane, create, namespace, startControlPlane } from './api-server.ts';
import { planned } from './components.ts';

let plane: ControlPlane;
let api: KubernetesApi;
beforeAll(async () => {
  plane = await startControlPlane();
  api = plane.api;
});
afterAll(async () => {
  await plane.stop();
});

const config = `# kept
apiVersion: v1
nodes:
- {ip4: 10.0.0.11, name: old1}
- {ip4: 10.0.0.12, name: old2}
- {ip4: 10.0.0.21, name: new1}
- {ip4: 10.0.0.22, name: new2}
cs:
  master: [old1, old2, new1, new2]
deploy: {mode: standard, devicespec: AS10000}
kafka:
  data_path: /sysvol/kafka
  hosts: [old1, old2]
grafana: {data_path: /sysvol/grafana, hosts: [old2]}
resource_connect_info:
  mq: {auth: {password: "hunter2-mq"}}
`;
const kafkaRecord = `name: kafka
params:
  admin_passwd: hunter2-record
  data_path: /sysvol/kafka
  hosts: [old1, old2]
  replica_count: 2
type: kafka
`;

let counter = 0;
let plan: PlanReference;
const components = [
  planned('kafka', 'resource', 'kafka', [
    ['old1', 'new1'],
    ['old2', 'new2'],
  ]),
  planned('grafana', 'resource', 'grafana', [['old2', 'new2']]),
];

beforeEach(async () => {
  counter += 1;
  const [configNamespace, resourceNamespace] = [`proton${counter}`, `resource${counter}`];
  plan = {
    cluster: 'demo',
    platform: {
      configNamespace,
      resourceNamespace,
      controlHost: 'old1',
      packageDirectory: '/opt/proton-package',
      home: '/root',
      protonCli: 'proton-cli',
      containerRuntime: 'containerd',
      versions: {},
    },
    mapping: [
      { from: 'old1', to: 'new1' },
      { from: 'old2', to: 'new2' },
    ],
    nodes: {
      add: [
        { name: 'new1', ip4: '10.0.0.21', controlPlane: true },
        { name: 'new2', ip4: '10.0.0.22', controlPlane: true },
      ],
      remove: ['old1', 'old2'],
    },
    containerRegistry: 'not-moved',
  };
  await namespace(api, configNamespace);
  await namespace(api, resourceNamespace);
  const secret = (ns: string, name: string, stringData: object): Promise<void> =>
    create(api, path('v1', ns, 'secrets'), { metadata: { name }, stringData });
  await secret(configNamespace, 'proton-cli-config', { ClusterConfiguration: config, other: 'kept' });
  await secret(resourceNamespace, 'persist-component-manage-components', {
    kafka: kafkaRecord,
    zookeeper: 'kept: true',
  });
});

const noHosts: Hosts = {
  connect: () => Promise.reject(new Error('no machine is needed here')),
  close: () => Promise.resolve(),
};

const read = async (ns: string, name: string): Promise<Record<string, string>> =>
  decode(await api.request<Secret>('GET', path('v1', ns, 'secrets', name)));
const recordedConfig = (): Promise<Record<string, string>> => read(plan.platform.configNamespace, 'proton-cli-config');
const records = (): Promise<Record<string, string>> =>
  read(plan.platform.resourceNamespace, 'persist-component-manage-components');

function editing(using: KubernetesApi = api): ReturnType<typeof createSecretActivities>['editSecrets'] {
  return createSecretActivities({ api: using, hosts: noHosts, backup: { directory: '/x' } }).editSecrets;
}

/** The API with somebody else who writes the Secret just before each of our first writes. */
function withOtherWriter(times: number, secret: string, data: Record<string, string>): KubernetesApi {
  let left = times;
  const request: KubernetesApi['request'] = async (method, resource, options) => {
    if (method === 'PATCH' && resource.endsWith(`/secrets/${secret}`) && left > 0) {
      left -= 1;
      await api.request('PATCH', resource, { body: { stringData: { ...data, written: String(left) } } });
    }
    return api.request(method, resource, options);
  };
  return { ...api, request };
}

describe('editing the Secrets', () => {
  it('replaces hosts in place in both, and nothing else; and back', async () => {
    const forth = await editing()({ migration: 'demo', plan, components, direction: 'forth' });

    const edited = (await recordedConfig())['ClusterConfiguration'] ?? '';
    expect(edited).toBe(
      config.replace('  hosts: [old1, old2]', '  hosts: [new1, new2]').replace('hosts: [old2]}', 'hosts: [new2]}'),
    );
    expect((await records())['kafka']).toBe(kafkaRecord.replace('[old1, old2]', '[new1, new2]'));
    expect(await records()).toMatchObject({ zookeeper: 'kept: true' });
    expect(await recordedConfig()).toMatchObject({ other: 'kept' });
    expect(forth.changed).toBe(true);
    expect(forth.diff).toContain('+  hosts: [new1, new2]');
    expect(JSON.stringify(forth)).not.toContain('hunter2');
    expect(Object.keys(forth.digests).sort()).toEqual([
      'persist-component-manage-components/kafka',
      'persist-component-manage-components/zookeeper',
      'proton-cli-config/ClusterConfiguration',
      'proton-cli-config/other',
    ]);

    const again = await editing()({ migration: 'demo', plan, components, direction: 'forth' });
    expect(again).toMatchObject({ changed: false, diff: '', digests: forth.digests });

    await editing()({ migration: 'demo', plan, components, direction: 'back' });
    expect(await recordedConfig()).toEqual({ ClusterConfiguration: config, other: 'kept' });
    expect((await records())['kafka']).toBe(kafkaRecord);
  });

  it('reads again when somebody else wrote in between, and loses neither write', async () => {
    const edit = editing(withOtherWriter(2, 'persist-component-manage-components', { redis: 'name: proton-redis' }));

    await edit({ migration: 'demo', plan, components, direction: 'forth' });

    const now = await records();
    expect(now['kafka']).toContain('hosts: [new1, new2]');
    expect(now['redis']).toBe('name: proton-redis');
    expect(now['written']).toBe('0');
  });

  it('gives up for a while when the other writer does not stop, overwriting nothing', async () => {
    const edit = editing(withOtherWriter(99, 'proton-cli-config', {}));

    const call = edit({ migration: 'demo', plan, components, direction: 'forth' });

    await expect(call).rejects.toMatchObject({ type: 'Transient' });
    expect((await recordedConfig())['ClusterConfiguration']).toBe(config);
  });

  it.each([
    {
      what: 'lacks a new node',
      change: (text: string) => text.replace('- {ip4: 10.0.0.22, name: new2}\n', ''),
      says: 'does not list new2',
    },
    {
      what: 'has other hosts',
      change: (text: string) => text.replace('hosts: [old1, old2]', 'hosts: [old2, old1]'),
      says: 'expected [old1, old2]',
    },
  ])('writes neither Secret when the configuration $what', async ({ change, says }) => {
    const resource = path('v1', plan.platform.configNamespace, 'secrets', 'proton-cli-config');
    await api.request('PATCH', resource, { body: { stringData: { ClusterConfiguration: change(config) } } });

    const call = editing()({ migration: 'demo', plan, components, direction: 'forth' });

    await expect(call).rejects.toMatchObject({ type: 'NeedsHuman', message: expect.stringContaining(says) as string });
    expect((await recordedConfig())['ClusterConfiguration']).toBe(change(config));
    expect((await records())['kafka']).toBe(kafkaRecord);
  });

  it('says what a missing Secret means', async () => {
    await api.request(
      'DELETE',
      path('v1', plan.platform.resourceNamespace, 'secrets', 'persist-component-manage-components'),
    );

    const call = editing()({ migration: 'demo', plan, components, direction: 'forth' });

    await expect(call).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining('does not exist') as string,
    });
    expect((await recordedConfig())['ClusterConfiguration']).toBe(config);
  });
});

describe('the way back of editing the Secrets', () => {
  const edit = (direction: 'forth' | 'back', using?: KubernetesApi): ReturnType<ReturnType<typeof editing>> =>
    editing(using)({ migration: 'demo', plan, components, direction });
  const resources = (): Record<'config' | 'records', string> => ({
    config: path('v1', plan.platform.configNamespace, 'secrets', 'proton-cli-config'),
    records: path('v1', plan.platform.resourceNamespace, 'secrets', 'persist-component-manage-components'),
  });
  const secrets = async (): Promise<Record<'config' | 'records', Secret>> => ({
    config: await api.request<Secret>('GET', resources().config),
    records: await api.request<Secret>('GET', resources().records),
  });
  /** As they are stored, so that no decoding hides a difference. */
  const stored = async (): Promise<unknown> => {
    const { config: one, records: other } = await secrets();
    return [one, other].map(({ data, metadata, type }) => ({ data, type, labels: metadata.labels }));
  };
  const versions = async (): Promise<unknown> => {
    const { config: one, records: other } = await secrets();
    return [one, other].map(({ metadata }) => metadata.resourceVersion);
  };
  /** Keeps the versions under which Secrets are written. */
  const listening = (to: unknown[]): KubernetesApi => ({
    ...api,
    request: (method, resource, options) => {
      const body = options?.body as { metadata?: { resourceVersion?: string } } | undefined;
      if (method !== 'GET') to.push(body?.metadata?.resourceVersion);
      return api.request(method, resource, options);
    },
  });

  it('restores both byte for byte under the version that was read, and writes no key that it does not edit', async () => {
    // No text: whoever writes every key back as it was decoded breaks it.
    const blob = Buffer.from([0xff, 0xfe, 0x00, 0x80]).toString('base64');
    for (const resource of Object.values(resources())) {
      const body = { metadata: { labels: { of: 'the-platform' } }, data: { blob } };
      await api.request('PATCH', resource, { body });
    }
    const before = await stored();
    await edit('forth');
    const between = await stored();
    const read = await versions();

    const guards: unknown[] = [];
    const done = await edit('back', listening(guards));

    expect(between).not.toEqual(before);
    expect(await stored()).toEqual(before);
    expect(guards).toEqual(read);
    expect(done).toMatchObject({
      changed: true,
      proof: expect.stringContaining('2 components on their old hosts') as string,
    });
    expect(done.diff).toContain('+  hosts: [old1, old2]');
    expect(JSON.stringify(done)).not.toContain('hunter2');
  });

  it('writes nothing where all is back already', async () => {
    const writes: unknown[] = [];
    const never = await edit('back', listening(writes));
    await edit('forth');
    await edit('back');
    const again = await edit('back', listening(writes));

    expect(writes).toEqual([]);
    for (const result of [never, again]) expect(result).toMatchObject({ changed: false, diff: '' });
  });

  it('keeps what the platform and people wrote since', async () => {
    await edit('forth');
    const theirs = (text: string): string =>
      `${text.replace('hunter2-mq', 'hunter3-mq').replace('replica_count: 2', 'replica_count: 2 # as before')}# theirs\n`;
    const { config: one, records: other } = await secrets();
    const { config: configUrl, records: recordsUrl } = resources();
    await api.request('PATCH', configUrl, {
      body: {
        stringData: { ClusterConfiguration: theirs(decode(one)['ClusterConfiguration'] ?? ''), added: 'theirs' },
      },
    });
    await api.request('PATCH', recordsUrl, {
      body: { stringData: { kafka: theirs(decode(other)['kafka'] ?? ''), redis: 'name: proton-redis' } },
    });

    await edit('back');

    expect(await recordedConfig()).toEqual({ ClusterConfiguration: theirs(config), other: 'kept', added: 'theirs' });
    expect(await records()).toEqual({
      kafka: theirs(kafkaRecord),
      zookeeper: 'kept: true',
      redis: 'name: proton-redis',
    });
  });

  it.each([
    ['proton-cli-config', 'ClusterConfiguration', recordedConfig, config],
    ['persist-component-manage-components', 'kafka', records, kafkaRecord],
  ] as const)('loses no line that somebody else writes to %s in between', async (name, key, now, original) => {
    await edit('forth');
    const edited = (await now())[key] ?? '';

    await edit('back', withOtherWriter(2, name, { [key]: `${edited}# theirs\n` }));

    expect(await now()).toMatchObject({ [key]: `${original}# theirs\n`, written: '0' });
  });

  it.each(['forth', 'back'] as const)('finishes what a way %s left half done', async (direction) => {
    if (direction === 'back') await edit('forth');
    const ceaseless = withOtherWriter(99, 'persist-component-manage-components', {});

    await expect(edit(direction, ceaseless)).rejects.toMatchObject({ type: 'Transient' });
    const half = [(await recordedConfig())['ClusterConfiguration'], (await records())['kafka']];
    await edit('back');

    // One Secret is as it was before the migration and the other is not.
    expect(half.filter((text) => text?.includes('hosts: [old1, old2]'))).toHaveLength(1);
    expect((await recordedConfig())['ClusterConfiguration']).toBe(config);
    expect((await records())['kafka']).toBe(kafkaRecord);
  });

  it('writes neither where one names hosts that are neither the old nor the new ones', async () => {
    await edit('forth');
    const strange = kafkaRecord.replace('[old1, old2]', '[new1, third]');
    await api.request('PATCH', resources().records, { body: { stringData: { kafka: strange } } });
    const before = await versions();

    await expect(edit('back')).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining('expected [new1, new2]') as string,
    });
    expect(await versions()).toEqual(before);
  });
});

const noJobs = {} as Jobs;
const protonCli = (): ReturnType<typeof createProtonCliActivities> =>
  createProtonCliActivities({ api, hosts: noHosts, jobs: noJobs, deadlines: defaultDeadlines });

describe('preparing a configuration', () => {
  it('keeps the edited document beside the recorded one, and shows a diff without secrets', async () => {
    const input = { migration: 'demo', stage: 'reinstall' as const, plan, components };

    const prepared = await protonCli().prepareConfig(input);

    const kept = (await read(plan.platform.configNamespace, 'ferry-config-reinstall'))['ClusterConfiguration'] ?? '';
    expect((parse(kept) as { kafka: { hosts: string[] } }).kafka.hosts).toEqual(['new1', 'new2']);
    expect((await recordedConfig())['ClusterConfiguration']).toBe(config);
    expect(prepared).toMatchObject({ stage: 'reinstall', nodes: ['old1', 'old2', 'new1', 'new2'] });
    expect(JSON.stringify(prepared)).not.toContain('hunter2');
    expect(await protonCli().prepareConfig(input)).toEqual(prepared);
  });

  it('is refused when somebody changed the prepared document', async () => {
    const prepared = await protonCli().prepareConfig({ migration: 'demo', stage: 'reinstall', plan, components });
    const resource = path('v1', plan.platform.configNamespace, 'secrets', 'ferry-config-reinstall');
    await api.request('PATCH', resource, { body: { stringData: { ClusterConfiguration: `${config}x: 1\n` } } });
    const control = { name: 'old1', address: '10.0.0.11', port: 22, user: 'root', hostKeys: [], role: 'old' as const };

    const call = protonCli().applyConfig({
      migration: 'demo',
      stage: 'reinstall',
      control,
      plan,
      digest: prepared.digest,
    });

    await expect(call).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining('is another one') as string,
    });
  });

  it('is refused when somebody wrote the recorded configuration since, and is the same again when it is prepared anew', async () => {
    const stage = 'reinstall' as const;
    const prepared = await protonCli().prepareConfig({ migration: 'demo', stage, plan, components });
    const resource = path('v1', plan.platform.configNamespace, 'secrets', 'proton-cli-config');
    const changed = `${config}# somebody was here\n`;
    await api.request('PATCH', resource, { body: { stringData: { ClusterConfiguration: changed } } });
    const control = { name: 'old1', address: '10.0.0.11', port: 22, user: 'root', hostKeys: [], role: 'old' as const };
    const check = (digest: string): Promise<unknown> =>
      protonCli().checkApply({ migration: 'demo', stage, control, plan, digest });

    await expect(check(prepared.digest)).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining('changed since it was prepared') as string,
    });
    const again = await protonCli().prepareConfig({ migration: 'demo', stage, plan, components });
    // Past the documents, it asks for the machine, and there is none here.
    await expect(check(again.digest)).rejects.toThrow(/no machine is needed here/);
    expect((await recordedConfig())['ClusterConfiguration']).toBe(changed);
  });

  it('is gone from the cluster when the migration has ended, and nobody else’s is', async () => {
    await protonCli().prepareConfig({ migration: 'demo', stage: 'reinstall', plan, components });
    const kept = { migration: 'another', plan };

    expect(await protonCli().dropPrepared(kept)).toMatchObject({ changed: false });
    expect(await protonCli().dropPrepared({ migration: 'demo', plan })).toMatchObject({ changed: true });
    expect(await protonCli().dropPrepared({ migration: 'demo', plan })).toMatchObject({ changed: false });
    await expect(read(plan.platform.configNamespace, 'ferry-config-reinstall')).rejects.toThrow();
  });
});

describe('the gate before an apply', () => {
  const nodes = ['new1', 'new2', 'old1', 'old2'];
  /** Whoever gets here asks for a machine: the Nodes were accepted. */
  class Reached extends Error {}
  const connection = {
    host: { name: 'old1' },
    run: () => Promise.reject(new Reached()),
    readFile: () => Promise.reject(new Reached()),
    writeFile: () => Promise.reject(new Reached()),
  } as unknown as HostConnection;

  async function have(names: readonly string[], controlPlane: readonly string[]): Promise<void> {
    const live = await api.list<{ metadata: { name: string } }>(path('v1', undefined, 'nodes'));
    for (const { metadata } of live) await api.request('DELETE', path('v1', undefined, 'nodes', metadata.name));
    for (const name of names) {
      const labels = controlPlane.includes(name) ? { 'node-role.kubernetes.io/control-plane': '' } : {};
      await create(api, path('v1', undefined, 'nodes'), { metadata: { name, labels } });
    }
  }
  const document = (names: readonly string[], more = ''): string =>
    `nodes:\n${names.map((name) => `- {ip4: 10.0.0.1, name: ${name}}\n`).join('')}cs: {master: [old1]}\n${more}`;

  interface Case {
    what: string;
    stage: ConfigStage;
    live: string[];
    file: string[];
    controlPlane?: string[];
    before?: string[];
    more?: string;
    says?: string;
    type?: string;
  }
  it.each<Case>([
    { what: 'adding the planned nodes', stage: 'add-nodes', live: ['old1', 'old2'], file: nodes },
    {
      what: 'adding them again after half of it',
      stage: 'add-nodes',
      live: ['old1', 'old2', 'new1'],
      file: nodes,
      before: ['old1', 'old2'],
    },
    { what: 'changing no node', stage: 'reinstall', live: nodes, file: nodes },
    { what: 'removing the planned nodes', stage: 'remove-nodes', live: nodes, file: ['new1', 'new2'] },
    {
      what: 'removing nodes that are gone already',
      stage: 'remove-nodes',
      live: ['new1', 'new2'],
      file: ['new1', 'new2'],
      before: nodes,
    },
    {
      what: 'a stale file that would delete the new nodes',
      stage: 'reinstall',
      live: nodes,
      file: ['old1', 'old2'],
      says: 'would delete new1, new2',
      type: 'NeedsHuman',
    },
    {
      what: 'a node nobody planned',
      stage: 'remove-nodes',
      live: [...nodes, 'extra'],
      file: ['new1', 'new2'],
      says: 'would delete extra',
      type: 'NeedsHuman',
    },
    {
      what: 'a file that keeps a node to be removed',
      stage: 'remove-nodes',
      live: nodes,
      file: ['new1', 'new2', 'old1'],
      says: 'still lists old1',
      type: 'Permanent',
    },
    {
      what: 'a node that is missing',
      stage: 'reinstall',
      live: ['old1', 'new1', 'new2'],
      file: nodes,
      says: 'would add old2',
      type: 'NeedsHuman',
    },
    {
      what: 'a node that came since',
      stage: 'add-nodes',
      live: ['old1', 'old2', 'extra'],
      file: [...nodes, 'extra'],
      before: ['old1', 'old2'],
      says: 'extra appeared or disappeared',
      type: 'NeedsHuman',
    },
    {
      what: 'the first control-plane node among those that leave',
      stage: 'remove-new-nodes',
      live: nodes,
      file: ['old1', 'old2'],
      says: 'cannot remove new1 by an apply',
      type: 'Permanent',
    },
    {
      what: 'a deploy namespace',
      stage: 'reinstall',
      live: nodes,
      file: nodes,
      more: 'deploy: {namespace: other}\n',
      says: 'deploy.namespace',
      type: 'NeedsHuman',
    },
  ])('$what', async ({ stage, live, file, controlPlane = ['new1', 'old1'], before, more, says, type }) => {
    await have(live, controlPlane);

    const call = checkGate(api, connection, {
      migration: 'demo',
      stage,
      plan,
      text: document(file, more),
      ...(before && { nodesBefore: before }),
    });

    if (says === undefined) await expect(call).rejects.toBeInstanceOf(Reached);
    else await expect(call).rejects.toMatchObject({ type, message: expect.stringContaining(says) as string });
  });
});
