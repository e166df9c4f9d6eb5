import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import type { KubernetesApi } from '../../../src/activities/kubernetes-api.ts';
import type { PlanOptions } from '../../../src/client/plan.ts';
import { makePlan } from '../../../src/client/plan.ts';
import type { Platform } from '../../../src/client/platform.ts';
import { render } from '../../../src/client/output.ts';
import type { HostAddress, HostConnection, RunResult } from '../../../src/hosts/contract.ts';
import { componentTable } from '../../../src/plan/components.ts';
import { parsePlan } from '../../../src/plan/validate.ts';
import { recordedConfig, sampleComponents } from '../plan/samples.ts';

/* `ferry plan` from the cluster's answers to the plan, with an API and machines that answer from memory. */

const mapping = ['1=4', '2=5', '3=6'].map((pair) => {
  const [from, to] = pair.split('=');
  return { from: `node-${from}`, to: `node-${to}` };
});
const addresses = Object.fromEntries([1, 2, 3, 4, 5, 6].map((number) => [`node-${number}`, `10.0.0.${number + 10}`]));
const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGludmVudGVkIGhvc3Qga2V5IG9mIGEgc2FtcGxl';
const hunted = 'hunter2-of-the-record';

const before = process.env['FERRY_KNOWN_HOSTS'];
beforeAll(() => {
  const file = join(mkdtempSync(join(tmpdir(), 'ferry-plan-')), 'known_hosts');
  writeFileSync(
    file,
    Object.values(addresses)
      .map((address) => `${address} ${key}\n`)
      .join(''),
  );
  process.env['FERRY_KNOWN_HOSTS'] = file;
});
afterAll(() => {
  if (before === undefined) delete process.env['FERRY_KNOWN_HOSTS'];
  else process.env['FERRY_KNOWN_HOSTS'] = before;
});

function secret(values: Record<string, string>): object {
  const data = Object.entries(values).map(([name, value]) => [name, Buffer.from(value).toString('base64')]);
  return { metadata: { name: 'secret' }, data: Object.fromEntries(data) as object };
}

function platform(packages = ['/opt/proton-package']): Platform {
  const components = sampleComponents();
  const records = components.flatMap(({ kind, dataPath, replicas }) => {
    const { persist } = componentTable[kind];
    const params = { hosts: replicas.map(({ from }) => from), data_path: dataPath, admin_passwd: hunted };
    return persist === undefined ? [] : [[persist.key, stringify({ version: '1.2.3', params })]];
  });
  const volumes = new Map<string, object>(
    components.flatMap(({ dataPath, replicas }) =>
      replicas.map(({ from, pv }) => {
        const matchExpressions = [{ key: 'kubernetes.io/hostname', values: [from] }];
        const nodeAffinity = { required: { nodeSelectorTerms: [{ matchExpressions }] } };
        const spec = { persistentVolumeReclaimPolicy: 'Retain', local: { path: dataPath }, nodeAffinity };
        return [`/api/v1/persistentvolumes/${pv}`, { metadata: { name: pv }, spec }] as const;
      }),
    ),
  );
  const find = (path: string): Promise<unknown> => {
    if (path.endsWith('/secrets/proton-cli-config')) {
      return Promise.resolve(secret({ ClusterConfiguration: recordedConfig('base') }));
    }
    if (path.endsWith('-components'))
      return Promise.resolve(secret(Object.fromEntries(records) as Record<string, string>));
    return Promise.resolve(volumes.get(path));
  };
  const list = (path: string): Promise<unknown[]> => {
    if (path.endsWith('/deployments')) return Promise.resolve([{ metadata: { name: 'web', namespace: 'anyshare' } }]);
    if (path !== '/api/v1/nodes') return Promise.resolve([]);
    return Promise.resolve(
      [1, 2, 3].map((number) => ({
        metadata: { name: `node-${number}`, labels: { 'node-role.kubernetes.io/control-plane': '' } },
        status: { nodeInfo: { containerRuntimeVersion: 'containerd://2.0.0' } },
      })),
    );
  };
  const connection = (host: HostAddress): HostConnection =>
    ({
      host,
      run: (argv: readonly string[]): Promise<RunResult> => {
        const stdout = argv.includes('/opt/proton-package') ? packages.map((line) => `${line}\n`).join('') : '';
        return Promise.resolve({ code: 0, signal: null, stdout, stderr: '' });
      },
      readFile: () => Promise.resolve(Buffer.from('ProtonDeps-3.8.0\n')),
    }) as unknown as HostConnection;
  return {
    api: {
      server: 'https://10.0.0.11:6443',
      find,
      list,
      request: () => Promise.resolve({ gitVersion: 'v1.34.1' }),
    } as unknown as KubernetesApi,
    hosts: { connect: (host) => Promise.resolve(connection(host)), close: () => Promise.resolve() },
    kubeConfig: new KubeConfig(),
  };
}

