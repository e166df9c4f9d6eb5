import { describe, expect, it } from 'vitest';
import { acceptsReplicas, componentRows, componentTable } from '../../../src/plan/components.ts';
import { componentKinds } from '../../../src/plan/plan.ts';
import { parse } from 'yaml';
import { recorded, recordedConfig } from './samples.ts';

interface ChartObject {
  kind: string;
  name: string;
  path?: string;
  podManagementPolicy?: string;
  grace?: number;
  volumeClaimTemplates?: { name: string }[];
}
const { charts } = recorded('chart-objects.json') as {
  charts: Record<string, { release: string; objects: ChartObject[] }>;
};
const context = { resourceNamespace: 'resource' };

describe('the table of components', () => {
  it('has a row per kind', () => {
    expect(componentRows.map((row) => row.kind)).toEqual([...componentKinds]);
  });

  const releases = Object.values(charts).map((chart) => [chart.release, chart.objects] as const);

  it.each(releases)('%s: names are those the chart renders', (release, objects) => {
    const row = componentRows.find((entry) => entry.workload.type === 'helm' && entry.workload.release === release);
    expect(row).toBeDefined();
    const sets = objects.filter((object) => object.kind === 'StatefulSet' && object.volumeClaimTemplates !== undefined);
    const names = (kind: string): string[] =>
      objects.filter((object) => object.kind === kind).map((object) => object.name);

    expect(row!.statefulSets(context)).toEqual(sets.map((set) => set.name));
    expect(names('PersistentVolume')).toEqual([0, 1, 2].map((ordinal) => row!.pv(ordinal, context)));
    expect(names('PersistentVolumeClaim')).toEqual([0, 1, 2].map((ordinal) => row!.pvc(ordinal, context)));
    expect([0, 1].map((ordinal) => row!.pod(ordinal, context))).toEqual([0, 1].map((i) => `${sets[0]!.name}-${i}`));
    expect(row!.pvc(0, context)).toBe(`${sets[0]!.volumeClaimTemplates![0]!.name}-${sets[0]!.name}-0`);
    expect(row!.podManagement).toBe(sets[0]!.podManagementPolicy ?? 'OrderedReady');
    expect(row!.graceSeconds).toBe(sets[0]!.grace ?? 30);
  });

  it('covers every chart with volumes and three operators', () => {
    expect(componentRows.filter((row) => row.workload.type === 'helm')).toHaveLength(releases.length);
    expect(componentRows.filter((row) => row.workload.type === 'custom-resource').map((row) => row.kind)).toEqual([
      'mariadb',
      'mongodb',
      'nebula',
    ]);
  });

  it('finds section, hosts and directory in a real configuration', () => {
    const config = parse(recordedConfig('base')) as Record<string, Record<string, unknown>>;
    for (const row of componentRows) {
      const section = config[row.section];
      expect(section?.['hosts'], row.kind).toEqual(expect.arrayContaining(['node-1']));
      for (const path of row.dataPath) {
        expect(path.reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], section)).toBe(
          row.defaultDataPath,
        );
      }
    }
  });

  it('names volumes of the operators by namespace', () => {
    expect(componentTable.mariadb.pv(1, context)).toBe('resource-mariadb-mariadb-pv-1');
    expect(componentTable.mongodb.pv(2, { resourceNamespace: 'other' })).toBe('mongodb-mongodb-other-2');
    expect(componentTable.opensearch.pvc(0, { resourceNamespace: 'r', opensearchMode: 'hot' })).toBe(
      'data-opensearch-hot-0',
    );
  });

  it.each([
    ['redis', 2, false],
    ['redis', 3, true],
    ['grafana', 2, false],
    ['prometheus', 2, true],
    ['prometheus', 3, false],
    ['kafka', 7, true],
    ['kafka', 0, false],
    ['etcd', 4, false],
  ] as const)('%s with %d hosts: %s', (kind, count, accepted) => {
    expect(acceptsReplicas(componentTable[kind], count)).toBe(accepted);
  });
});
