import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ServerReport } from '../../../src/activities/api-roads.ts';
import type { CheckResult, EtcdMember } from '../../../src/activities/contract.ts';
import type { KubernetesApi } from '../../../src/activities/kubernetes-api.ts';
import { clusterChecks } from '../../../src/activities/preflight-cluster.ts';
import { hostChecks } from '../../../src/activities/preflight-hosts.ts';
import { masterChecks } from '../../../src/activities/preflight-masters.ts';
import { type Door, openWorld, runCheck } from '../../../src/activities/preflight-world.ts';
import { checksOf } from '../../../src/activities/preflight.ts';
import type { HostConnection, Hosts, RunResult } from '../../../src/hosts/contract.ts';
import { HostUnreachable } from '../../../src/hosts/errors.ts';
import type { Plan, PlanInput } from '../../../src/plan/plan.ts';
import { recordedConfig, samplePlan } from '../plan/samples.ts';
import { Authority } from './api-servers.ts';

/** Three stacked masters that are exchanged for three new ones. */
function stackedPlan(change: (plan: PlanInput) => void = () => undefined): Plan {
  return samplePlan((plan) => {
    plan.controlPlane = { etcd: 'stacked', masters: ['node-1', 'node-2', 'node-3'] };
    plan.transfers.push({
      id: 'host-node-1-package',
      subject: { type: 'host-service', service: 'package' },
      source: { host: 'node-1', path: '/opt/proton-package' },
      destination: { host: 'node-4', path: '/opt/proton-package' },
    });
    change(plan);
  });
}

interface Platform {
  plan: Plan;
  config: string;
  members: EtcdMember[];
  servers: ServerReport[];
  now: number;
  /** How the API's port answers from the worker, by address; refused where nothing is said. */
  fromHere: Record<string, Door>;
  /** `<host> <argv…>`: the first that fits answers. */
  commands: [RegExp, Partial<RunResult> | Error | ((argv: readonly string[]) => Partial<RunResult>)][];
}

let authority: Authority;
/** Ends in a year; and when it ends. */
let certificate: string;
let ends: number;

beforeAll(() => {
  authority = new Authority();
  certificate = authority.issue('client', 'DNS:x', 365).cert;
  ends = Date.parse(new X509Certificate(certificate).validTo);
});
afterAll(() => authority.remove());

const day = 86_400_000;
const member = (index: number, change: Partial<EtcdMember> = {}): EtcdMember => ({
  id: `a${index}`,
  name: `node-${index}`,
  learner: false,
  leader: index === 2,
  healthy: true,
  applied: 100,
  ...change,
});

function healthyPlatform(): Platform {
  const doors = (word: string) => (argv: readonly string[]) => ({
    stdout: argv
      .slice(4)
      .map((end) => `${word} ${end}\n`)
      .join(''),
  });
  return {
    plan: stackedPlan(),
    config: recordedConfig('base'),
    members: [member(1), member(2), member(3)],
    servers: ['11', '12', '13'].map((last) => ({ server: `https://10.0.0.${last}:6443`, origin: 'learned' })),
    now: ends - 200 * day,
    fromHere: {},
    commands: [
      [/dev\/tcp.*:9202/, doors('open')],
      [/node-[456] .*dev\/tcp/, doors('open')],
      [/node-[123] .*dev\/tcp/, doors('refused')],
      [
        / sh -s -- \/root\/\.kube\/config$/,
        { stdout: `file /etc/kubernetes/pki/apiserver.crt\n${certificate}file /etc/kubernetes/admin.conf\n` },
      ],
      [/ sh -s --$/, { stdout: '' }],
      [/df -B1/, { stdout: '500000000000 /sysvol\n 1000000 2000000\n' }],
      [/ stat -c/, { stdout: '80000000\n' }],
    ],
  };
}

function hostsOf(platform: Platform): Hosts {
  const answer = (line: string, argv: readonly string[]): RunResult => {
    const found = platform.commands.find(([pattern]) => pattern.test(line))?.[1] ?? {};
    if (found instanceof Error) throw found;
    const result = typeof found === 'function' ? found(argv) : found;
    return { code: 0, signal: null, stdout: '', stderr: '', ...result };
  };
  return {
    connect: (host) =>
      Promise.resolve({
        host,
        run: (argv: readonly string[]) => Promise.resolve().then(() => answer(`${host.name} ${argv.join(' ')}`, argv)),
      } as unknown as HostConnection),
    close: () => Promise.resolve(),
  };
}

