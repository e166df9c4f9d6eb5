/* The rights of the worker, judged by a real API server: enough for every call in the code, and not one that no call needs. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { KubeConfig } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { partFolder } from '../../lab/build/parts.ts';
import { createMigrationActivities } from '../../src/activities/activities.ts';
import {
  ApiError,
  createKubernetesApi,
  loadKubeConfig,
  path,
  type KubernetesApi,
} from '../../src/activities/kubernetes-api.ts';
import { createJobs } from '../../src/hosts/jobs.ts';
import { createHosts } from '../../src/hosts/ssh.ts';
import { workerKubeconfig } from '../worker-account.ts';
import { create, namespace, startControlPlane, until, type ControlPlane } from './api-server.ts';
import { accesses, places, type Access } from './rbac-calls.ts';

interface Rule {
  apiGroups: string[];
  resources: string[];
  resourceNames?: string[];
  verbs: string[];
}
interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string };
  rules?: Rule[];
}

const manifestFile = new URL('../../deploy/kubernetes/rbac.yaml', import.meta.url);
const manifests = parseAllDocuments(readFileSync(manifestFile, 'utf8')).map((document) => document.toJS() as Manifest);
const rbac = 'rbac.authorization.k8s.io/v1';
const plurals: Record<string, string> = {
  Namespace: 'namespaces',
  ServiceAccount: 'serviceaccounts',
  ClusterRole: 'clusterroles',
  ClusterRoleBinding: 'clusterrolebindings',
  RoleBinding: 'rolebindings',
};

function collectionOf({ apiVersion, kind, metadata }: Manifest): string {
  return path(apiVersion, metadata.namespace, plurals[kind] ?? '');
}

let plane: ControlPlane;
let worker: KubernetesApi;
let workerConfig: KubeConfig;
beforeAll(async () => {
  plane = await startControlPlane();
  const own = manifests.filter(({ kind }) => kind === 'Namespace').map(({ metadata }) => metadata.name);
  const used = new Set(manifests.flatMap(({ metadata }) => metadata.namespace ?? []));
  for (const name of used) if (!own.includes(name) && name !== 'kube-system') await namespace(plane.api, name);
  process.env['PATH'] = `${partFolder('kubernetes')}:${process.env['PATH'] ?? ''}`;
  const file = await workerKubeconfig(plane.kubeConfigFile, join(dirname(plane.kubeConfigFile), 'worker.kubeconfig'));
  workerConfig = loadKubeConfig(file);
  worker = createKubernetesApi(workerConfig);
  // The authorizer learns of roles a moment after they are written.
  await until('the rights of the worker', 30, async () => (await denied()).length === 0).catch(() => undefined);
});
afterAll(() => plane.stop());

function describeAccess({ verb, group, resource, subresource, namespace: place, name }: Access): string {
  return [verb, [group, resource, subresource].filter(Boolean).join('/'), place, name].filter(Boolean).join(' ');
}

async function isAllowed({ verb, group, resource, subresource, namespace: place, name }: Access): Promise<boolean> {
  const review = await plane.api.request<{ status: { allowed: boolean } }>(
    'POST',
    path('authorization.k8s.io/v1', undefined, 'subjectaccessreviews'),
    {
      body: {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SubjectAccessReview',
        spec: {
          user: 'system:serviceaccount:ferry:ferry-worker',
          groups: ['system:serviceaccounts', 'system:serviceaccounts:ferry', 'system:authenticated'],
          resourceAttributes: { verb, group, resource, subresource, namespace: place, name },
        },
      },
    },
  );
  return review.status.allowed;
}

/** Calls of the code that the worker may not make now. */
async function denied(): Promise<string[]> {
  const answers = await Promise.all(accesses.map(async (access) => ((await isAllowed(access)) ? [] : [access])));
  return answers.flat().map(describeAccess);
}

/** Every right of a role on its own: what stays when that one is taken away. */
function reductions(role: Manifest): { right: string; rules: Rule[] }[] {
  return (role.rules ?? []).flatMap((rule, index) => {
    const others = (role.rules ?? []).filter((_, other) => other !== index);
    const lists = ['resources', 'verbs', 'resourceNames'] as const;
    return lists.flatMap((list) =>
      (rule[list] ?? []).map((entry) => {
        const left = (rule[list] ?? []).filter((other) => other !== entry);
        // A rule without names is one about all names.
        const rules = left.length === 0 ? others : [...others, { ...rule, [list]: left }];
        return { right: `${role.metadata.name}: ${entry} of rule ${index + 1}`, rules };
      }),
    );
  });
}

