import { describe, expect, it } from 'vitest';
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

/** A cluster with all pods ready, or none, that answers a probe with a value or an error. */
function clusterOf(answer: (path: string) => unknown, ready = true): KubernetesApi {
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
    request: (_method: string, path: string) => {
      const value = answer(path);
      return value instanceof Error ? Promise.reject(value) : Promise.resolve(value);
    },
  } as unknown as KubernetesApi;
}

function take(api: KubernetesApi, components: PlannedComponent[] = etcd): Promise<unknown> {
  return createProbeActivities({ api, hosts: noHosts }).takeProbes({ components, side: 'from', hosts: [] });
}

const reset = Object.assign(new Error('reset'), { code: 'ECONNRESET' });

describe('probes', () => {
  it('are counts by component and ordinal', async () => {
    const api = clusterOf((path) => ({ count: /etcd-\S*(\d)%3A/.exec(path)?.[1] ?? '?' }));

    expect(await take(api)).toEqual(
      [0, 1, 2].map((ordinal) => ({ component: 'etcd', ordinal, name: 'keys', value: `${ordinal} keys` })),
    );
    expect(await tryProbes(api, etcd)).toEqual({ answered: 3, missing: [] });
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