async function check(change: (platform: Platform) => void = () => undefined): Promise<CheckResult[]> {
  const platform = healthyPlatform();
  change(platform);
  const data = { ClusterConfiguration: Buffer.from(platform.config).toString('base64') };
  const api = {
    server: 'https://10.0.0.11:6443',
    survey: () => Promise.resolve(platform.servers),
    request: () => Promise.resolve({}),
    find: (path: string) =>
      Promise.resolve(
        path.endsWith('/proton-cli-config')
          ? { metadata: { name: 'config' }, data }
          : path.endsWith('/persist-component-manage-components')
            ? { metadata: { name: 'records' }, data: {} }
            : undefined,
      ),
    list: (path: string) =>
      Promise.resolve(
        path === '/api/v1/nodes'
          ? [1, 2, 3].map((index) => ({
              metadata: { name: `node-${index}`, labels: { 'node-role.kubernetes.io/control-plane': '' } },
            }))
          : [],
      ),
  } as unknown as KubernetesApi;
  const world = openWorld(platform.plan, {
    api,
    hosts: hostsOf(platform),
    time: { now: () => platform.now, elapsed: () => platform.now, pause: () => Promise.resolve() },
    dial: (address, port) => {
      expect(port).toBe(6443);
      return Promise.resolve(platform.fromHere[address] ?? 'refused');
    },
    listMembers: ({ via }) => {
      expect(via.map(({ name }) => name)).toEqual(platform.plan.controlPlane?.masters);
      return Promise.resolve({ members: platform.members, askedOf: 'node-1' });
    },
  });
  const results: CheckResult[] = [];
  const others = [...hostChecks, ...clusterChecks].filter(({ name }) => name === 'ports' || name === 'name-order');
  for (const row of [...masterChecks(platform.plan), ...others]) results.push(await runCheck(row, world));
  return results;
}

const command =
  (pattern: RegExp, result: Platform['commands'][number][1]) =>
  (platform: Platform): void => {
    platform.commands.unshift([pattern, result]);
  };

const doors = (...lines: string[]) => ({ stdout: lines.map((line) => `${line}\n`).join('') });

