import type { ComponentKind, Host } from './plan.ts';

/*
 * What was seen of a live platform when a plan is made: names, hosts, paths and sizes. Values of Secrets never get in here.
 */

export interface NodeFact {
  name: string;
  /** Internal address of the Kubernetes Node. */
  address?: string;
  controlPlane: boolean;
  ready: boolean;
  /** Label `kubernetes.io/hostname`. */
  hostnameLabel?: string;
  /** e.g. `containerd://1.7.24`. */
  runtime?: string;
}

export interface ReplicaFact {
  ordinal: number;
  /** `hosts[ordinal]` of the configuration. */
  host: string;
  pod: string;
  pvc: string;
  pv: string;
  /** What the live objects say; absent: the object does not exist or does not say. */
  live: { node?: string; volumeHost?: string; volumePath?: string; reclaimPolicy?: string };
}

export interface ComponentFact {
  kind: ComponentKind;
  namespace: string;
  statefulSets: string[];
  /** Absent: the configuration names none. */
  dataPath?: string;
  /** Set: the component is not on node-local directories and does not move. */
  storageClassName?: string;
  /** `params.hosts` and `params.data_path` as component-manage recorded them. */
  recorded?: { hosts: string[]; dataPath?: string; version?: string };
  replicas: ReplicaFact[];
}

/** The parts of `proton-cli-config` that name nodes or decide whether a migration can work. */
export interface ConfigFact {
  nodes: { name: string; ip4?: string }[];
  masters: string[];
  registryHosts: string[];
  registryStorage?: string;
  containerRuntime?: 'containerd' | 'docker';
  deployNamespace?: string;
  ecephHosts: string[];
}

/** A machine of the mapping or the cluster, with what it answered. */
export interface HostFact extends Host {
  /** Content of proton-version.txt. */
  packageVersion?: string;
  /** Units of the platform that exist there. */
  units: string[];
  /** Directories that look like an extracted dependency package. */
  packageDirectories: string[];
  /** etcd and API server run here as static pods of kubelet. */
  staticControlPlane?: boolean;
  /** Why it could not be asked. */
  unreachable?: string;
}

export interface SourceFact {
  host: string;
  path: string;
  bytes: number;
  files: number;
}

export interface DestinationFact {
  host: string;
  path: string;
  freeBytes: number;
  freeInodes: number;
}

export interface Facts {
  takenAt: string;
  server: string;
  /** Names as `platform.configNamespace` and `platform.resourceNamespace`. */
  configNamespace: string;
  resourceNamespace: string;
  kubernetesVersion?: string;
  nodes: NodeFact[];
  config: ConfigFact;
  components: ComponentFact[];
  /** Namespaces with workloads that are not the platform's own. */
  applicationNamespaces: string[];
  hosts: HostFact[];
  sources: SourceFact[];
  destinations: DestinationFact[];
}
