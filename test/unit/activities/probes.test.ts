import { describe, expect, it } from 'vitest';
import type { Probe } from '../../../src/activities/contract.ts';
import { ApiError, type KubernetesApi } from '../../../src/activities/kubernetes-api.ts';
import { createProbeActivities, tryProbes } from '../../../src/activities/probes.ts';
import type { Hosts } from '../../../src/hosts/contract.ts';
import type { PlannedComponent } from '../../../src/plan/plan.ts';
import { samplePlan } from '../plan/samples.ts';

const noHosts: Hosts = {
  connect: () => Promise.reject(new Error('no machine is needed here')),
  close: () => Promise.resolve(),
};
const etcd = samplePlan().components.filter(({ kind }) => kind === 'etcd');
const nsq = samplePlan().components.filter(({ kind }) => kind === 'nsq');

/** A cluster with all pods ready, or none, that answers a probe with a value or an error. */
function clusterOf(answer: (path: string, body?: unknown) => unknown, ready = true): KubernetesApi {
  return {
    server: 'https://10.0.0.11:6443',
    find: (path: string) =>
      Promise.resolve(
        path.includes('/pods/')
          ? {
              metadata: { name: path.split('/').at(-1) ?? '' },
              status: { conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
            }
          : undefined,
      ),
    request: (_method: string, path: string, options?: { body?: unknown }) => {
      const value = answer(path, options?.body);
      return value instanceof Error ? Promise.reject(value) : Promise.resolve(value);
    },
  } as unknown as KubernetesApi;
}

function take(api: KubernetesApi, components: PlannedComponent[] = etcd): Promise<unknown> {
  return createProbeActivities({ api, hosts: noHosts }).takeProbes({ components, side: 'from', hosts: [] });
}

async function valuesOf(api: KubernetesApi, components: PlannedComponent[]): Promise<string[]> {
  return ((await take(api, components)) as Probe[]).map(({ value }) => value);
}

const reset = Object.assign(new Error('reset'), { code: 'ECONNRESET' });

describe('probes', () => {
  it('are counts by component and ordinal', async () => {
    const api = clusterOf((path) => {
      const ordinal = Number(/etcd-\S*(\d)%3A/.exec(path)?.[1]);
      return { kvs: Array.from({ length: ordinal }, (_, index) => ({ key: btoa(`/key/${index}`) })) };
    });

    expect(await take(api)).toEqual(
      [0, 1, 2].map((ordinal) => ({ component: 'etcd', ordinal, name: 'keys', value: `${ordinal} keys` })),
    );
    expect(await tryProbes(api, etcd)).toEqual({ answered: 3, missing: [] });
  });

  it('of etcd leave out keys that have a lease, over as many pages as there are', async () => {
    const keys = ['a', 'b', 'c', 'd'].map((key) => ({ key: btoa(key), ...(key === 'b' ? { lease: '7587' } : {}) }));
    const asked: unknown[] = [];
    const api = clusterOf((path, body) => {
      if (!path.includes('-0%3A')) return { header: {} };
      const { key } = body as { key: string };
      asked.push(atob(key));
      const from = keys.findIndex((each) => atob(each.key) >= atob(key));
      const kvs = keys.slice(from, from + 2);
      return { kvs, count: '4', ...(from + 2 < keys.length ? { more: true } : {}) };
    });

    expect(await valuesOf(api, etcd)).toEqual(['3 keys', '0 keys', '0 keys']);
    expect(asked).toEqual(['\0', 'b\0']);
  });

  it('of nsq stay the same when consumers are gone and the server starts anew', async () => {
    const channel = (name: string, depth: number, taken = 0, later = 0): object => ({
      ...{ channel_name: name, depth, backend_depth: 0, in_flight_count: taken, deferred_count: later },
    });
    const topic = (name: string, depth: number, ...channels: object[]): object => ({
      ...{ topic_name: name, depth, backend_depth: depth, message_count: 99, channels },
    });
    const before = [
      topic('mail', 0, channel('send', 4, 2, 1), channel('count', 0), channel('watch#ephemeral', 5, 1)),
      topic('audit', 5),
      topic('hints#ephemeral', 7, channel('ui', 3)),
    ];
    const after = [topic('mail', 0, channel('send', 7), channel('count', 0)), topic('audit', 5)];

    for (const topics of [before, after]) {
      const values = await valuesOf(
        clusterOf(() => ({ topics })),
        nsq,
      );
      expect(new Set(values)).toEqual(new Set(['12 messages in 2 topics']));
    }
    const lost = [topic('mail', 0, channel('send', 4), channel('count', 0)), topic('audit', 5)];
    expect(
      await valuesOf(
        clusterOf(() => ({ topics: lost })),
        nsq,
      ),
    ).toContain('9 messages in 2 topics');
  });

  it('that fail just now are asked again by the step that compares, and told by the one that looks', async () => {
    const api = clusterOf(() => reset);

    await expect(take(api)).rejects.toMatchObject({ type: 'Transient' });
    expect((await tryProbes(api, etcd)).missing).toHaveLength(3);
  });

  it.each([
    ['of a pod that is not ready', clusterOf(() => reset, false), /reset$/],
    ['that the pod does not know', clusterOf(() => new ApiError(503, undefined, 'no HTTP here')), /no HTTP here$/],
    ['that answer something else', clusterOf(() => 'text'), /etcd did not answer with JSON$/],
  ])('%s have no value, and it is told why', async (_what, api, why) => {
    expect(await take(api)).toEqual(
      [0, 1, 2].map((ordinal) => ({
        ...{ component: 'etcd', ordinal, name: 'keys', value: '' },
        untaken: expect.stringMatching(why) as string,
      })),
    );

    const { answered, missing } = await tryProbes(api, etcd);
    expect(answered).toBe(0);
    expect(missing).toHaveLength(3);
    expect(missing[0]).toMatch(why);
  });
});
