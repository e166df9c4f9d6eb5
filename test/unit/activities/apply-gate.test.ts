import { stringify } from 'yaml';
import { describe, expect, it } from 'vitest';
import { checkGate } from '../../../src/activities/apply-gate.ts';
import { defaultDeadlines } from '../../../src/activities/deadlines.ts';
import { hostState } from '../../../src/activities/host-state.ts';
import type { KubernetesApi } from '../../../src/activities/kubernetes-api.ts';
import { sha256 } from '../../../src/activities/platform-secrets.ts';
import { createProtonCliActivities } from '../../../src/activities/proton-cli.ts';
import type { HostConnection, Jobs, RunOptions, RunResult } from '../../../src/hosts/contract.ts';
import { configKey } from '../../../src/plan/config-edit.ts';
import type { Plan, PlanInput } from '../../../src/plan/plan.ts';
import { samplePlan } from '../plan/samples.ts';

/* What an apply needs of the machine where it runs; what it would do to the Nodes is held against a real API in test/cluster. */

const migration = 'demo';
const nodes = ['node-1', 'node-2', 'node-3'];
const added = ['node-4', 'node-5', 'node-6'];
const namespaceFile = '/root/.proton-cli.yaml';
const fits = 'resource_namespace: resource\nproton_cli_config_namespace: proton\n';

/** A control host that has everything, and a cluster that answers. */
interface Given {
  plan: Plan;
  stage: 'add-nodes' | 'reinstall';
  master: string[];
  files: Map<string, string>;
  /** `<argv…>`: the first that fits answers; all others succeed. */
  commands: [Pick<RegExp, 'test'>, Partial<RunResult>][];
}

const servers = (...ips: string[]): Partial<RunResult> => ({
  stdout: JSON.stringify({ subsets: [{ addresses: ips.map((ip) => ({ ip })), ports: [{ port: 6443 }] }] }),
});

function healthy(): Given {
  return {
    plan: samplePlan(),
    stage: 'add-nodes',
    master: [...nodes, ...added],
    files: new Map([
      [namespaceFile, fits],
      [hostState(migration).namespaceFile, `${sha256(fits)}\n`],
    ]),
    commands: [
      [/^proton-cli apply --help$/, { stdout: 'Usage:\n  -f, --file string   the configuration\n' }],
      [/endpoints\/kubernetes$/, servers('10.0.0.11', '10.0.0.12', 'fd00::13')],
    ],
  };
}

interface Call {
  line: string;
  options: RunOptions;
}

function connectionOf({ files, commands }: Given, calls: Call[]): HostConnection {
  return {
    host: { name: 'node-1', address: '10.0.0.11', port: 22, user: 'root', hostKeys: [] },
    run: (argv, options = {}) => {
      const line = argv.join(' ');
      calls.push({ line, options });
      const found = commands.find(([pattern]) => pattern.test(line))?.[1] ?? {};
      return Promise.resolve({ code: 0, signal: null, stdout: '', stderr: '', ...found });
    },
    readFile: (file) => {
      const content = files.get(file);
      return Promise.resolve(content === undefined ? undefined : Buffer.from(content));
    },
    writeFile: (file, content) => {
      files.set(file, content.toString());
      return Promise.resolve();
    },
  };
}

function textOf({ stage, master }: Given): string {
  const names = stage === 'add-nodes' ? [...nodes, ...added] : nodes;
  return stringify({ nodes: names.map((name, index) => ({ ip4: `10.0.0.${index + 11}`, name })), cs: { master } });
}

function nodeObjects(names: readonly string[]): object[] {
  return names.map((name) => ({ metadata: { name, labels: { 'node-role.kubernetes.io/control-plane': '' } } }));
}

async function gate(change: (given: Given) => void = () => undefined): Promise<Call[]> {
  const given = healthy();
  change(given);
  const { plan, stage } = given;
  const calls: Call[] = [];
  const api = { list: () => Promise.resolve(nodeObjects(nodes)) } as unknown as KubernetesApi;
  await checkGate(api, connectionOf(given, calls), { migration, stage, plan, text: textOf(given) });
  return calls;
}

