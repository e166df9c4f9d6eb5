import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import type { PlanInput } from '../../../src/plan/plan.ts';
import { formatPlanErrors, parsePlan, parsePlanData } from '../../../src/plan/validate.ts';
import { samplePlan } from './samples.ts';

type Draft = PlanInput & Record<string, never>;

/** Errors of the sample plan after a change, its digest left aside. */
function errorsAfter(change: (plan: Draft) => void, options = {}): string[] {
  const draft = structuredClone(samplePlan()) as unknown as Draft;
  change(draft);
  const result = parsePlan(stringify(draft, { aliasDuplicateObjects: false }), 'yaml', {
    digest: 'ignore',
    ...options,
  });
  return result.ok ? [] : result.errors.map((error) => `${error.path}: ${error.message}`);
}

describe('a valid plan', () => {
  const plan = samplePlan();

  it.each([
    ['yaml', stringify(plan)],
    ['json', JSON.stringify(plan, undefined, 2)],
    ['yaml', JSON.stringify(plan)],
  ] as const)('is read from %s', (format, text) => {
    expect(parsePlan(text, format)).toEqual({ ok: true, plan });
  });

  it('is taken as data', () => {
    expect(parsePlanData(plan)).toEqual({ ok: true, plan });
  });

  it('written by hand gets its defaults and its digest', () => {
    const { digest: _digest, ...rest } = plan;
    const written = { ...rest, limits: undefined, gates: undefined, verify: undefined };

    expect(parsePlan(JSON.stringify(written), 'json', { digest: 'ignore' })).toEqual({ ok: true, plan });
    expect(parsePlan(JSON.stringify(written), 'json')).toMatchObject({
      ok: false,
      errors: [{ path: 'digest', message: expect.stringContaining('missing') as string }],
    });
  });
});

