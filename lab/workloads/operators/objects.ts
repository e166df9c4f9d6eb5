/**
 * What the operators of the lab make for a custom resource: names, labels (or none), selectors and owners as the platform's operators do.
 * Pure: objects in, objects out.
 */

export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    generation?: number;
    resourceVersion?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    finalizers?: string[];
    deletionTimestamp?: string;
    ownerReferences?: object[];
  };
  spec?: unknown;
  data?: Record<string, string>;
  status?: unknown;
}

interface Place {
  host: string;
  path: string;
}

export interface MariadbResource extends KubernetesObject {
  spec: {
    replicas?: number;
    secretName: string;
    mariadb: {
      image?: string;
      storage: { capacity?: string; storageClassName?: string; volumeSpec?: Place[] };
    };
  };
}

export interface MongodbResource extends KubernetesObject {
  spec: {
    secretname: string;
    mongodb: {
      image?: string;
      replicas?: number;
      storage: { capacity?: string; storageClassName?: string; volume?: Place[] };
    };
  };
}

export interface NebulaResource extends KubernetesObject {
  spec: {
    enablePVReclaim?: boolean;
    graphd: { replicas?: number; volume?: { host: string; logpath: string }[] };
    metad: { replicas?: number; volume?: { host: string; logpath: string; datapath: string }[] };
    storaged: { replicas?: number; volume?: { host: string; logpath: string; datapath: string[] }[] };
  };
}

/** What an operator makes for one resource. */
export interface Managed {
  volumes: KubernetesObject[];
  claims: KubernetesObject[];
  /** Carry an owner reference: collected with the resource. */
  owned: KubernetesObject[];
}

export interface Settings {
  image: string;
  /** Image of everything that is not the server. */
  sideImage: string;
  /** Exporters and management services beside the servers. */
  sides: boolean;
  /** Arguments of the mariadb server. */
  mariadbArguments: readonly string[];
}

const resources = { requests: { cpu: '1m', memory: '4Mi' } };
const defaultCapacity = '10Gi';

function namespaceOf(resource: KubernetesObject): string {
  return resource.metadata.namespace ?? 'default';
}

function owner(resource: KubernetesObject): object {
  const { name, uid } = resource.metadata;
  return {
    apiVersion: resource.apiVersion,
    kind: resource.kind,
    name,
    uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}

function volume(
  name: string,
  labels: Record<string, string>,
  place: Place,
  capacity: string,
  more: object = {},
): KubernetesObject {
  const term = { key: 'kubernetes.io/hostname', operator: 'In', values: [place.host] };
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name, labels },
    spec: {
      capacity: { storage: capacity },
      accessModes: ['ReadWriteOnce'],
      persistentVolumeReclaimPolicy: 'Retain',
      storageClassName: '',
      local: { path: place.path },
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [term] }] } },
      ...more,
    },
  };
}

function claim(name: string, namespace: string, selector: Record<string, string>, capacity: string): KubernetesObject {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name, namespace },
    spec: {
      accessModes: ['ReadWriteOnce'],
      storageClassName: '',
      selector: { matchLabels: selector },
      resources: { requests: { storage: capacity } },
    },
  };
}

function claimTemplate(name: string, capacity: string, labels?: Record<string, string>): object {
  return {
    metadata: { name, ...(labels === undefined ? {} : { labels }) },
    spec: { accessModes: ['ReadWriteOnce'], storageClassName: '', resources: { requests: { storage: capacity } } },
  };
}

function service(name: string, port: number, selector: Record<string, string>, headless = false): KubernetesObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name },
    spec: {
      ...(headless ? { clusterIP: 'None', publishNotReadyAddresses: true } : {}),
      selector,
      ports: [{ name: 'main', port }],
    },
  };
}

function deployment(name: string, image: string): KubernetesObject {
  const labels = { app: name };
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name },
    spec: {
      replicas: 1,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: { containers: [{ name: 'main', image, imagePullPolicy: 'IfNotPresent', args: ['idle'], resources }] },
      },
    },
  };
}

function logrotate(name: string, schedule: string, image: string, pod: object): KubernetesObject {
  const container = {
    name: 'logrotate',
    image,
    imagePullPolicy: 'IfNotPresent',
    args: ['logrotate', '/data'],
    volumeMounts: [{ name: 'data', mountPath: '/data' }],
  };
  return {
    apiVersion: 'batch/v1',
    kind: 'CronJob',
    metadata: { name },
    spec: {
      schedule,
      concurrencyPolicy: 'Forbid',
      jobTemplate: { spec: { template: { spec: { restartPolicy: 'OnFailure', containers: [container], ...pod } } } },
    },
  };
}

const podEnvironment = ['name', 'namespace'].map((field) => ({
  name: `POD_${field.toUpperCase()}`,
  valueFrom: { fieldRef: { fieldPath: `metadata.${field}` } },
}));

