/** Applications of the lab platform in namespace `anyshare`: one of each kind that a maintenance window has to stop and start. */
import { imageReference } from './images.ts';
import type { Source } from './components.ts';

export const applicationNamespace = 'anyshare';

type Manifest = Record<string, unknown>;

const resources = { requests: { cpu: '1m', memory: '4Mi' } };

function pod(name: string, args: string[], more: object = {}, containerMore: object = {}): object {
  const container = {
    name: 'main',
    image: imageReference('writer'),
    imagePullPolicy: 'IfNotPresent',
    args,
    resources,
    ...containerMore,
  };
  return {
    metadata: { labels: { app: name } },
    spec: { terminationGracePeriodSeconds: 5, containers: [container], ...more },
  };
}

function workload(kind: string, name: string, spec: object, template: object): Manifest {
  return {
    apiVersion: 'apps/v1',
    kind,
    metadata: { name, namespace: applicationNamespace, labels: { app: name } },
    spec: { ...spec, selector: { matchLabels: { app: name } }, template },
  };
}

function cronJob(name: string, schedule: string, suspend: boolean): Manifest {
  return {
    apiVersion: 'batch/v1',
    kind: 'CronJob',
    metadata: { name, namespace: applicationNamespace },
    spec: {
      schedule,
      suspend,
      concurrencyPolicy: 'Forbid',
      successfulJobsHistoryLimit: 1,
      failedJobsHistoryLimit: 1,
      jobTemplate: {
        spec: {
          backoffLimit: 0,
          template: pod(name, ['job', '--seconds', '5'], { restartPolicy: 'Never' }),
        },
      },
    },
  };
}

const account = 'ledger-client';

function permissions(sources: readonly Source[]): Manifest[] {
  const namespaces = [...new Set(sources.map(({ namespace }) => namespace))];
  return namespaces.flatMap((namespace) => {
    const secrets = sources.flatMap((source) =>
      source.namespace === namespace && source.secret !== undefined ? [source.secret] : [],
    );
    const metadata = { name: account, namespace };
    return [
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'Role',
        metadata,
        rules: [
          { apiGroups: [''], resources: ['pods'], verbs: ['get', 'list'] },
          { apiGroups: [''], resources: ['secrets'], resourceNames: secrets, verbs: ['get'] },
        ],
      },
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'RoleBinding',
        metadata,
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: account },
        subjects: [{ kind: 'ServiceAccount', name: account, namespace: applicationNamespace }],
      },
    ];
  });
}

/** Manifests of all applications. `ledgerUrl` is where the client reports what was acknowledged; it writes a record to each ordinal per `interval`. */
export function applicationManifests(sources: readonly Source[], ledgerUrl: string, interval = '1s'): Manifest[] {
  const namespace = applicationNamespace;
  const command = ['client', '--targets', '/etc/ledger/targets.json', '--ledger', ledgerUrl, '--interval', interval];
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: account, namespace } },
    ...permissions(sources),
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'ledger-targets', namespace },
      data: { 'targets.json': JSON.stringify(sources, null, 1) },
    },
    workload(
      'Deployment',
      'ledger-client',
      { replicas: 1, strategy: { type: 'Recreate' } },
      pod(
        'ledger-client',
        command,
        {
          serviceAccountName: account,
          terminationGracePeriodSeconds: 30,
          volumes: [{ name: 'targets', configMap: { name: 'ledger-targets' } }],
        },
        { volumeMounts: [{ name: 'targets', mountPath: '/etc/ledger' }] },
      ),
    ),
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'deploy-service', namespace },
      data: { secret: 'proton-cli-config', namespace: 'proton', key: 'ClusterConfiguration' },
    },
    workload('Deployment', 'deploy-service', { replicas: 1 }, pod('deploy-service', ['idle'])),
    workload('Deployment', 'document-service', { replicas: 2 }, pod('document-service', ['idle'])),
    workload('Deployment', 'legacy-gateway', { replicas: 0 }, pod('legacy-gateway', ['idle'])),
    workload(
      'StatefulSet',
      'search-index',
      { replicas: 2, serviceName: 'search-index' },
      pod('search-index', ['idle']),
    ),
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'search-index', namespace },
      spec: { clusterIP: 'None', selector: { app: 'search-index' }, ports: [{ port: 80 }] },
    },
    workload(
      'DaemonSet',
      'log-agent',
      {},
      pod('log-agent', ['idle'], { nodeSelector: { 'kubernetes.io/os': 'linux' } }),
    ),
    cronJob('session-cleanup', '* * * * *', false),
    cronJob('yearly-audit', '0 3 1 1 *', true),
    {
      apiVersion: 'autoscaling/v2',
      kind: 'HorizontalPodAutoscaler',
      metadata: { name: 'document-service', namespace },
      spec: {
        minReplicas: 2,
        maxReplicas: 4,
        scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'document-service' },
        metrics: [
          { type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 80 } } },
        ],
      },
    },
  ];
}
