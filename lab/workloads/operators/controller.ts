import { pathOf, refusal, type Api } from './api.ts';
import {
  mariadbMasterService,
  mariadbObjects,
  mongodbObjects,
  nebulaObjects,
  type KubernetesObject,
  type Managed,
  type MariadbResource,
  type MongodbResource,
  type NebulaResource,
  type Settings,
} from './objects.ts';

export type OperatorKind = 'mariadb' | 'mongodb' | 'nebula';

export interface ControllerSettings extends Settings {
  /** Nebula only: whether claims go with the resource. */
  reclaim: boolean;
}

const collections: Record<OperatorKind, string> = {
  mariadb: '/apis/rds.proton.aishu.cn/v1/rdsmariadbclusters',
  mongodb: '/apis/mongodb.proton.aishu.cn/v1/mongodboperators',
  nebula: '/apis/apps.nebula-graph.io/v1alpha1/nebulaclusters',
};

/** How often everything is looked at again although the resource did not change, in milliseconds. */
const resync = 10_000;
const finalizers = ['delete-storage', 'delete-app'];

function ok(status: number): boolean {
  return status >= 200 && status < 300;
}

export class Controller {
  readonly #kind: OperatorKind;
  readonly #api: Api;
  readonly #log: (line: string) => void;
  readonly #settings: ControllerSettings;
  /** When a resource was reconciled last, and as what. */
  readonly #reconciled = new Map<string, { at: number; generation: number }>();
  /** Resources whose master watcher runs (mariadb). A watcher ends with finalizer delete-app or with the process, nothing else. */
  readonly #watchers = new Map<string, MariadbResource>();

  constructor(kind: OperatorKind, api: Api, log: (line: string) => void, settings: ControllerSettings) {
    this.#kind = kind;
    this.#api = api;
    this.#log = log;
    this.#settings = settings;
  }

  /** One look at all resources of the kind. */
  async round(): Promise<void> {
    const answer = await this.#api.call('GET', collections[this.#kind]);
    if (!ok(answer.status)) throw new Error(`list resources: ${refusal(answer)}`);
    const { items } = answer.body as { items: KubernetesObject[] };
    // items of a list carry no kind of their own
    const { kind, apiVersion } = answer.body as { kind: string; apiVersion: string };
    for (const item of items) await this.#look({ ...item, apiVersion, kind: kind.replace(/List$/, '') });
    for (const resource of this.#watchers.values()) await this.#electMaster(resource);
  }

  /** Another pod leads. */
  stopWatching(): void {
    this.#watchers.clear();
    this.#reconciled.clear();
  }

  async #look(resource: KubernetesObject): Promise<void> {
    const id = `${resource.metadata.namespace ?? ''}/${resource.metadata.name}`;
    if (resource.metadata.deletionTimestamp !== undefined) {
      this.#reconciled.delete(id);
      if (this.#kind === 'mariadb') await this.#finalizeMariadb(id, resource as MariadbResource);
      return;
    }
    const last = this.#reconciled.get(id);
    const generation = resource.metadata.generation ?? 0;
    if (last?.generation === generation && Date.now() - last.at < resync) return;
    if (last === undefined) this.#log(`${id}: reconcile`);
    await this.#reconcile(resource);
    this.#reconciled.set(id, { at: Date.now(), generation });
    if (this.#kind !== 'mariadb') return;
    await this.#setFinalizers(resource, finalizers);
    if (!this.#watchers.has(id)) {
      this.#watchers.set(id, resource as MariadbResource);
      await this.#startMasterWatcher(id, resource);
    }
  }

  #objects(resource: KubernetesObject): Managed {
    if (this.#kind === 'mariadb') return mariadbObjects(resource as MariadbResource, this.#settings);
    if (this.#kind === 'mongodb') return mongodbObjects(resource as MongodbResource, this.#settings);
    const managed = nebulaObjects(resource as NebulaResource, this.#settings);
    if (!this.#settings.reclaim) return managed;
    const ownerReferences = managed.owned[0]?.metadata.ownerReferences ?? [];
    const claims = managed.claims.map((claim) => ({ ...claim, metadata: { ...claim.metadata, ownerReferences } }));
    return { ...managed, claims };
  }

  async #reconcile(resource: KubernetesObject): Promise<void> {
    const { volumes, claims, owned } = this.#objects(resource);
    for (const volume of volumes) {
      if (this.#kind === 'mariadb') await this.#apply(volume, true);
      else await this.#create(volume);
    }
    for (const claim of claims) await this.#create(claim);
    for (const object of owned) await this.#apply(object, false);
  }

  /** What exists is left as it is. */
  async #create(object: KubernetesObject): Promise<boolean> {
    const answer = await this.#api.call('POST', pathOf(object, true), object);
    if (ok(answer.status)) {
      this.#log(`created ${object.kind} ${object.metadata.name}`);
      return true;
    }
    if (answer.status !== 409) throw new Error(`create ${object.kind} ${object.metadata.name}: ${refusal(answer)}`);
    return false;
  }

  async #apply(object: KubernetesObject, invalidIsSuccess: boolean): Promise<void> {
    const path = `${pathOf(object)}?fieldManager=operator&force=true`;
    const answer = await this.#api.call('PATCH', path, object, 'application/apply-patch+yaml');
    if (ok(answer.status)) return;
    const line = `apply ${object.kind} ${object.metadata.name}: ${refusal(answer)}`;
    if (answer.status === 422 && invalidIsSuccess) {
      // so does the platform's operator: a leftover volume keeps pointing to the old node
      this.#log(line);
      return;
    }
    throw new Error(line);
  }

  async #delete(object: KubernetesObject): Promise<void> {
    const answer = await this.#api.call('DELETE', pathOf(object));
    if (!ok(answer.status) && answer.status !== 404)
      throw new Error(`delete ${object.kind} ${object.metadata.name}: ${refusal(answer)}`);
    this.#log(`deleted ${object.kind} ${object.metadata.name}`);
  }

  #resourcePath(resource: KubernetesObject): string {
    const collection = collections[this.#kind];
    const slash = collection.lastIndexOf('/');
    const namespace = resource.metadata.namespace ?? 'default';
    return `${collection.slice(0, slash)}/namespaces/${namespace}${collection.slice(slash)}/${resource.metadata.name}`;
  }

  async #setFinalizers(resource: KubernetesObject, wanted: string[]): Promise<void> {
    const present = resource.metadata.finalizers ?? [];
    if (present.length === wanted.length && wanted.every((name) => present.includes(name))) return;
    const answer = await this.#api.call(
      'PATCH',
      this.#resourcePath(resource),
      { metadata: { finalizers: wanted } },
      'application/merge-patch+json',
    );
    if (!ok(answer.status) && answer.status !== 404) throw new Error(`set finalizers: ${refusal(answer)}`);
  }

