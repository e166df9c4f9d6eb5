import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { haproxyDocument, renderHaproxy } from '../../../lab/stand-ins/slb/haproxy.ts';
import { parseConfiguration, serversOf, withServers } from '../../../src/activities/balancers.ts';
import {
  adaptKubeadmConfig,
  type ControlDeps,
  giveJoinFile,
  namespaceFileOf,
  newKubeadmConfig,
} from '../../../src/activities/control-host.ts';
import { defaultDeadlines } from '../../../src/activities/deadlines.ts';
import type { KubernetesApi } from '../../../src/activities/kubernetes-api.ts';
import { linesNaming } from '../../../src/activities/masters.ts';
import { selects } from '../../../src/activities/node-objects.ts';
import type { HostConnection } from '../../../src/hosts/contract.ts';
import type { Host } from '../../../src/plan/plan.ts';

describe('the document of a load balancer', () => {
  const masters = ['11', '12', '13'].map((number) => ({ name: `old${number}`, address: `10.0.0.${number}` }));
  const registry = {
    hosts: masters.slice(0, 2),
    ports: { chartmuseum: 5001, registry: 5000, rpm: 5003 },
    balanced: { chartmuseum: 15_001, registry: 15_000, rpm: 15_003 },
  };
  const document = haproxyDocument({ masters, port: 8443, registry });

  it.each([
    ['with a registry', document],
    ['without one', haproxyDocument({ masters, port: 8443 })],
  ])('is read back from what its manager wrote, %s', (_what, original) => {
    const written = renderHaproxy(original);

    // Lists of one line and of none are written alike; written again, it is the same to the letter.
    const read = parseConfiguration(written);
    expect(renderHaproxy(read as never)).toBe(written);
    expect(serversOf(read)).toEqual(['old11 10.0.0.11:6443', 'old12 10.0.0.12:6443', 'old13 10.0.0.13:6443']);
  });

  it('gets other API servers, in their order, and stays the same else', () => {
    const kept = structuredClone(document);
    const next = withServers(document as never, [
      { name: 'old12', address: '10.0.0.12' },
      { name: 'new1', address: 'fd00::21' },
    ]);

    expect(serversOf(next)).toEqual(['old12 10.0.0.12:6443', 'new1 [fd00::21]:6443']);
    const { cs, ...others } = next.conf.backend;
    const { cs: before, ...othersBefore } = kept.conf.backend;
    expect(others).toEqual(othersBefore);
    expect({ ...cs, server: [] }).toEqual({ ...before, server: [] });
    expect({ ...next.conf, backend: {} }).toEqual({ ...kept.conf, backend: {} });
    expect(document).toEqual(kept);
  });

  it('keeps what somebody added to the line of a server', () => {
    const own = structuredClone(document) as never as ReturnType<typeof parseConfiguration>;
    const backend = own.conf.backend['cs'] ?? {};
    backend['server'] = ['old11 10.0.0.11:6443 check weight 50', 'old12 10.0.0.12:6443 check'];

    const next = withServers(own, masters.slice(0, 1));

    expect(next.conf.backend['cs']?.['server']).toEqual(['old11 10.0.0.11:6443 check weight 50']);
  });

  it('is not guessed when it has no frontend of the API', () => {
    const strange = parseConfiguration(
      'frontend web\n  bind :80\n  default_backend web\nbackend web\n  server a b:1\n',
    );

    expect(serversOf(strange)).toBeUndefined();
    expect(() => withServers(strange, masters)).toThrow('no frontend cs');
  });

  it.each(['  bind :80\n', ''])('is refused when it is no configuration: %j', (text) => {
    const read = (): unknown => serversOf(parseConfiguration(text));
    if (text === '') expect(read()).toBeUndefined();
    else expect(read).toThrow('before any section');
  });
});

const kubeadm = `# made by the first install
apiVersion: kubeadm.k8s.io/v1beta3
kind: InitConfiguration
certificateKey: secret
localAPIEndpoint:
  advertiseAddress: 10.0.0.11
  bindPort: 6443
nodeRegistration:
  criSocket: /run/containerd/containerd.sock
  name: old1
---
apiVersion: kubeadm.k8s.io/v1beta3
kind: ClusterConfiguration
apiServer:
  certSANs: [proton-cs.lb.aishu.cn, 10.0.0.11] # the first master
controlPlaneEndpoint: proton-cs.lb.aishu.cn:8443
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
maxPods: 256
`;
const to = { name: 'new1', address: '10.0.0.21' };

describe("kubeadm's configuration on another host", () => {
  it('names that host, and is the same else', () => {
    expect(adaptKubeadmConfig(kubeadm, to)).toBe(
      kubeadm.replace('name: old1', 'name: new1').replace('advertiseAddress: 10.0.0.11', 'advertiseAddress: 10.0.0.21'),
    );
  });

  it('is adapted again to the same', () => {
    const once = adaptKubeadmConfig(kubeadm, to) ?? '';

    expect(adaptKubeadmConfig(once, to)).toBe(once);
  });

  it.each([
    ['nothing', ''],
    ['no InitConfiguration', kubeadm.replace('InitConfiguration', 'JoinConfiguration')],
    ['no ClusterConfiguration', kubeadm.split('---')[0] ?? ''],
    ['no YAML', 'a: [b'],
  ])('is not taken from %s', (_what, text) => {
    expect(adaptKubeadmConfig(text, to)).toBeUndefined();
  });

  it('is made from what the cluster keeps', () => {
    const cluster = kubeadm.split('---\n')[1] ?? '';
    const made = newKubeadmConfig(cluster, to, 'unix:///run/containerd/containerd.sock');

    expect(parseAllDocuments(made).map((document) => document.toJS() as unknown)).toEqual([
      {
        apiVersion: 'kubeadm.k8s.io/v1beta3',
        kind: 'InitConfiguration',
        localAPIEndpoint: { advertiseAddress: '10.0.0.21' },
        nodeRegistration: { name: 'new1', criSocket: 'unix:///run/containerd/containerd.sock' },
      },
      parse(cluster),
    ]);
    expect(() => newKubeadmConfig('kind: Other', to, '')).toThrow('no ClusterConfiguration');
  });
});