const answers =
  (pattern: RegExp, result: Partial<RunResult>) =>
  ({ commands }: Given): void => {
    commands.unshift([pattern, result]);
  };
const refused = { code: 1, stderr: 'The connection to the server was refused\n' };

/** The namespace file, and what it was when the migration began. */
const namespaces =
  (now: string | undefined, before = now === undefined ? 'absent' : sha256(now)) =>
  ({ files }: Given): void => {
    files.clear();
    if (now !== undefined) files.set(namespaceFile, now);
    files.set(hostState(migration).namespaceFile, `${before}\n`);
  };
const otherNamespaces =
  (change: Partial<PlanInput['platform']>, now: string | undefined) =>
  (given: Given): void => {
    given.plan = samplePlan((plan) => Object.assign(plan.platform, change));
    namespaces(now)(given);
  };

/** The tool's own file, whichever user the worker comes in as: it reads nothing else, so nothing else proves anything. */
const asTheTool = { HOME: '/root', KUBECONFIG: '/root/.kube/config' };

describe('the gate of an apply, on the machine where it runs', () => {
  it('opens when everything is there, having asked as the tool will ask', async () => {
    const calls = await gate();
    const asked = calls.filter(({ line }) => line.startsWith('kubectl')).map(({ line }) => line);
    const ready = (server: string): string =>
      `kubectl --request-timeout 5s --server https://${server}:6443 get --raw /readyz`;
    const read = 'kubectl --request-timeout 1s get --raw /api/v1/namespaces/proton/secrets/proton-cli-config';

    expect(asked).toEqual([
      'kubectl --request-timeout 5s get --raw /api/v1/namespaces/default/endpoints/kubernetes',
      ready('10.0.0.11'),
      ready('10.0.0.12'),
      ready('[fd00::13]'),
      read,
      read,
      read,
    ]);
    expect(calls.at(-1)?.line, 'what may change from one second to the next is asked last').toBe(read);
    for (const { line, options } of calls.filter((call) => /^(kubectl|proton-cli)/.test(call.line)))
      expect(options.env, line).toEqual(asTheTool);
    expect(calls.find(({ line }) => line.startsWith('proton-cli'))?.options.cwd).toBe('/opt/proton-package');
    expect(calls.map(({ line }) => line)).toContain('test -r /tmp/kubeadm-config.yaml');
  });

  it.each<[string, (given: Given) => void]>([
    ['no namespace file, then and now', namespaces(undefined)],
    [
      'no record of the file, as before the first backup',
      ({ files }) => files.delete(hostState(migration).namespaceFile),
    ],
    ['a file that the tool wrote since, there was none before', namespaces(fits, 'absent')],
    ['a file that does not parse, the plan names the defaults', namespaces('a: [')],
    ['a file without the namespace of components', namespaces('proton_cli_config_namespace: proton\n')],
    [
      'other namespaces in file and plan alike',
      otherNamespaces(
        { configNamespace: 'own', resourceNamespace: 'data' },
        'proton_cli_config_namespace: own\nresource_namespace: data\n',
      ),
    ],
  ])('opens with %s', async (_what, change) => {
    await expect(gate(change)).resolves.toBeDefined();
  });

  it.each<[string, (given: Given) => void]>([
    ['no node is added', (given) => ((given.stage = 'reinstall'), (given.master = nodes))],
    ['another machine is the first of cs.master', ({ master }) => master.reverse()],
  ])('does not ask for what joins are made from when %s', async (_what, change) => {
    const tested = (await gate(change)).map(({ line }) => line).filter((line) => line.startsWith('test -r'));

    expect(tested).toHaveLength(3);
    expect(tested).not.toContain('test -r /tmp/kubeadm-config.yaml');
  });

  interface Failing {
    what: string;
    change: (given: Given) => void;
    type?: 'Transient';
    cause: string;
    next: RegExp;
  }
  const correct = /correct platform\.protonCli and platform\.packageDirectory of the plan.*ferry resume/;
  const putBack = /put it back from the backup on the control host, then: ferry resume/;
  const byItself = /it is tried again by itself; .* kube-apiserver and etcd on the masters/;
  const elsewhere = 'the tool would not find the recorded configuration and install a new cluster over this one';
  it.each<Failing>([
    {
      what: 'the tool does not exist',
      change: answers(/--help/, { code: 127, stderr: 'proton-cli: not found\n' }),
      cause: '"proton-cli apply --help" in /opt/proton-package ended with 127: proton-cli: not found',
      next: correct,
    },
    {
      what: 'the tool was killed',
      change: answers(/--help/, { code: null, signal: 'KILL', stdout: '--file' }),
      cause: 'ended with a signal',
      next: correct,
    },
    {
      what: 'it is another tool',
      change: answers(/--help/, { stdout: 'Usage:\n  --filename string\n' }),
      cause: '"apply --help" does not know --file',
      next: correct,
    },
    {
      what: 'the namespace file was changed',
      change: namespaces(`# edited\n${fits}`, sha256(fits)),
      cause: `it was changed since the backup; ${elsewhere}`,
      next: putBack,
    },
    {
      what: 'the namespace file is gone',
      change: namespaces(undefined, sha256(fits)),
      cause: `it was changed since the backup; ${elsewhere}`,
      next: putBack,
    },
    {
      what: 'the namespace file does not parse, and the plan is not of the defaults',
      change: otherNamespaces({ resourceNamespace: 'data' }, 'a: ['),
      cause: 'it does not parse, so the tool takes its defaults proton and resource',
      next: putBack,
    },
    {
      what: 'the namespace file has no namespace of the configuration',
      change: namespaces('resource_namespace: resource\n'),
      cause: `it makes the tool look in namespace "", the plan says "proton"; ${elsewhere}`,
      next: putBack,
    },
    {
      what: 'the namespace file names another one',
      change: namespaces(fits.replace('proton\n', 'other\n')),
      cause: 'it makes the tool look in namespace "other", the plan says "proton"',
      next: putBack,
    },
    {
      what: 'there is no namespace file, and the plan is not of the defaults',
      change: otherNamespaces({ configNamespace: 'own' }, undefined),
      cause: 'it makes the tool look in namespace "proton", the plan says "own"',
      next: putBack,
    },
    {
      what: 'the namespace file names another one for components',
      change: namespaces(fits.replace('resource\n', 'other\n')),
      cause: 'it names resource namespace "other", the plan says "resource"',
      next: putBack,
    },
    ...[
      { file: '/root/.kube/config', cause: 'the tool finds the cluster by it, and by nothing else' },
      { file: '/etc/kubernetes/admin.conf', cause: 'apply runs on control-plane nodes only' },
      { file: '/opt/proton-package/service-package/charts', cause: 'the tool reads charts relative to its directory' },
      { file: '/tmp/kubeadm-config.yaml', cause: 'the first master makes the keys for joining from it' },
    ].map(({ file, cause }) => ({
      what: `${file} is missing`,
      change: answers(new RegExp(`^test -r ${file}$`), { code: 1 }),
      cause,
      next: new RegExp(`put ${file} there, then: ferry resume`),
    })),
    {
      what: 'the API does not answer',
      change: answers(/endpoints\/kubernetes/, refused),
      type: 'Transient',
      cause: 'the API did not answer (The connection to the server was refused)',
      next: byItself,
    },
    {
      what: 'no API server is listed',
      change: answers(/endpoints\/kubernetes/, { stdout: '{"kind":"Endpoints"}' }),
      type: 'Transient',
      cause: 'service kubernetes has no endpoint',
      next: byItself,
    },
    {
      what: 'one of several API servers is not ready',
      change: answers(/--server https:\/\/10\.0\.0\.12:6443 .*readyz/, { code: 1, stderr: '[-]etcd failed\n' }),
      type: 'Transient',
      cause: 'https://10.0.0.12:6443/readyz is not ok ([-]etcd failed)',
      next: byItself,
    },
    {
      what: 'the configuration is not read in time',
      change: answers(/secrets\/proton-cli-config/, { code: 1, stderr: 'context deadline exceeded\n' }),
      type: 'Transient',
      cause: '(proton/proton-cli-config) was not readable within 1 s at read 1 of 3 (context deadline exceeded)',
      next: byItself,
    },
  ])('stays shut when $what', async ({ change, type = 'NeedsHuman', cause, next }) => {
    await expect(gate(change)).rejects.toMatchObject({
      type,
      details: [
        {
          cause: expect.stringContaining(cause) as string,
          untouched: 'everything; proton-cli was not started',
          next: expect.stringMatching(next) as string,
        },
      ],
    });
  });

  it('stays shut when the configuration was read twice, and not a third time', async () => {
    let reads = 0;
    const late = { code: 1, stderr: 'context deadline exceeded\n' };

    await expect(
      gate(({ commands }) => {
        const pattern = { test: (line: string) => line.endsWith('proton-cli-config') && (reads += 1) === 3 };
        commands.unshift([pattern, late]);
      }),
    ).rejects.toMatchObject({
      type: 'Transient',
      message: expect.stringContaining('at read 3 of 3') as string,
    });
    expect(reads).toBe(3);
  });
});