function options(change: Partial<PlanOptions> = {}): PlanOptions {
  return {
    quiet: true,
    cluster: 'Site A',
    author: 'ops',
    hostAddress: addresses,
    containerRegistry: 're-push',
    removeOldNodes: true,
    measure: false,
    ...change,
  };
}

describe('makePlan', () => {
  it('makes a valid plan from the live platform, the same in YAML and JSON', async () => {
    const { plan } = await makePlan(
      platform(),
      options({ approver: ['li'], budget: 1800, notify: ['ops', 'oncall'] }),
      mapping,
    );
    const yaml = render(plan, 'yaml', () => '');
    const json = render(plan, 'json', () => '');

    expect(plan).toMatchObject({
      cluster: 'site-a',
      author: 'ops',
      downtime: { budgetSeconds: 1800 },
      notify: ['ops', 'oncall'],
      applications: { namespaces: ['anyshare'] },
      platform: { controlHost: 'node-1', packageDirectory: '/opt/proton-package' },
    });
    expect(plan.gates['remove-nodes'].approvers).toEqual(['li']);
    expect(parse(yaml)).toEqual(JSON.parse(json));
    expect(parsePlan(yaml, 'yaml')).toEqual({ ok: true, plan });
    expect(parsePlan(json, 'json')).toEqual({ ok: true, plan });
  });

  it('writes down what else the command line decides', async () => {
    const decided = { selfApproval: true, restart: 'reboot' as const, prewarm: false, bringRsync: '/opt/bin/rsync' };
    const { plan } = await makePlan(platform(), options(decided), mapping);
    const { plan: lent } = await makePlan(platform(), options({ bringRsync: true }), mapping);

    expect(plan.gates['open-downtime'].selfApproval).toBe(true);
    expect(plan.hostServices.restart).toBe('reboot');
    expect(plan.images.prewarm).toBe(false);
    expect(plan.bringRsync).toEqual({ program: '/opt/bin/rsync' });
    expect(lent).toMatchObject({ bringRsync: {}, images: { prewarm: true }, hostServices: { restart: 'start' } });
    await expect(makePlan(platform(), options({ bringRsync: 'rsync' }), mapping)).rejects.toThrow(
      /--bring-rsync rsync: must be an absolute path/,
    );
  });

  it('holds no secret', async () => {
    const { plan } = await makePlan(platform(), options(), mapping);

    expect(JSON.stringify(plan)).not.toMatch(/hunter2|passw/i);
  });

  it('takes the data of the registry along when there is nobody to ask, and says so', async () => {
    const { containerRegistry: _, ...rest } = options();
    const { plan, notes } = await makePlan(platform(), rest, mapping);

    expect(plan.containerRegistry).toBe('copy-data');
    expect(plan.transfers.some(({ subject }) => subject.type === 'host-service')).toBe(true);
    expect(notes.join('\n')).toContain('--container-registry re-push');
  });

  it('names the option that answers a question when there is nobody to ask', async () => {
    const made = makePlan(platform([]), options(), mapping);

    await expect(made).rejects.toThrow(/extracted dependency package.*Say it: --package DIR/s);
    await expect(made).rejects.toMatchObject({ reason: 'usage' });
  });

  it('tells everything that stands against it at once', async () => {
    const wrong = [{ from: 'node-9', to: 'node-4' }, { from: 'node-1', to: 'node-4' }, ...mapping.slice(1)];

    await expect(makePlan(platform(), options(), wrong)).rejects.toThrow(
      /node-4 would replace two nodes[\s\S]*node-9 is no node of the platform/,
    );
  });

  it('explains a machine whose host key nobody vouched for', async () => {
    const strange = { ...addresses, 'node-4': '127.0.0.1' };

    await expect(makePlan(platform(), options({ hostAddress: strange, sshPort: 1 }), mapping)).rejects.toThrow(
      /Compare each with the console[\s\S]*node-4 \(127\.0\.0\.1\)[\s\S]*ssh-keyscan -p 1 127\.0\.0\.1 2>\/dev\/null \| ssh-keygen -lf -/,
    );
  });
});