function owned(resource: KubernetesObject, objects: KubernetesObject[]): KubernetesObject[] {
  return objects.map((object) => ({
    ...object,
    metadata: { ...object.metadata, namespace: namespaceOf(resource), ownerReferences: [owner(resource)] },
  }));
}

/** Port of the platform's mariadb. */
const mariadbPort = 3330;

export function mariadbObjects(resource: MariadbResource, settings: Settings): Managed {
  const namespace = namespaceOf(resource);
  const { name } = resource.metadata;
  const app = `${name}-mariadb`;
  const { storage } = resource.spec.mariadb;
  const places = storage.volumeSpec ?? [];
  const capacity = storage.capacity === undefined || storage.capacity === '' ? defaultCapacity : storage.capacity;
  const labels = (index: number): Record<string, string> => ({ app, podindex: String(index) });
  const secret = (key: string): object => ({ secretKeyRef: { name: resource.spec.secretName, key, optional: true } });
  const server = {
    name: 'mariadb',
    image: resource.spec.mariadb.image ?? settings.image,
    imagePullPolicy: 'IfNotPresent',
    args: ['/var/lib/mysql', `--port=${mariadbPort}`, ...settings.mariadbArguments],
    env: [
      ...podEnvironment,
      { name: 'MARIADB_ADMIN_USER', valueFrom: secret('username') },
      { name: 'MARIADB_ADMIN_PASSWORD', valueFrom: secret('password') },
    ],
    ports: [{ containerPort: mariadbPort }],
    readinessProbe: { tcpSocket: { port: mariadbPort }, periodSeconds: 2 },
    resources,
    volumeMounts: [{ name: 'mariadb-datadir', mountPath: '/var/lib/mysql' }],
  };
  const statefulSet: KubernetesObject = {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name: app },
    spec: {
      replicas: resource.spec.replicas ?? places.length,
      podManagementPolicy: 'Parallel',
      serviceName: app,
      selector: { matchLabels: { app } },
      template: {
        metadata: { labels: { app } },
        spec: { securityContext: { fsGroup: 1001 }, containers: [server] },
      },
      volumeClaimTemplates: [claimTemplate('mariadb-datadir', capacity)],
    },
  };
  return {
    volumes: places.map((place, index) => volume(`${namespace}-${app}-pv-${index}`, labels(index), place, capacity)),
    claims: places.map((_, index) => claim(`mariadb-datadir-${app}-${index}`, namespace, labels(index), capacity)),
    owned: owned(resource, [
      service(app, mariadbPort, { app }, true),
      service(`${app}-cluster`, mariadbPort, { app }),
      { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: `${name}-config` }, data: { 'my.cnf': '[mariadbd]\n' } },
      statefulSet,
      deployment(`${name}-etcd`, settings.sideImage),
      ...(settings.sides
        ? [
            deployment(`${name}-mgmt`, settings.sideImage),
            service(`${name}-mgmt-cluster`, 8888, { app: `${name}-mgmt` }),
            deployment(`${name}-exporter`, settings.sideImage),
          ]
        : []),
      ...places.map((place, index) =>
        logrotate(`${name}-logrotate-${index}`, '0 18 * * *', settings.sideImage, {
          nodeSelector: { 'kubernetes.io/hostname': place.host },
          volumes: [{ name: 'data', hostPath: { path: place.path } }],
        }),
      ),
    ]),
  };
}

/** The service that the operator's watcher makes once, for the pod it has labelled as master. */
export function mariadbMasterService(resource: KubernetesObject): KubernetesObject {
  const app = `${resource.metadata.name}-mariadb`;
  const made = service(`${app}-master`, mariadbPort, { app, 'db-role': 'master' });
  return owned(resource, [made])[0] ?? made;
}

