import type { Lease } from '../../../src/activities/cluster-lease.ts';
import { ApiError, type KubernetesApi, type RequestOptions } from '../../../src/activities/kubernetes-api.ts';

/** The Lease of an API server, with its rules for versions. */
export class LeaseStore {
  lease: Lease | undefined;
  version = 1;
  readonly api = {
    server: 'https://10.0.0.11:6443',
    find: () => Promise.resolve(structuredClone(this.lease)),
    request: (method: string, _path: string, { body }: RequestOptions = {}) =>
      Promise.resolve().then(() => this.change(method, body as Lease & { preconditions?: Lease['metadata'] })),
  } as unknown as KubernetesApi;
  /** Runs once, right before the next write. */
  meanwhile: () => void = () => undefined;

  change(method: string, body: Lease & { preconditions?: Lease['metadata'] }): void {
    const meanwhile = this.meanwhile;
    this.meanwhile = () => undefined;
    meanwhile();
    const conflict = new ApiError(409, 'Conflict', 'it is another one now');
    if (method === 'POST' && this.lease !== undefined) throw new ApiError(409, 'AlreadyExists', 'it exists');
    const seen = method === 'DELETE' ? body.preconditions?.resourceVersion : body.metadata.resourceVersion;
    if (method !== 'POST' && seen !== this.lease?.metadata.resourceVersion) throw conflict;
    this.version += 1;
    this.lease =
      method === 'DELETE'
        ? undefined
        : { ...body, metadata: { ...body.metadata, uid: 'u1', resourceVersion: `${this.version}` } };
  }
}