it.each([
  ['proton', 'resource', undefined],
  ['own', 'resource', 'resource_namespace: resource\nproton_cli_config_namespace: own\n'],
])('the namespace file of %s and %s is %j', (configNamespace, resourceNamespace, text) => {
  const file = namespaceFileOf({ configNamespace, resourceNamespace } as never);

  expect(file?.toString()).toBe(text);
});

it('lines that name removed machines are found by name and by address, and no others', () => {
  const text = `127.0.0.1 localhost
10.0.0.11 old1
10.0.0.12  gone.example
10.0.0.110 old10 # next to old1
  10.0.0.9 a old1   alias
`;
  const removed = [
    { name: 'old1', address: '10.0.0.11' },
    { name: 'old2', address: '10.0.0.12' },
  ];

  expect(linesNaming(text, removed)).toEqual(['10.0.0.11 old1', '10.0.0.12  gone.example', '10.0.0.9 a old1   alias']);
});

/** Machines by the files that they have, and a cluster that keeps kubeadm's configuration. */
function controlDeps(files: Map<string, string>): ControlDeps {
  const connect = (host: Host): Promise<HostConnection> =>
    Promise.resolve({
      host,
      run: () => Promise.resolve({ code: 0, signal: null, stdout: '', stderr: '' }),
      readFile: (name: string) => {
        const content = files.get(`${host.name} ${name}`);
        return Promise.resolve(content === undefined ? undefined : Buffer.from(content));
      },
      writeFile: (name: string, content: Buffer) => {
        files.set(`${host.name} ${name}`, content.toString('utf8'));
        return Promise.resolve();
      },
    } as unknown as HostConnection);
  const data = { ClusterConfiguration: kubeadm.split('---\n')[1] ?? '' };
  return {
    hosts: { connect, close: () => Promise.resolve() },
    api: { find: () => Promise.resolve({ metadata: { name: 'kubeadm-config' }, data }) } as unknown as KubernetesApi,
    deadlines: defaultDeadlines,
  };
}

describe('the first master', () => {
  const file = '/tmp/kubeadm-config.yaml';
  const machine = (name: string, address: string): Host => ({
    ...{ name, address, port: 22, user: 'root', hostKeys: [], role: 'old' as const },
  });
  const [control, first] = [machine('new1', '10.0.0.21'), machine('old2', '10.0.0.12')];

  it('gets the file of the control host under its own name', async () => {
    const files = new Map([[`new1 ${file}`, kubeadm]]);

    const given = await giveJoinFile(controlDeps(files), { control, to: first });
    const again = await giveJoinFile(controlDeps(files), { control, to: first });

    expect([given.changed, again.changed]).toEqual([true, false]);
    expect(files.get(`old2 ${file}`)).toBe(adaptKubeadmConfig(kubeadm, first));
    expect(files.get(`new1 ${file}`)).toBe(kubeadm);
  });

  it('keeps one that it has', async () => {
    const files = new Map([
      [`new1 ${file}`, kubeadm],
      [`old2 ${file}`, 'its own'],
    ]);

    const { changed } = await giveJoinFile(controlDeps(files), { control, to: first });

    expect(changed).toBe(false);
    expect(files.get(`old2 ${file}`)).toBe('its own');
  });

  it.each([
    ['another machine', control],
    ['itself', first],
  ])('gets one from the cluster when the control host, %s, has none', async (_which, host) => {
    const files = new Map<string, string>();

    await giveJoinFile(controlDeps(files), { control: host, to: first });

    const [init, cluster] = parseAllDocuments(files.get(`old2 ${file}`) ?? '').map(
      (document) => document.toJS() as object,
    );
    expect(init).toMatchObject({
      kind: 'InitConfiguration',
      localAPIEndpoint: { advertiseAddress: '10.0.0.12' },
      nodeRegistration: { name: 'old2' },
    });
    expect(cluster).toMatchObject({ kind: 'ClusterConfiguration', controlPlaneEndpoint: 'proton-cs.lb.aishu.cn:8443' });
  });
});

describe('a selector', () => {
  const labels = { app: 'redis', index: '0' };

  it.each([
    [{ matchLabels: { app: 'redis' } }, true],
    [{ matchLabels: { app: 'redis', index: '1' } }, false],
    [{}, true],
    [null, false],
    [undefined, false],
    [{ matchExpressions: [{ key: 'app', operator: 'In', values: ['redis', 'kafka'] }] }, true],
    [{ matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['redis'] }] }, false],
    [{ matchExpressions: [{ key: 'none', operator: 'NotIn', values: ['x'] }] }, true],
    [{ matchExpressions: [{ key: 'index', operator: 'Exists' }] }, true],
    [{ matchExpressions: [{ key: 'index', operator: 'DoesNotExist' }] }, false],
    [{ matchExpressions: [{ key: 'index', operator: 'Unknown' }] }, false],
  ])('%j takes them: %s', (selector, taken) => {
    expect(selects(selector, labels)).toBe(taken);
  });
});