describe('deploy/kubernetes/rbac.yaml', () => {
  it('allows every call that the code makes', async () => {
    expect(accesses.length).toBeGreaterThan(60);
    expect(await denied()).toEqual([]);
  });

  it('names no wildcard, and no right that lets more be taken', () => {
    const rules = manifests.flatMap(({ rules: all = [] }) => all);
    const words = rules.flatMap(({ apiGroups, resources, verbs }) => [...apiGroups, ...resources, ...verbs]);

    for (const word of ['*', 'escalate', 'bind', 'impersonate', 'pods/exec', 'deletecollection']) {
      expect(words).not.toContain(word);
    }
  });

  const roles = manifests.filter(({ kind }) => kind === 'ClusterRole');
  it.each(roles.flatMap((role) => reductions(role).map(({ right, rules }) => ({ right, role, rules }))))(
    'needs $right',
    async ({ role, rules }) => {
      const resource = path(rbac, undefined, 'clusterroles', role.metadata.name);
      await plane.api.request('PUT', resource, { body: { ...role, rules } });
      await until('a call that is denied', 10, async () => (await denied()).length > 0);
      await plane.api.request('PUT', resource, { body: role });
      await until('the role as it was', 10, async () => (await denied()).length === 0);
    },
  );

  const bindings = manifests.filter(({ kind }) => kind.endsWith('Binding'));
  it.each(bindings.map((binding) => ({ name: collectionOf(binding), binding })))(
    'needs the binding at $name',
    async ({ binding }) => {
      await plane.api.request('DELETE', `${collectionOf(binding)}/${binding.metadata.name}`);
      await until('a call that is denied', 10, async () => (await denied()).length > 0);
      await create(plane.api, collectionOf(binding), binding);
      await until('the binding as it was', 10, async () => (await denied()).length === 0);
    },
  );
});

describe('a worker with these rights', () => {
  it('stops and starts applications, and leaves no mark', async () => {
    const labels = { app: 'x' };
    const template = { metadata: { labels }, spec: { containers: [{ name: 'c', image: 'none' }] } };
    const job = {
      spec: { template: { spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'none' }] } } },
    };
    const put = (groupVersion: string, kind: string, plural: string, spec: object): Promise<void> =>
      create(plane.api, path(groupVersion, places.application, plural), {
        apiVersion: groupVersion,
        kind,
        metadata: { name: 'x', namespace: places.application },
        spec,
      });
    await put('apps/v1', 'Deployment', 'deployments', { replicas: 0, selector: { matchLabels: labels }, template });
    await put('apps/v1', 'DaemonSet', 'daemonsets', { selector: { matchLabels: labels }, template });
    await put('batch/v1', 'CronJob', 'cronjobs', { schedule: '0 0 1 1 *', jobTemplate: job });
    const hosts = createHosts({ privateKey: Buffer.alloc(0) });
    const activities = createMigrationActivities({
      kubeConfig: workerConfig,
      hosts,
      jobs: createJobs(),
      deadlines: { podsGone: 30_000, ready: 30_000 },
    });
    const migration = 'migrate-rights';
    const namespaces = [places.application];
    const record = await activities.recordApplications({ migration, namespaces });
    const stopped = await activities.stopApplications({ migration, namespaces, record });
    const started = await activities.startApplications({ migration, record });
    const cleared = await activities.clearBreadcrumbs({ migration, namespaces });
    await hosts.close();

    expect(record.workloads.map(({ kind }) => kind).toSorted()).toEqual(['CronJob', 'DaemonSet', 'Deployment']);
    expect([stopped.changed, started.changed]).toEqual([true, true]);
    expect(cleared.proof).toContain('no object');
  });

  it.each([
    ['read other Secrets of the configuration', path('v1', places.config, 'secrets', 'other')],
    ['list Secrets', path('v1', places.records, 'secrets')],
    ['read Secrets of Kubernetes', path('v1', places.system, 'secrets', 'any')],
    ['read Secrets of its own namespace', path('v1', 'ferry', 'secrets', 'any')],
    ['look into the roles', path(rbac, undefined, 'clusterroles')],
  ])('may not %s', async (_what, resource) => {
    await expect(worker.request('GET', resource)).rejects.toSatisfy(
      (error) => error instanceof ApiError && error.code === 403,
    );
  });

  it('asks pods of components about their data, and no others', async () => {
    const answers = async (place: string): Promise<(number | string)[]> => {
      const proxied = `${path('v1', place, 'pods', 'none:1')}/proxy/x`;
      const refusals = await Promise.all([
        worker.connect({ namespace: place, pod: 'none', port: 1 }).catch((error: unknown) => error),
        worker.request('GET', proxied).catch((error: unknown) => error),
        worker.request('POST', proxied, { body: {} }).catch((error: unknown) => error),
      ]);
      return refusals.map((error) => (error instanceof ApiError ? error.code : (error as Error).message));
    };

    // There is no such pod: whoever hears that was let in.
    expect(await answers(places.records)).toEqual([expect.stringContaining('404'), 404, 404]);
    expect(await answers(places.application)).toEqual([expect.stringContaining('403'), 403, 403]);
  });

  it('reaches what is open to everybody who is authenticated', async () => {
    expect(await worker.request<string>('GET', '/readyz')).toBe('ok');
    expect(await worker.request('GET', '/version')).toHaveProperty('gitVersion');
  });
});