describe('preflight of a stacked control plane', () => {
  it('has nothing against one that is well', async () => {
    const results = await check();

    expect(results.filter(({ state }) => state !== 'ok')).toEqual([]);
    expect(results.map(({ name }) => name)).toEqual([
      'control-plane',
      'quorum',
      'etcd-members',
      'api-servers',
      'master-ports',
      'free-ports',
      'certificates',
      'etcd-room',
      'package-moves',
      'ports',
      'name-order',
    ]);
    expect(results[0]?.cause).toBe('etcd and API server on node-1, node-2, node-3');
    expect(results[1]?.cause).toBe(
      '3 → 4 → 5 → 6 → 5 → 4 → 3 members, quorum 2 → 3 → 3 → 4 → 3 → 3 → 2; at least 1 may be lost at every moment',
    );
    expect(results.at(-1)?.cause).toBe(
      "node-1 is the first control-plane node by name and leaves, which the platform's tool cannot do; nodes leave outside of apply, one at a time",
    );
    expect(results.at(-2)?.cause).toBe('9202 and 9547 open on 6 machines, asked from node-1 and node-4');
    expect(results[2]?.cause).toMatch(/node-1, node-2, node-3: all started, voting and healthy; node-2 leads/);
  });

  it('is part of all checks only where there is one', () => {
    const names = (plan: Plan): string[] => checksOf(plan).map(({ name }) => name);

    expect(names(stackedPlan())).toEqual(expect.arrayContaining(['etcd-members', 'quorum', 'certificates']));
    expect(new Set(names(stackedPlan())).size).toBe(names(stackedPlan()).length);
    expect(names(samplePlan())).not.toEqual(expect.arrayContaining(['etcd-members']));
  });

  it.each<[string, (platform: Platform) => void, string, 'failed' | 'warning' | 'ok', RegExp]>([
    [
      'masters that the plan does not know',
      (p) => (p.plan = samplePlan()),
      'control-plane',
      'failed',
      /^node-1, node-2, node-3: etcd and API server run there, which the plan does not know$/,
    ],
    [
      'a master of the plan that is none',
      command(/node-2 .*test -f/, { code: 1 }),
      'control-plane',
      'failed',
      /^node-2: a master of the plan, but no etcd and API server run there$/,
    ],
    [
      'masters that do not answer, which proves nothing',
      command(/node-3 .*test -f/, new HostUnreachable('node-3', 'no route')),
      'control-plane',
      'failed',
      /^node-3: node-3 cannot be reached: no route$/,
    ],
    [
      'a control plane elsewhere',
      (p) => {
        p.plan = samplePlan();
        command(/.*test -f/, { code: 1 })(p);
      },
      'control-plane',
      'ok',
      /^no etcd and no API server on the nodes of the plan$/,
    ],
    [
      'two masters that become one in between',
      (p) =>
        (p.plan = stackedPlan((plan) => {
          plan.controlPlane!.masters = ['node-1', 'node-2'];
          plan.nodes.add.forEach((node) => (node.controlPlane = false));
          plan.nodes.remove = ['node-2'];
        })),
      'quorum',
      'failed',
      /start: 2 members, all 2 must answer: the loss of one stops the API; node-2 leaves: 1 member, all 1 must answer/,
    ],
    [
      'the same, accepted',
      (p) =>
        (p.plan = stackedPlan((plan) => {
          plan.controlPlane = { etcd: 'stacked', masters: ['node-1'], withoutSpare: 'accept' };
        })),
      'quorum',
      'warning',
      /start: 1 member, all 1 must answer; the plan accepts it/,
    ],
    [
      'reboots that leave no member to spare',
      (p) =>
        (p.plan = stackedPlan((plan) => {
          plan.hostServices = { hosts: ['node-1'], units: ['proton-cr'], restart: 'reboot' };
          plan.nodes.add = [];
          plan.nodes.remove = [];
          plan.transfers.pop();
        })),
      'quorum',
      'failed',
      /node-1 reboots: all others of 3 members must answer, quorum 2: the loss of one stops the API/,
    ],
    ['a member that is missing', (p) => p.members.pop(), 'etcd-members', 'failed', /^node-3 is no member$/],
    [
      'a member too many',
      (p) => p.members.push(member(7)),
      'etcd-members',
      'failed',
      /^node-7 is a member, but no master of the plan$/,
    ],
    [
      'a learner',
      (p) => (p.members[0] = member(1, { learner: true })),
      'etcd-members',
      'failed',
      /^node-1 has no vote/,
    ],
    [
      'a member that never started',
      (p) => p.members.push(member(9, { name: '', healthy: false })),
      'etcd-members',
      'failed',
      /^member a9 was added and has never started$/,
    ],
    [
      'a sick member',
      (p) => (p.members[2] = member(3, { healthy: false })),
      'etcd-members',
      'failed',
      /^node-3 is not healthy$/,
    ],
    ['no leader', (p) => (p.members[1] = member(2, { leader: false })), 'etcd-members', 'failed', /^no member leads$/],
    [
      'one way to the API only',
      (p) => p.servers.slice(1).forEach((server) => (server.trouble = 'connect ETIMEDOUT')),
      'api-servers',
      'warning',
      /through https:\/\/10\.0\.0\.11:6443 alone .*; https:\/\/10\.0\.0\.12:6443 cannot be used: connect ETIMEDOUT/,
    ],
    [
      'one way to the API only, by a master that leaves, and none to those that come',
      (p) => {
        p.servers.slice(1).forEach((server) => (server.trouble = 'connect ETIMEDOUT'));
        p.fromHere = { '10.0.0.14': 'silent', '10.0.0.15': 'silent', '10.0.0.16': 'silent' };
      },
      'api-servers',
      'failed',
      /^every API server that answers leaves \(https:\/\/10\.0\.0\.11:6443\), and no new master can be reached from here/,
    ],
    [
      'the same where one of those that come can be reached',
      (p) => {
        p.servers.slice(1).forEach((server) => (server.trouble = 'connect ETIMEDOUT'));
        p.fromHere = { '10.0.0.14': 'silent', '10.0.0.16': 'silent' };
      },
      'api-servers',
      'warning',
      /alone and is lost .*; port 6443 of node-4 swallows what is sent from here.*; port 6443 of node-6 swallows/,
    ],
    [
      'no way to those that come, while a load balancer of its own leads to the API',
      (p) => {
        p.servers.push({ server: 'https://10.0.0.99:6443', origin: 'learned' });
        p.fromHere = { '10.0.0.14': 'silent', '10.0.0.15': 'silent', '10.0.0.16': 'silent' };
      },
      'api-servers',
      'warning',
      /^port 6443 of node-4 swallows what is sent from here/,
    ],
    [
      'firewalls that the platform leaves alone',
      (p) => (p.config = p.config.replace('mode: firewalld', 'mode: usermanaged')),
      'master-ports',
      'warning',
      /^firewall\.mode is usermanaged: nothing keeps a master out that died before its turn and boots again/,
    ],
    [
      'firewalls that the platform leaves alone, where no master leaves',
      (p) => {
        p.config = p.config.replace('mode: firewalld', 'mode: usermanaged');
        p.plan = stackedPlan((plan) => (plan.nodes.remove = []));
      },
      'master-ports',
      'ok',
      /^27 of 27 ports/,
    ],
    [
      'the port of the API alone closed',
      command(/node-6 .*dev\/tcp/, (argv) =>
        doors(...argv.slice(4).map((end) => `${end === '10.0.0.13:6443' ? 'refused' : 'open'} ${end}`)),
      ),
      'master-ports',
      'failed',
      /^nothing listens on port 6443 of node-3 \(asked from node-6\)$/,
    ],
    [
      'a new machine that swallows what another new one sends',
      (p) => {
        command(/node-5 .*dev\/tcp/, (argv) =>
          doors(...argv.slice(4).map((end) => `${end === '10.0.0.16:2380' ? 'silent' : 'open'} ${end}`)),
        )(p);
        command(/firewall-cmd/, { code: 127 })(p);
      },
      'master-ports',
      'warning',
      /^port 2380 of node-6 swallows what node-5 sends, as packet filters do$/,
    ],
    [
      "the same behind the platform's own firewall, which does not know new nodes yet",
      (p) => {
        command(/node-5 .*dev\/tcp/, (argv) =>
          doors(...argv.slice(4).map((end) => `${end === '10.0.0.16:2380' ? 'silent' : 'open'} ${end}`)),
        )(p);
        command(/node-6 firewall-cmd/, { stdout: '10.0.0.11\n' })(p);
      },
      'master-ports',
      'ok',
      /^27 of 27 ports/,
    ],
    [
      'an agent that the next control host does not reach',
      (p) => {
        command(/node-4 .*dev\/tcp.*:9202/, (argv) =>
          doors(...argv.slice(4).map((end) => `${end === '10.0.0.16:9547' ? 'silent' : 'open'} ${end}`)),
        )(p);
        command(/firewall-cmd/, { code: 127 })(p);
      },
      'ports',
      'failed',
      /^SLB manager on node-6 does not answer on port 9547 from node-4$/,
    ],
    [
      'nodes that the plan does not know, which only the control host can be asked about',
      (p) => {
        p.config = p.config.replace(/^nodes:\n/m, 'nodes:\n- ip4: 10.0.0.17\n  name: worker-7\n');
        command(/node-4 .*dev\/tcp.*:9202/, (argv) =>
          doors(...argv.slice(4).map((end) => `${end.startsWith('10.0.0.17:') ? 'silent' : 'open'} ${end}`)),
        )(p);
      },
      'ports',
      'ok',
      /^9202 and 9547 open on 7 machines, asked from node-1 and node-4$/,
    ],
    [
      "agents of machines that stay, behind the platform's own firewall, which does not know the next control host yet",
      (p) => {
        p.plan = stackedPlan((plan) => (plan.nodes.remove = ['node-1']));
        command(/node-4 .*dev\/tcp.*:9202/, (argv) =>
          doors(...argv.slice(4).map((end) => `${/10\.0\.0\.1[23]:/.test(end) ? 'silent' : 'open'} ${end}`)),
        )(p);
        command(/node-[23] firewall-cmd/, { stdout: '10.0.0.11\n10.0.0.12\n10.0.0.13\n' })(p);
      },
      'ports',
      'ok',
      /asked from node-1 and node-4$/,
    ],
    [
      'a closed port',
      command(/node-4 .*dev\/tcp/, (argv) =>
        doors(...argv.slice(4).map((end) => `${end === '10.0.0.12:2380' ? 'refused' : 'open'} ${end}`)),
      ),
      'master-ports',
      'failed',
      /^nothing listens on port 2380 of node-2 \(asked from node-4\)$/,
    ],
    [
      'a filter between the machines',
      (p) => {
        command(/node-4 .*dev\/tcp/, (argv) => doors(...argv.slice(4).map((end) => `silent ${end}`)))(p);
        command(/firewall-cmd/, { code: 127 })(p);
      },
      'master-ports',
      'failed',
      /^port 2379 of node-1 does not answer from node-4;/,
    ],
    [
      "a firewall of the platform's own that knows the new node and keeps it out",
      (p) => {
        command(/node-4 .*dev\/tcp/, (argv) => doors(...argv.slice(4).map((end) => `silent ${end}`)))(p);
        command(/firewall-cmd/, { stdout: '10.0.0.11\n10.0.0.14\n' })(p);
      },
      'master-ports',
      'failed',
      /^port 2379 of node-1 does not answer from node-4;/,
    ],
    [
      "a firewall of the platform's own that does not know new nodes yet",
      (p) => {
        command(/node-[456] .*dev\/tcp/, (argv) => doors(...argv.slice(4).map((end) => `silent ${end}`)))(p);
        command(/firewall-cmd/, { stdout: '10.0.0.11\n10.0.0.12\n10.0.0.13\n' })(p);
      },
      'master-ports',
      'ok',
      /^0 of 27 ports .*; the others are behind the platform's own firewall/,
    ],
    [
      'a new machine that swallows what it is sent',
      (p) => {
        command(/node-1 .*dev\/tcp/, {})(p);
        command(/firewall-cmd/, { code: 127 })(p);
      },
      'master-ports',
      'warning',
      /port 2380 of node-4 swallows what node-1 sends/,
    ],
    [
      'a port in use on a new machine',
      command(/node-5 sh -s --$/, {
        stdout: '  0: 00000000:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n',
      }),
      'free-ports',
      'failed',
      /^node-5: something listens on 6443$/,
    ],
    [
      'a certificate that has expired',
      (p) => (p.now = ends + 1000),
      'certificates',
      'failed',
      /^\/etc\/kubernetes\/pki\/apiserver\.crt on node-1 expired on \d{4}-\d\d-\d\d \d\d:\d\d UTC/,
    ],
    [
      'a certificate that ends in the window',
      (p) => (p.now = ends - day),
      'certificates',
      'failed',
      /apiserver\.crt on node-1 ends on .* UTC, within two days/,
    ],
    [
      'a certificate that ends soon',
      (p) => (p.now = ends - 29 * day),
      'certificates',
      'warning',
      /apiserver\.crt on node-1 ends on .* UTC;/,
    ],
    [
      'no certificate',
      command(/node-2 sh -s -- \/root\/\.kube\/config$/, { stdout: '' }),
      'certificates',
      'failed',
      /^node-2 has no certificate below/,
    ],
    [
      'a master that does not answer',
      command(/node-3 sh -s -- \/root\/\.kube\/config$/, new HostUnreachable('node-3', 'no route')),
      'certificates',
      'failed',
      /node-3: node-3 cannot be reached: no route/,
    ],
    [
      'a small disk',
      command(/node-6 .*df -B1/, { stdout: '9000000000 /sysvol\n 1000000 2000000\n' }),
      'etcd-room',
      'warning',
      /^node-6:\/sysvol has 8\.4 GiB free; etcd should find 10\.0 GiB there$/,
    ],
    [
      'a large database',
      (p) => {
        command(/node-2 stat -c/, { stdout: '8000000000\n' })(p);
        command(/node-6 .*df -B1/, { stdout: '12000000000 /sysvol\n 1000000 2000000\n' })(p);
      },
      'etcd-room',
      'warning',
      /etcd should find 14\.9 GiB there/,
    ],
    [
      'a package that stays behind',
      (p) => (p.plan = stackedPlan((plan) => plan.transfers.pop())),
      'package-moves',
      'failed',
      /^node-1 leaves, and no transfer carries \/opt\/proton-package to node-4/,
    ],
    [
      'a control host that stays',
      (p) =>
        (p.plan = stackedPlan((plan) => {
          plan.transfers.pop();
          plan.nodes.remove = ['node-2', 'node-3'];
        })),
      'package-moves',
      'ok',
      /proton-cli goes on working on node-1/,
    ],
  ])('finds %s', async (_what, change, name, state, cause) => {
    const results = await check(change);
    const result = results.find((entry) => entry.name === name);

    expect(result).toMatchObject({ name, state });
    expect(result?.cause).toMatch(cause);
    if (state !== 'ok') expect(result?.next).toMatch(/\S/);
  });
});
