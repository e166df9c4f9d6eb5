import { describe, expect, it } from 'vitest';
import type { WorkloadRecord } from '../../../src/activities/contract.ts';
import { defaultDeadlines } from '../../../src/activities/deadlines.ts';
import type { KubernetesApi } from '../../../src/activities/kubernetes-api.ts';
import { createKubernetesActivities, type KubernetesDeps } from '../../../src/activities/kubernetes.ts';

interface Owner {
  kind: string;
  name: string;
}

function pod(name: string, owner: Owner | undefined, sound: boolean, phase = 'Running'): object {
  const hash = owner?.kind === 'ReplicaSet' ? { 'pod-template-hash': owner.name.split('-').at(-1) } : {};
  return {
    metadata: { namespace: 'anyshare', name, labels: hash, ownerReferences: owner === undefined ? [] : [owner] },
    spec: { nodeName: 'new1' },
    status: { phase, conditions: [{ type: 'Ready', status: sound ? 'True' : 'False' }] },
  };
}

const web: WorkloadRecord = { kind: 'Deployment', namespace: 'anyshare', name: 'web', replicas: 3, ready: 1 };
const agent: WorkloadRecord = { kind: 'DaemonSet', namespace: 'anyshare', name: 'agent', ready: 1 };
const set = { kind: 'ReplicaSet', name: 'web-5d8f' };
const daemons = { kind: 'DaemonSet', name: 'agent' };

function health(pods: object[], illBefore?: WorkloadRecord[]): Promise<{ proof: string; stillIll?: string[] }> {
  const node = { metadata: { name: 'new1' }, status: { conditions: [{ type: 'Ready', status: 'True' }] } };
  const api = { list: (path: string) => Promise.resolve(path.endsWith('/nodes') ? [node] : pods) };
  const { awaitClusterHealthy } = createKubernetesActivities({
    api: api as unknown as KubernetesApi,
    deadlines: { ...defaultDeadlines, healthy: 1 },
  } as KubernetesDeps);
  return awaitClusterHealthy({
    nodes: ['new1'],
    namespaces: ['anyshare'],
    ...(illBefore !== undefined && { illBefore }),
  });
}

describe('a cluster with pods that are ill', () => {
  const ill = [pod('web-a', set, true), pod('web-b', set, false), pod('web-c', set, false)];

  it('is sound when their workload is no worse than before, and says which they are', async () => {
    const { proof, stillIll } = await health(ill, [web]);

    const pods = ['pod anyshare/web-b (Running, on new1)', 'pod anyshare/web-c (Running, on new1)'];
    expect(stillIll).toEqual(pods);
    expect(proof).toBe(
      `Nodes new1 and no others, all Ready; no unhealthy pod in anyshare, but of workloads that were not ready before the migration either: ${pods.join(', ')}`,
    );
  });

  it.each<[string, object[], WorkloadRecord[] | undefined]>([
    ['nobody says that they were ill before', ill, undefined],
    ['more of them were ready before', ill, [{ ...web, ready: 2 }]],
    ['all of them were ready before', ill, [{ ...web, ready: 'all' }]],
    ['another namespace had the ill one', ill, [{ ...web, namespace: 'other' }]],
    ['another workload was the ill one', ill, [{ ...web, name: 'we' }]],
    ['one that has ended is counted as ready', [pod('web-a', set, false, 'Failed'), ...ill.slice(1)], [web]],
    ['none of the DaemonSet is left sound', [pod('agent-a', daemons, false)], [agent]],
    ['they belong to no workload', [...ill, pod('bare', undefined, false)], [web]],
  ])('is not when %s', async (_why, pods, illBefore) => {
    await expect(health(pods, illBefore)).rejects.toThrow('The cluster does not become healthy');
  });

  it('is sound without a word when they are sound', async () => {
    expect(await health([pod('web-a', set, true)], [web])).toEqual({
      changed: false,
      proof: 'Nodes new1 and no others, all Ready; no unhealthy pod in anyshare',
    });
  });
});