describe('an error', () => {
  it.each<[string, (plan: Draft) => void, string]>([
    [
      'two sources',
      (p) => (p.mapping[1]!.from = 'node-1'),
      'mapping[1].from: not a bijection: node-1 is already replaced in mapping[0]',
    ],
    [
      'two successors',
      (p) => (p.mapping[1]!.to = 'node-4'),
      'mapping[1].to: not a bijection: node-4 already replaces another node in mapping[0]',
    ],
    ['a node for itself', (p) => (p.mapping[0]!.to = 'node-1'), 'mapping[0].to: node-1 cannot replace itself'],
    ['a chain', (p) => (p.mapping[0]!.to = 'node-2'), 'mapping[0].to: node-2 is itself replaced by another node'],
    [
      'an expectation of no phase',
      (p) => Object.assign(p, { downtime: { expectedSeconds: { reinstal: 420 } } }),
      'downtime.expectedSeconds.reinstal: unknown field',
    ],
    [
      'hours without a time between them',
      (p) => Object.assign(p.limits!, { preCopySchedule: [{ from: '22:00', to: '22:00', limitKiBps: 0 }] }),
      'limits.preCopySchedule[0].to: the same as `from`: no time at all, or all day, for which preCopyKiBps is there',
    ],
    [
      'an hour that no clock shows',
      (p) => Object.assign(p.limits!, { preCopySchedule: [{ from: '24:00', to: '6:00', limitKiBps: 0 }] }),
      'limits.preCopySchedule[0].from: not a time of the day such as 22:00',
    ],
    [
      'an unknown node',
      (p) => (p.mapping[0]!.to = 'node-9'),
      'mapping[0].to: unknown node node-9: hosts does not list it',
    ],
    [
      'an unknown removed node',
      (p) => p.nodes.remove.push('node-9'),
      'nodes.remove[3]: unknown node node-9: hosts does not list it',
    ],
    [
      'a removed node without successor',
      (p) => p.mapping.pop(),
      'nodes.remove[2]: node-3 has no successor in the mapping',
    ],
    ['an added node without use', (p) => p.mapping.pop(), 'nodes.add[2].name: node-6 replaces no node in the mapping'],
    [
      'a node twice',
      (p) => p.nodes.remove.push('node-1'),
      'nodes.remove[3]: node-1 is already removed in nodes.remove[0]',
    ],
    [
      'an address twice',
      (p) => (p.nodes.add[1]!.ip4 = '10.0.0.14'),
      'nodes.add[1].ip4: 10.0.0.14 is already the address of nodes.add[0]',
    ],
    ['a host twice', (p) => (p.hosts[1]!.name = 'node-1'), 'hosts[1].name: node-1 stands already in hosts[0]'],
    [
      'a machine twice',
      (p) => (p.hosts[1]!.address = '10.0.0.11'),
      'hosts[1].address: 10.0.0.11 port 22 is already the address of hosts[0]',
    ],
    [
      'a wrong role',
      (p) => (p.hosts[0]!.role = 'new'),
      'hosts[0].role: node-1 is an old node in mapping[0], not "new"',
    ],
    [
      'a new control host',
      (p) => (p.platform.controlHost = 'node-4'),
      'platform.controlHost: node-4 is a new node; proton-cli runs on an original control-plane node',
    ],
    [
      'a component twice',
      (p) => p.components.push({ ...p.components[0]! }),
      'components[14].kind: mariadb stands already in components[0]',
    ],
    [
      'a foreign namespace',
      (p) => (p.components[0]!.namespace = 'other'),
      'components[0].namespace: mariadb runs in the namespace resource',
    ],
    [
      'two replicas of redis',
      (p) => p.components[2]!.replicas.pop(),
      'components[2].replicas: the platform takes 1 or 3 hosts for redis, not 2',
    ],
    [
      'a shared host',
      (p) => (p.components[0]!.replicas[1]!.to = 'node-4'),
      'components[0].replicas[1].to: new host node-4 is already that of replicas[0]; they must be unique',
    ],
    [
      'an ordinal too high',
      (p) => (p.components[0]!.replicas[2]!.ordinal = 7),
      'components[0].replicas[2].ordinal: ordinals of 3 replicas are 0 to 2',
    ],
    [
      'a replica against the mapping',
      (p) => {
        p.components[0]!.replicas[0]!.to = 'node-5';
        p.components[0]!.replicas[1]!.to = 'node-4';
      },
      'components[0].replicas[0].to: the mapping replaces node-1 by node-4, not by node-5',
    ],
    [
      'a transfer id twice',
      (p) => (p.transfers[1]!.id = 'mariadb-0'),
      'transfers[1].id: mariadb-0 is already the id of transfers[0]',
    ],
    [
      'a replica moved twice',
      (p) => p.transfers.push({ ...p.transfers[0]!, id: 'again' }),
      'transfers[37].subject: mariadb-0 is already moved by transfers[0]',
    ],
    [
      'a replica without transfer',
      (p) => p.transfers.shift(),
      'components[0].replicas[0]: no transfer moves the data of mariadb-0',
    ],
    [
      'a transfer of no component',
      (p) => p.components.shift(),
      'transfers[0].subject.component: components does not list mariadb',
    ],
    [
      'a transfer of no replica',
      (p) => (p.transfers[0]!.subject = { type: 'component', component: 'mariadb', ordinal: 5 }),
      'transfers[0].subject.ordinal: mariadb has no replica 5',
    ],
    [
      'another source',
      (p) => (p.transfers[0]!.source.host = 'node-2'),
      'transfers[0].source.host: is node-2, but components says node-1 for mariadb-0',
    ],
    [
      'another directory',
      (p) => (p.transfers[0]!.destination.path = '/sysvol/mariadb2'),
      'transfers[0].destination.path: is /sysvol/mariadb2, but components says /sysvol/mariadb for mariadb-0',
    ],
    [
      'a destination inside the source',
      (p) =>
        p.transfers.push({
          id: 'h',
          subject: { type: 'host-service', service: 'docker' },
          source: { host: 'node-1', path: '/data/docker' },
          destination: { host: 'node-1', path: '/data/docker/new' },
        }),
      'transfers[37].destination.path: destination lies inside the source node-1:/data/docker',
    ],
    [
      'a source inside the destination',
      (p) =>
        p.transfers.push({
          id: 'h',
          subject: { type: 'host-service', service: 'docker' },
          source: { host: 'node-1', path: '/data/docker/old' },
          destination: { host: 'node-1', path: '/data/docker' },
        }),
      'transfers[37].destination.path: source node-1:/data/docker/old lies inside the destination',
    ],
    [
      'nothing to copy',
      (p) =>
        p.transfers.push({
          id: 'h',
          subject: { type: 'host-service', service: 'docker' },
          source: { host: 'node-1', path: '/data/docker' },
          destination: { host: 'node-1', path: '/data/docker' },
        }),
      'transfers[37].destination.path: source and destination are the same directory node-1:/data/docker',
    ],
    [
      'a host service on another node',
      (p) =>
        p.transfers.push({
          id: 'h',
          subject: { type: 'host-service', service: 'docker' },
          source: { host: 'node-1', path: '/data/docker' },
          destination: { host: 'node-4', path: '/data/docker' },
        }),
      'transfers[37].destination.host: host services stay on their node: docker cannot move from node-1 to node-4',
    ],
    [
      'a host that is not stopped',
      (p) =>
        p.transfers.push({
          id: 'h',
          subject: { type: 'host-service', service: 'docker' },
          source: { host: 'node-1', path: '/data/docker' },
          destination: { host: 'node-1', path: '/data/docker2' },
        }),
      'hostServices.hosts: does not list node-1, whose docker directory moves (h)',
    ],
    [
      'shared destinations',
      (p) => {
        p.components[1]!.newDataPath = '/sysvol/mariadb/x';
        p.transfers[3]!.destination.path = '/sysvol/mariadb/x';
      },
      'transfers[3].destination.path: node-4:/sysvol/mariadb/x overlaps the destination of transfers[0] (mariadb-0)',
    ],
    [
      'a directory of the system',
      (p) => (p.transfers[0]!.destination.path = '/usr/local/mariadb'),
      'transfers[0].destination.path: /usr/local/mariadb belongs to the system (/usr)',
    ],
    [
      'the parent of one',
      (p) => (p.transfers[0]!.destination.path = '/var'),
      'transfers[0].destination.path: /var is a directory of the system that many programs share',
    ],
    [
      'a backup that would be deleted',
      (p) => (p.backup = { directory: '/sysvol/mariadb/backup' }),
      'backup.directory: lies inside the destination of mariadb-0',
    ],
    [
      'a gate that cannot open',
      (p) => (p.gates = { 'remove-nodes': { approvers: ['a', 'b'], required: 3 } }),
      'gates.remove-nodes.required: needs 3 approvals, but only 2 may approve: the gate could never open',
    ],
    [
      'a gate for the author alone',
      (p) => (p.gates = { 'open-downtime': { approvers: ['ops'] } }),
      'gates.open-downtime.required: needs 1 approvals, but only 0 may approve without the author ops: the gate could never open',
    ],
    [
      'an approver twice',
      (p) => (p.gates = { 'open-downtime': { approvers: ['a', 'a'] } }),
      'gates.open-downtime.approvers[1]: a stands already in approvers[0]',
    ],
    [
      'the platform as application',
      (p) => p.applications.namespaces.push('resource'),
      'applications.namespaces[1]: resource holds the platform itself and cannot be stopped as an application',
    ],
    [
      'registry data nobody copies',
      (p) => (p.containerRegistry = 'copy-data'),
      'containerRegistry: is "copy-data", but no transfer copies the registry\'s data (service "cr-data")',
    ],
    [
      'a relative path',
      (p) => (p.transfers[0]!.source.path = 'sysvol/mariadb'),
      'transfers[0].source.path: must be an absolute path without a trailing slash',
    ],
    [
      'a path upwards',
      (p) => (p.transfers[0]!.source.path = '/sysvol/../etc'),
      'transfers[0].source.path: must not contain "." or ".."',
    ],
    [
      'the root',
      (p) => (p.components[0]!.dataPath = '/'),
      'components[0].dataPath: must be an absolute path without a trailing slash',
    ],
    [
      'a wrong type',
      (p) => (p.limits = { maxPasses: 'ten' as never }),
      'limits.maxPasses: Invalid input: expected number, received string',
    ],
    ['a missing field', (p) => delete (p as Partial<Draft>).author, 'author: missing, must be string'],
    ['an unknown field', (p) => (p['speed'] = 1 as never), 'speed: unknown field'],
    ['a node name with a dot', (p) => (p.nodes.remove[0] = 'node.1'), 'nodes.remove[0]: must be a DNS-1035 label'],
    [
      'a foreign version',
      (p) => (p.apiVersion = 'v2' as never),
      'apiVersion: Invalid input: expected "ferry.migration/v1"',
    ],
  ] as const)('%s', (_what, change, error) => {
    expect(errorsAfter(change)).toContain(error);
  });

  it('a removed registry host needs a word on its data', () => {
    const registryHosts = ['node-1', 'node-2'];
    expect(errorsAfter((p) => (p.containerRegistry = 'not-moved'), { registryHosts })).toEqual([
      'containerRegistry: cr.local.hosts names node-1, node-2, which this plan removes: say how images and charts move ("re-push" or "copy-data")',
    ]);
    expect(errorsAfter((p) => (p.containerRegistry = 're-push'), { registryHosts })).toEqual([]);
  });

  it('registry data may change its node when the plan says so', () => {
    const move = (p: Draft): void => {
      p.transfers.push({
        id: 'host-node-1-cr-data',
        subject: { type: 'host-service', service: 'cr-data' },
        source: { host: 'node-1', path: '/sysvol/proton_data/cr_data' },
        destination: { host: 'node-4', path: '/sysvol/proton_data/cr_data' },
      });
      p.hostServices = { hosts: ['node-1', 'node-4'] };
    };
    expect(errorsAfter((p) => (move(p), (p.containerRegistry = 'copy-data')))).toEqual([]);
    expect(errorsAfter(move)).toEqual([
      'containerRegistry: transfer host-node-1-cr-data copies registry data to another node, which needs "copy-data"',
    ]);
  });

  it('a changed plan no longer fits its digest', () => {
    const plan = { ...samplePlan(), author: 'somebody' };
    expect(parsePlanData(plan)).toMatchObject({ ok: false, errors: [{ path: 'digest' }] });
    expect(parsePlanData(plan, { digest: 'ignore' }).ok).toBe(true);
  });
});