export function mongodbObjects(resource: MongodbResource, settings: Settings): Managed {
  const namespace = namespaceOf(resource);
  const { name } = resource.metadata;
  const app = `${name}-mongodb`;
  const { storage, replicas, image } = resource.spec.mongodb;
  const places = storage.volume ?? [];
  const capacity = storage.capacity === undefined || storage.capacity === '' ? defaultCapacity : storage.capacity;
  const labels = (index: number): Record<string, string> => ({ app, podindex: String(index), namespace });
  const claimName = (index: number): string => `mongodb-datadir-${app}-${index}`;
  const port = 28000;
  const server = {
    name: 'mongodb',
    image: image ?? settings.image,
    imagePullPolicy: 'IfNotPresent',
    args: ['serve', '--kind', 'mongodb', '--data', '/data/mongodb', '--port', String(port)],
    env: podEnvironment,
    ports: [{ containerPort: port }],
    readinessProbe: { httpGet: { path: '/health', port }, periodSeconds: 2 },
    resources,
    volumeMounts: [{ name: 'mongodb-datadir', mountPath: '/data/mongodb' }],
  };
  return {
    volumes: places.map((place, index) =>
      volume(`${app}-${namespace}-${index}`, labels(index), place, capacity, {
        claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name: claimName(index) },
      }),
    ),
    claims: places.map((_, index) => claim(claimName(index), namespace, labels(index), capacity)),
    owned: owned(resource, [
      service(app, port, { app }, true),
      {
        apiVersion: 'apps/v1',
        kind: 'StatefulSet',
        metadata: { name: app },
        spec: {
          replicas: replicas ?? places.length,
          podManagementPolicy: 'Parallel',
          serviceName: app,
          selector: { matchLabels: { app } },
          template: {
            metadata: { labels: { app } },
            spec: { securityContext: { fsGroup: 1001 }, containers: [server] },
          },
          volumeClaimTemplates: [claimTemplate('mongodb-datadir', capacity)],
        },
      },
      ...places.map((_, index) =>
        logrotate(`logrotate-cron-${index}`, '*/30 * * * *', settings.sideImage, {
          volumes: [{ name: 'data', persistentVolumeClaim: { claimName: claimName(index) } }],
        }),
      ),
    ]),
  };
}

const nebulaPorts = { graphd: 9669, metad: 9559, storaged: 9779 } as const;
export const nebulaKinds = ['graphd', 'metad', 'storaged'] as const;

/** Names of the fork are not known; these follow the upstream operator (claims) and the cluster's name (volumes). */
export function nebulaObjects(resource: NebulaResource, settings: Settings): Managed {
  const namespace = namespaceOf(resource);
  const cluster = resource.metadata.name;
  const made: Managed = { volumes: [], claims: [], owned: [] };
  for (const kind of nebulaKinds) {
    const labels = {
      'app.kubernetes.io/cluster': cluster,
      'app.kubernetes.io/component': kind,
      'app.kubernetes.io/managed-by': 'nebula-operator',
      'app.kubernetes.io/name': 'nebula-graph',
    };
    const set = `${cluster}-${kind}`;
    const places: { host: string; paths: Record<string, string> }[] =
      kind === 'graphd'
        ? (resource.spec.graphd.volume ?? []).map(({ host, logpath }) => ({ host, paths: { 'graphd-log': logpath } }))
        : kind === 'metad'
          ? (resource.spec.metad.volume ?? []).map(({ host, logpath, datapath }) => ({
              host,
              paths: { 'metad-log': logpath, 'metad-data': datapath },
            }))
          : (resource.spec.storaged.volume ?? []).map(({ host, logpath, datapath }) => ({
              host,
              paths: { 'storaged-log': logpath, 'storaged-data': datapath[0] ?? '' },
            }));
    const templates = Object.keys(places[0]?.paths ?? {});
    for (const [index, { host, paths }] of places.entries()) {
      for (const [template, path] of Object.entries(paths)) {
        const name = `${template}-${set}-${index}`;
        const own = { ...labels, 'lab/volume': name };
        made.volumes.push(volume(`${cluster}-${template}-${index}`, own, { host, path }, defaultCapacity));
        const claimed = claim(name, namespace, own, defaultCapacity);
        made.claims.push({ ...claimed, metadata: { ...claimed.metadata, labels } });
      }
    }
    const port = nebulaPorts[kind];
    const data = kind === 'graphd' ? '/usr/local/nebula/logs' : '/usr/local/nebula/data';
    const mounts = templates.map((template) => ({
      name: template,
      mountPath: template.endsWith('-log') ? '/usr/local/nebula/logs' : '/usr/local/nebula/data',
    }));
    made.owned.push(
      ...owned(resource, [
        service(`${set}-headless`, port, labels, true),
        {
          apiVersion: 'apps/v1',
          kind: 'StatefulSet',
          metadata: { name: set, labels },
          spec: {
            replicas: resource.spec[kind].replicas ?? places.length,
            podManagementPolicy: 'Parallel',
            serviceName: `${set}-headless`,
            selector: { matchLabels: labels },
            template: {
              metadata: { labels },
              spec: {
                containers: [
                  {
                    name: kind,
                    image: settings.image,
                    imagePullPolicy: 'IfNotPresent',
                    args: ['serve', '--kind', `nebula-${kind}`, '--data', data, '--port', String(port)],
                    env: podEnvironment,
                    ports: [{ containerPort: port }],
                    readinessProbe: { httpGet: { path: '/health', port }, periodSeconds: 2 },
                    resources,
                    volumeMounts: mounts,
                  },
                ],
              },
            },
            volumeClaimTemplates: templates.map((template) => claimTemplate(template, defaultCapacity, labels)),
          },
        },
      ]),
    );
  }
  return made;
}
