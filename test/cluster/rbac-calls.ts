import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { configStages } from '../../src/plan/config-edit.ts';
import type { CustomResourceWorkload } from '../../src/plan/components.ts';
import { componentRows } from '../../src/plan/components.ts';

/* Which rights the worker needs: every call of the Kubernetes API in src/activities, and what it asks the API server for. */

/** One question to the API server, as its authorizer sees it. */
export interface Access {
  verb: 'get' | 'list' | 'create' | 'update' | 'patch' | 'delete';
  group: string;
  resource: string;
  subresource?: string;
  namespace?: string;
  name?: string;
}

/** Namespaces as deploy/kubernetes/rbac.yaml has them. */
export const places = {
  config: 'proton',
  records: 'resource',
  system: 'kube-system',
  application: 'anyshare',
} as const;

const customResources = componentRows
  .map(({ workload }) => workload)
  .filter((workload): workload is CustomResourceWorkload => workload.type === 'custom-resource');
const componentNamespaces = [
  ...new Set(componentRows.map(({ namespace }) => (namespace === 'resource' ? places.records : namespace))),
];

type Verb = Access['verb'];
const anywhere = (verb: Verb, group: string, resource: string, name?: string): Access[] => [
  { verb, group, resource, ...(name === undefined ? {} : { name }) },
];
const inside = (namespaces: readonly string[], verb: Verb, group: string, resource: string, name?: string): Access[] =>
  namespaces.map((namespace) => ({ verb, group, resource, namespace, ...(name === undefined ? {} : { name }) }));
const ofComponents = (verb: Verb, group: string, resource: string): Access[] =>
  inside(componentNamespaces, verb, group, resource, verb === 'list' ? undefined : `any-${resource}`);
const ofApplications = (verb: Verb, group: string, resource: string): Access[] =>
  inside([places.application], verb, group, resource, verb === 'list' ? undefined : `any-${resource}`);
const ofPods = (verb: Verb, subresource: string): Access[] =>
  componentNamespaces.map((namespace) => ({
    verb,
    group: '',
    resource: 'pods',
    subresource,
    namespace,
    name: 'a-pod',
  }));
const ofSecrets = (namespace: string, verb: Verb, names: readonly string[]): Access[] =>
  names.flatMap((name) => inside([namespace], verb, '', 'secrets', name));

const templated = ['deployments', 'statefulsets', 'daemonsets'];
const workloads = (verb: Verb): Access[] => [
  ...templated.flatMap((resource) => ofApplications(verb, 'apps', resource)),
  ...ofApplications(verb, 'batch', 'cronjobs'),
];
const workloadsAnywhere = [
  ...templated.flatMap((resource) => anywhere('list', 'apps', resource)),
  ...anywhere('list', 'batch', 'cronjobs'),
];
const operators = (verb: Verb): Access[] =>
  customResources.flatMap(({ operator }) =>
    inside([operator.namespace], verb, 'apps', 'deployments', operator.deployment),
  );
const mariadbOperator = (verb: Verb): Access[] =>
  customResources
    .filter(({ kind }) => kind === 'RDSMariaDBCluster')
    .flatMap(({ operator }) => inside([operator.namespace], verb, 'apps', 'deployments', operator.deployment));
const ownResources = (verb: Verb): Access[] =>
  customResources.flatMap(({ group, plural, name }) => inside([places.records], verb, group, plural, name));
const componentObjects = (verb: Verb): Access[] => [
  ...ofComponents(verb, 'apps', 'statefulsets'),
  ...ofComponents(verb, '', 'persistentvolumeclaims'),
  ...anywhere(verb, '', 'persistentvolumes', 'any-volume'),
];

const leases = 'coordination.k8s.io';
const ofLease = (verb: Verb): Access[] => inside([places.config], verb, leases, 'leases', 'ferry-migration');

const prepared = configStages.map((stage) => `ferry-config-${stage}`);
const records = ['persist-component-manage-components', 'persist-component-manage-plugins'];
/** Open to everybody who is authenticated; no rule of ours. */
const open: Access[] = [];