describe('all errors at once', () => {
  const text = `apiVersion: ferry.migration/v1
kind: MigrationPlan
cluster: Sample
author: ops
createdAt: 2026-11-23T08:00:00Z
platform:
  controlHost: node-1
  packageDirectory: opt/package
  containerRuntime: containerd
hosts:
  - {name: node-1, address: 10.0.0.11, hostKeys: [ssh-ed25519 AAAA]}
  - name: node-4
    address: 10.0.0.14
    hostKeys: [ssh-ed25519 AAAA]
    colour: red
mapping:
  - {from: node-1, to: node-4}
  - {from: node-1, to: node-7}
nodes:
  add: []
  remove: [node-1]
components: []
transfers: []
applications: {}
digest: sha256:${'0'.repeat(64)}
`;

  it('with path, line and column', () => {
    const result = parsePlan(text, 'yaml');

    expect(result.ok ? [] : formatPlanErrors(result.errors, 'plan.yaml')).toEqual([
      'plan.yaml:3:10: cluster: must be a DNS-1035 label',
      'plan.yaml:8:21: platform.packageDirectory: must be an absolute path without a trailing slash',
      'plan.yaml:15:13: hosts[1].colour: unknown field',
      'plan.yaml:18:12: mapping[1].from: not a bijection: node-1 is already replaced in mapping[0]',
      'plan.yaml:24:15: applications.namespaces: missing, must be array',
    ]);
  });

  it.each([
    ['yaml', 'a: [1\nb: "', 'plan:2:1'],
    ['yaml', 'a: 1\na: 2\n', 'plan:2:1: Map keys must be unique'],
    ['json', '{"a": 1,\n "b": 2,\n}', 'plan:3:1: not readable as JSON'],
    ['yaml', '', 'plan'],
    ['yaml', '- a', 'plan:1:1: a plan is a map of fields'],
  ] as const)('%s syntax: %j', (format, broken, start) => {
    const result = parsePlan(broken, format);
    const lines = result.ok ? [] : formatPlanErrors(result.errors, 'plan');
    expect(
      lines.some((line) => line.startsWith(start)),
      lines.join('\n'),
    ).toBe(true);
  });
});