describe('the namespace file after an apply', () => {
  /** An apply that succeeds by its own word, and what it did to the file. */
  async function apply(before: string | undefined, change: (files: Map<string, string>) => void): Promise<string> {
    const given = healthy();
    namespaces(before)(given);
    const text = textOf(given);
    const { plan } = given;
    const data = { [configKey]: Buffer.from(text).toString('base64') };
    let asked = 0;
    const api = {
      // the Nodes join while the tool runs
      list: () => Promise.resolve(nodeObjects((asked += 1) === 1 ? nodes : [...nodes, ...added])),
      find: () => Promise.resolve({ metadata: { annotations: { 'ferry.migration/base': sha256(text) } }, data }),
    } as unknown as KubernetesApi;
    let state: 'absent' | 'exited' = 'absent';
    const jobs: Jobs = {
      start: () => {
        state = 'exited';
        change(given.files);
        return Promise.resolve('started');
      },
      state: () => Promise.resolve({ state, exitCode: 0 }),
      read: (_connection, _job, stream, offset) =>
        Promise.resolve(Buffer.from(stream === 'stdout' && offset === 0 ? 'Apply conf success\n' : '')),
      stop: () => Promise.resolve(),
      clear: () => Promise.resolve(),
    };
    const connection = connectionOf(given, []);
    const hosts = { connect: () => Promise.resolve(connection), close: () => Promise.resolve() };
    const { applyConfig } = createProtonCliActivities({ api, hosts, jobs, deadlines: defaultDeadlines });
    const control = plan.hosts.find(({ name }) => name === 'node-1');
    if (control === undefined) throw new Error('the plan has no node-1');
    return (await applyConfig({ migration, stage: 'add-nodes', control, plan, digest: sha256(text) })).proof;
  }

  it.each<[string, string | undefined, (files: Map<string, string>) => void]>([
    ['is what it was', fits, () => undefined],
    ['was written by the tool, there was none before', undefined, (files) => files.set(namespaceFile, fits)],
  ])('%s: the apply is proved', async (_what, before, change) => {
    expect(await apply(before, change)).toMatch(/^exit 0, success marker, .* holds the applied hosts; Nodes are/);
  });

  it.each<[string, (files: Map<string, string>) => void]>([
    ['is another one', (files) => files.set(namespaceFile, 'resource_namespace: resource\n')],
    ['is gone', (files) => files.delete(namespaceFile)],
  ])('%s: a person is asked before the next apply looks elsewhere', async (_what, change) => {
    await expect(apply(fits, change)).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining('proton-cli changed its namespace file during the apply') as string,
      details: [
        {
          cause: expect.stringContaining('the next apply would look for the configuration elsewhere') as string,
          untouched: 'the applied configuration',
          next: 'put the file back from the backup on the control host, then: ferry resume',
        },
      ],
    });
  });
});
