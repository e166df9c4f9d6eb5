/* Planned components for tests, and their objects in a cluster. */
import { type KubernetesApi, path } from '../../src/activities/kubernetes-api.ts';
import type { ComponentKind, PlannedComponent } from '../../src/plan/plan.ts';
import { create } from './api-server.ts';

/** A component with one replica per host pair, with names that tell the namespace apart. */
export function planned(
  kind: ComponentKind,
  namespace: string,
  statefulSet: string,
  pairs: readonly (readonly [from: string, to: string])[],
): PlannedComponent {
  return {
    kind,
    namespace,
    statefulSets: [statefulSet],
    dataPath: `/sysvol/${statefulSet}`,
    newDataPath: `/sysvol/${statefulSet}`,
    replicas: pairs.map(([from, to], ordinal) => ({
      ordinal,
      from,
      to,
      pod: `${statefulSet}-${ordinal}`,
      pvc: `data-${statefulSet}-${ordinal}`,
      pv: `${namespace}-${statefulSet}-${ordinal}`,
    })),
  };
}

export interface VolumeOptions {
  side?: 'from' | 'to';
  policy?: string;
  path?: string;
}

/** PV and PVC of every replica, bound by claimRef as the controllers would by selector. */
export async function createVolumes(
  api: KubernetesApi,
  component: PlannedComponent,
  { side = 'from', policy = 'Retain', path: local = component.dataPath }: VolumeOptions = {},
): Promise<void> {
  for (const replica of component.replicas) {
    const host = { key: 'kubernetes.io/hostname', operator: 'In', values: [replica[side]] };
    await create(api, path('v1', undefined, 'persistentvolumes'), {
      metadata: { name: replica.pv },
      spec: {
        capacity: { storage: '1Gi' },
        accessModes: ['ReadWriteOnce'],
        persistentVolumeReclaimPolicy: policy,
        storageClassName: '',
        local: { path: local },
        claimRef: {
          apiVersion: 'v1',
          kind: 'PersistentVolumeClaim',
          namespace: component.namespace,
          name: replica.pvc,
        },
        nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [host] }] } },
      },
    });
    await create(api, path('v1', component.namespace, 'persistentvolumeclaims'), claim(replica.pvc, replica.pv));
  }
}

export function claim(name: string, volume?: string): object {
  return {
    metadata: { name },
    spec: {
      accessModes: ['ReadWriteOnce'],
      storageClassName: '',
      resources: { requests: { storage: '1Gi' } },
      ...(volume !== undefined && { volumeName: volume }),
    },
  };
}