  async #finalizeMariadb(id: string, resource: MariadbResource): Promise<void> {
    const present = resource.metadata.finalizers ?? [];
    if (present.includes('delete-storage')) {
      const { volumes, claims } = this.#objects(resource);
      for (const [index, volume] of volumes.entries()) {
        const claim = claims[index];
        if (claim !== undefined) await this.#delete(claim);
        await this.#delete(volume);
      }
    }
    if (present.includes('delete-app')) {
      this.#watchers.delete(id);
      this.#log(`${id}: watcher stopped`);
    }
    await this.#setFinalizers(
      resource,
      present.filter((name) => !finalizers.includes(name)),
    );
  }

  /** The service is made here, once; that it cannot be (an old one is still being collected) is not noticed. */
  async #startMasterWatcher(id: string, resource: KubernetesObject): Promise<void> {
    try {
      const made = await this.#create(mariadbMasterService(resource));
      this.#log(`${id}: watcher started, master service ${made ? 'created' : 'exists'}`);
    } catch (error) {
      this.#log(`${id}: master service: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  async #electMaster(resource: MariadbResource): Promise<void> {
    const namespace = resource.metadata.namespace ?? 'default';
    const app = `${resource.metadata.name}-mariadb`;
    const root = `/api/v1/namespaces/${namespace}`;
    const answer = await this.#api.call('GET', `${root}/pods?labelSelector=${encodeURIComponent(`app=${app}`)}`);
    if (!ok(answer.status)) throw new Error(`list pods: ${refusal(answer)}`);
    const { items } = answer.body as { items: (KubernetesObject & { status?: PodStatus })[] };
    const ready = items
      .filter((pod) => pod.metadata.deletionTimestamp === undefined)
      .filter(
        (pod) => pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true,
      )
      .sort((a, b) => a.metadata.name.localeCompare(b.metadata.name));
    const master = ready.find((pod) => pod.metadata.labels?.['db-role'] === 'master') ?? ready[0];
    for (const pod of items) {
      const role = pod === master ? 'master' : 'backup';
      if (pod.metadata.labels?.['db-role'] === role) continue;
      const patch = { metadata: { labels: { 'db-role': role } } };
      await this.#api.call('PATCH', `${root}/pods/${pod.metadata.name}`, patch, 'application/merge-patch+json');
      this.#log(`${pod.metadata.name}: ${role}`);
    }
  }
}

interface PodStatus {
  conditions?: { type: string; status: string }[];
}

interface LeaseSpec {
  holderIdentity?: string;
  renewTime?: string;
}

const leaseSeconds = 15;

/** Leader election: true if this pod holds the lease now. Taken over when it was not renewed for 15 s. */
export async function holdLease(
  api: Api,
  lease: { namespace: string; name: string; holder: string },
  now: number,
): Promise<boolean> {
  const collection = `/apis/coordination.k8s.io/v1/namespaces/${lease.namespace}/leases`;
  const path = `${collection}/${lease.name}`;
  const spec = {
    holderIdentity: lease.holder,
    leaseDurationSeconds: leaseSeconds,
    renewTime: new Date(now).toISOString().replace('Z', '000Z'),
  };
  const found = await api.call('GET', path);
  if (found.status === 404) {
    const metadata = { name: lease.name, namespace: lease.namespace };
    const made = await api.call('POST', collection, {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata,
      spec,
    });
    return ok(made.status);
  }
  if (!ok(found.status)) throw new Error(`read lease: ${refusal(found)}`);
  const held = found.body as KubernetesObject & { spec: LeaseSpec };
  const renewed = Date.parse(held.spec.renewTime ?? '1970-01-01T00:00:00Z');
  if (held.spec.holderIdentity === lease.holder && now - renewed < 3000) return true;
  if (held.spec.holderIdentity !== lease.holder && now - renewed < leaseSeconds * 1000) return false;
  // the resourceVersion inside makes sure that of two pods only one takes it
  const taken = await api.call('PUT', path, { ...held, spec: { ...held.spec, ...spec } });
  return ok(taken.status);
}