/** By call in the code, as `callsInCode` finds it. */
export const calls: Record<string, Access[]> = {
  "applications.ts: GET path('v1', undefined, 'namespaces', namespace)": anywhere(
    'get',
    '',
    'namespaces',
    places.application,
  ),
  'applications.ts: PATCH resource': [
    ...workloads('patch'),
    ...ofApplications('patch', 'batch', 'jobs'),
    ...ofApplications('patch', 'autoscaling', 'horizontalpodautoscalers'),
  ],
  "applications.ts: list path('batch/v1', namespace, 'jobs')": ofApplications('list', 'batch', 'jobs'),
  "applications.ts: list path('v1', namespace, 'pods')": ofApplications('list', '', 'pods'),
  'applications.ts: list path(kinds[kind].groupVersion, namespace, kinds[kind].plural)': [
    ...workloads('list'),
    ...ofApplications('list', 'autoscaling', 'horizontalpodautoscalers'),
  ],
  "cluster-lease.ts: DELETE path(group, configNamespace, 'leases', leaseName)": ofLease('delete'),
  "cluster-lease.ts: POST path(group, configNamespace, 'leases')": inside([places.config], 'create', leases, 'leases'),
  "cluster-lease.ts: PUT path(group, configNamespace, 'leases', leaseName)": ofLease('update'),
  "cluster-lease.ts: find path(group, configNamespace, 'leases', leaseName)": ofLease('get'),
  "control-host.ts: find path('v1', 'kube-system', 'configmaps', 'kubeadm-config')": inside(
    [places.system],
    'get',
    '',
    'configmaps',
    'kubeadm-config',
  ),
  "facts.ts: GET '/version'": open,
  "facts.ts: find path('v1', resolved.namespace, 'persistentvolumeclaims', replica.pvc)": ofComponents(
    'get',
    '',
    'persistentvolumeclaims',
  ),
  "facts.ts: find path('v1', resolved.namespace, 'pods', replica.pod)": ofComponents('get', '', 'pods'),
  "facts.ts: find path('v1', undefined, 'persistentvolumes', pv)": anywhere(
    'get',
    '',
    'persistentvolumes',
    'any-volume',
  ),
  "facts.ts: list path('v1', undefined, 'nodes')": anywhere('list', '', 'nodes'),
  'facts.ts: list path(groupVersion, component.namespace, plural)': [
    ...ofComponents('list', '', 'persistentvolumeclaims'),
    ...ofComponents('list', 'apps', 'statefulsets'),
  ],
  'facts.ts: list path(groupVersion, undefined, plural)': workloadsAnywhere,
  "images.ts: find path('v1', undefined, 'nodes', host)": anywhere('get', '', 'nodes', 'any-node'),
  "images.ts: list path('v1', namespace, 'pods')": anywhere('list', '', 'pods'),
  "images.ts: list path('v1', undefined, 'nodes')": anywhere('list', '', 'nodes'),
  'images.ts: list path(groupVersion, namespace, plural)': workloadsAnywhere,
  'kubernetes.ts: GET resource': mariadbOperator('get'),
  'kubernetes.ts: PATCH resource': mariadbOperator('patch'),
  "kubernetes.ts: find path('apps/v1', component.namespace, 'statefulsets', name)": ofComponents(
    'get',
    'apps',
    'statefulsets',
  ),
  "kubernetes.ts: find path('v1', component.namespace, 'persistentvolumeclaims', replica.pvc)": ofComponents(
    'get',
    '',
    'persistentvolumeclaims',
  ),
  "kubernetes.ts: find path('v1', component.namespace, 'pods', replica.pod)": ofComponents('get', '', 'pods'),
  "kubernetes.ts: find path('v1', namespace, 'endpoints', masterService)": inside(
    [places.records],
    'get',
    '',
    'endpoints',
    'mariadb-mariadb-master',
  ),
  "kubernetes.ts: find path('v1', undefined, 'persistentvolumes', replica.pv)": anywhere(
    'get',
    '',
    'persistentvolumes',
    'any-volume',
  ),
  "kubernetes.ts: list path('v1', namespace, 'pods')": [
    ...inside(componentNamespaces, 'list', '', 'pods'),
    ...ofApplications('list', '', 'pods'),
  ],
  "kubernetes.ts: list path('v1', undefined, 'nodes')": anywhere('list', '', 'nodes'),
  'node-objects.ts: DELETE resource': [
    ...anywhere('delete', '', 'nodes', 'any-node'),
    ...inside([places.config], 'delete', 'batch', 'cronjobs', 'proton-cs-backup-any-node'),
  ],
  "node-objects.ts: PATCH path('v1', undefined, 'nodes', name)": anywhere('patch', '', 'nodes', 'any-node'),
  'node-objects.ts: POST resource': [{ verb: 'create', group: '', resource: 'pods', subresource: 'eviction' }],
  "node-objects.ts: find path('v1', undefined, 'nodes', name)": anywhere('get', '', 'nodes', 'any-node'),
  'node-objects.ts: find resource': [
    ...anywhere('get', '', 'nodes', 'any-node'),
    ...inside([places.config], 'get', 'batch', 'cronjobs', 'proton-cs-backup-any-node'),
  ],
  "node-objects.ts: list path('policy/v1', namespace, 'poddisruptionbudgets')": anywhere(
    'list',
    'policy',
    'poddisruptionbudgets',
  ),
  "node-objects.ts: list path('v1', undefined, 'pods')": anywhere('list', '', 'pods'),
  "platform-secrets.ts: PATCH path('v1', namespace, 'secrets', name)": [
    ...ofSecrets(places.config, 'patch', ['proton-cli-config']),
    ...ofSecrets(places.records, 'patch', records.slice(0, 1)),
  ],
  "platform-secrets.ts: find path('v1', namespace, 'secrets', name)": [
    ...ofSecrets(places.config, 'get', ['proton-cli-config']),
    ...ofSecrets(places.records, 'get', records),
  ],
  "preflight-cluster.ts: GET '/readyz'": open,
  'preflight-cluster.ts: GET secret': ofSecrets(places.config, 'get', ['proton-cli-config']),
  "preflight-cluster.ts: find path('apps/v1', namespace, 'deployments', deployment)": operators('get'),
  "preflight-cluster.ts: find path('apps/v1', planned.namespace, 'statefulsets', name)": ofComponents(
    'get',
    'apps',
    'statefulsets',
  ),
  "preflight-cluster.ts: find path('v1', undefined, 'namespaces', name)": anywhere(
    'get',
    '',
    'namespaces',
    places.application,
  ),
  'preflight-cluster.ts: find resource': ownResources('get'),
  "preflight-cluster.ts: list path('v1', undefined, 'pods')": anywhere('list', '', 'pods'),
  'preflight-cluster.ts: list path(group, undefined, plural)': workloadsAnywhere,
  // Which cluster a server serves, and which other servers there are.
  'preflight-masters.ts: survey ': [
    ...anywhere('get', '', 'namespaces', places.system),
    ...anywhere('list', '', 'nodes'),
  ],
  "probes.ts: GET proxied(context, 3000, '/api/health')": ofPods('get', 'proxy'),
  "probes.ts: GET proxied(context, 4151, '/stats?format=json')": ofPods('get', 'proxy'),
  'probes.ts: GET resource': ofPods('get', 'proxy'),
  "probes.ts: POST proxied(context, 2379, '/v3/kv/range')": ofPods('create', 'proxy'),
  // Kubernetes 1.35 asks for `create` when a websocket is opened, those before for `get`.
  'probes.ts: connect { namespace: context.namespace, pod: context.pod, port: 3330 }': [
    ...ofPods('get', 'portforward'),
    ...ofPods('create', 'portforward'),
  ],
  'probes.ts: connect { namespace: context.namespace, pod: context.pod, port: 6379 }': [
    ...ofPods('get', 'portforward'),
    ...ofPods('create', 'portforward'),
  ],
  "probes.ts: find path('v1', component.namespace, 'secrets', componentsSecretName)": ofSecrets(
    places.records,
    'get',
    records.slice(0, 1),
  ),
  "probes.ts: find path('v1', namespace, 'pods', replica.pod)": ofComponents('get', '', 'pods'),
  "proton-cli.ts: DELETE path('v1', namespace, 'secrets', name)": ofSecrets(places.config, 'delete', prepared),
  "proton-cli.ts: POST path('v1', namespace, 'secrets')": inside([places.config], 'create', '', 'secrets'),
  "proton-cli.ts: PUT path('v1', namespace, 'secrets', name)": ofSecrets(places.config, 'update', prepared),
  "proton-cli.ts: find path('v1', namespace, 'secrets', name)": ofSecrets(places.config, 'get', prepared),
  "proton-cli.ts: list path('v1', undefined, 'nodes')": anywhere('list', '', 'nodes'),
  'uninstall.ts: DELETE resource': [
    ...ownResources('delete'),
    ...componentObjects('delete'),
    ...ofComponents('delete', '', 'pods'),
  ],
  "uninstall.ts: find path('apps/v1', operator.namespace, 'deployments', operator.deployment)": operators('get'),
  "uninstall.ts: find path('v1', undefined, 'persistentvolumes', name)": anywhere(
    'get',
    '',
    'persistentvolumes',
    'any-volume',
  ),
  'uninstall.ts: find resource': [...ownResources('get'), ...componentObjects('get')],
  "uninstall.ts: list path('apps/v1', namespace, 'statefulsets')": ofComponents('list', 'apps', 'statefulsets'),
  "uninstall.ts: list path('v1', namespace, 'persistentvolumeclaims')": ofComponents(
    'list',
    '',
    'persistentvolumeclaims',
  ),
  "uninstall.ts: list path('v1', undefined, 'persistentvolumes')": anywhere('list', '', 'persistentvolumes'),
  "uninstall.ts: list path('v1', undefined, 'pods')": anywhere('list', '', 'pods'),
  "uninstall.ts: list path('v1', volumes.namespace, 'pods')": inside(componentNamespaces, 'list', '', 'pods'),
};

/** Every access once. */
export const accesses: Access[] = [
  ...new Map(
    Object.values(calls)
      .flat()
      .map((access) => [JSON.stringify(access), access]),
  ).values(),
];

const activities = join(import.meta.dirname, '..', '..', 'src', 'activities');

/** Every call of the API in the code, as `file: METHOD path`. */
export function callsInCode(): string[] {
  const found = new Set<string>();
  for (const file of readdirSync(activities).filter((name) => name.endsWith('.ts') && name !== 'kubernetes-api.ts')) {
    const text = readFileSync(join(activities, file), 'utf8');
    const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
    const visit = (node: ts.Node): void => {
      if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression)) {
        const { expression, name } = node.expression;
        const [first = '', second = ''] = node.arguments.map((argument) =>
          argument.getText(source).replaceAll(/\s+/g, ' '),
        );
        if (/(^|\.)api$/.test(expression.getText(source))) {
          const isRequest = name.text === 'request';
          found.add(`${file}: ${isRequest ? `${first.replaceAll("'", '')} ${second}` : `${name.text} ${first}`}`);
        }
      }
      node.forEachChild(visit);
    };
    visit(source);
  }
  return [...found].sort();
}
