import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { editComponentsSecret } from '../../../src/plan/components-secret.ts';
import { recorded, sampleComponents } from './samples.ts';

interface Case {
  name: string;
  component: string;
  old: Record<string, unknown> | null;
  verdict: string;
}
const { cases } = recorded('component-verdicts.json') as { cases: Case[] };

const kafka = `dependencies: {zookeeper: zookeeper}
info: {auth: {password: 0123, username: yes}, mq_hosts: kafka-headless.resource.svc.cluster.local.}
name: kafka
params:
  data_path: /sysvol/kafka/kafka_data
  env: null
  hosts:
  - node-1
  - node-2
  - node-3
  replica_count: 3
  storage_capacity: 1_000
type: kafka
version: 5.6.0
`;
const components = sampleComponents().filter((component) => ['kafka', 'prometheus'].includes(component.kind));

describe('the record of component-manage', () => {
  it('gets the new hosts, position by position, and nothing else', () => {
    const result = editComponentsSecret({ kafka, other: 'x: 010' }, components, 'forth');

    expect(result).toEqual({
      data: {
        kafka: kafka.replace('node-1', 'node-4').replace('node-2', 'node-5').replace('node-3', 'node-6'),
        other: 'x: 010',
      },
      changed: ['kafka'],
    });
    expect(editComponentsSecret(result.data, components, 'forth').changed).toEqual([]);
    expect(editComponentsSecret(result.data, components, 'back')).toEqual({
      data: { kafka, other: 'x: 010' },
      changed: ['kafka'],
    });
  });

  it('switches the directory', () => {
    const moved = components.map((component) => ({ ...component, newDataPath: '/data/kafka' }));

    expect(editComponentsSecret({ kafka }, moved, 'forth').data['kafka']).toContain('data_path: /data/kafka\n');
  });

  it.each<[string, string, RegExp]>([
    ['another order', kafka.replace('node-1', 'node-3').replace(/node-3$/m, 'node-3'), /kafka: params\.hosts: is/],
    ['another count', kafka.replace('replica_count: 3', 'replica_count: 4'), /kafka: params\.replica_count: is 4/],
    ['no hosts', kafka.replace(/ {2}hosts:\n( {2}- .*\n)+/, ''), /kafka: params\.hosts: lists no host/],
    ['another directory', kafka.replace('/sysvol/kafka/', '/x/'), /kafka: params\.data_path: is \/x/],
    ['nothing', 'null', /not a map/],
  ])('refuses %s', (_what, text, message) => {
    expect(() => editComponentsSecret({ kafka: text }, components, 'forth')).toThrow(message);
  });

  it('refuses a component that is not recorded', () => {
    expect(() => editComponentsSecret({}, components, 'forth')).toThrow('kafka: component-manage has no record of it');
  });

  it('edits recorded parameters of every type', () => {
    const kinds = new Set<string>();
    for (const entry of cases) {
      const hosts = entry.old?.['hosts'];
      const planned = sampleComponents().find(
        (component) =>
          (
            ({ redis: 'proton-redis', etcd: 'proton-etcd', 'policy-engine': 'proton-policy-engine' }) as Record<
              string,
              string
            >
          )[component.kind] === entry.component || component.kind === entry.component,
      );
      if (planned === undefined || JSON.stringify(hosts) !== '["node-1","node-2","node-3"]') continue;
      const path = entry.old?.['data_path'];
      if (path !== planned.dataPath) continue;
      const before = stringify({ name: entry.component, params: entry.old });
      if (kinds.has(entry.component)) continue;
      kinds.add(entry.component);

      const { data } = editComponentsSecret({ [entry.component]: before }, [planned], 'forth');

      expect(data[entry.component]).toBe(
        stringify({ name: entry.component, params: { ...entry.old, hosts: ['node-4', 'node-5', 'node-6'] } }),
      );
    }
    expect([...kinds].toSorted()).toEqual([
      'kafka',
      'mariadb',
      'mongodb',
      'nebula',
      'opensearch',
      'proton-etcd',
      'proton-policy-engine',
      'proton-redis',
      'zookeeper',
    ]);
  });
});
