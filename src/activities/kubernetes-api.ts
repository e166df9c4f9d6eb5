import { PassThrough, Writable } from 'node:stream';
import { type ApplicationFailure } from '@temporalio/common';
import {
  HttpMethod,
  IsomorphicFetchHttpLibrary,
  KubeConfig,
  PortForward,
  RequestContext,
} from '@kubernetes/client-node';
import { errorText, isClassified, needsHuman, networkCode, permanent, transient } from './failures.ts';

/** Parts of an object's metadata that are looked at. */
export interface Metadata {
  name: string;
  namespace?: string;
  uid?: string;
  generation?: number;
  resourceVersion?: string;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  finalizers?: string[];
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: { kind: string; name: string; uid: string; controller?: boolean }[];
}
export interface KubernetesObject {
  apiVersion?: string;
  kind?: string;
  metadata: Metadata;
}

/** An answer of the API server that is not a success. `body` is its Status message, never the object. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly code: number;
  readonly reason: string | undefined;
  constructor(code: number, reason: string | undefined, message: string) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

export interface RequestOptions {
  body?: unknown;
  /** Default `application/json`; merge patches for PATCH. */
  contentType?: string;
  query?: Record<string, string>;
  /** Milliseconds; default 10 000. */
  timeout?: number;
}

/** A TCP connection to a port of a pod, through the API server. */
export interface PodSocket {
  write(bytes: Buffer | string): void;
  /** Everything received since the last read, as soon as it is enough; throws when the time is over or the connection ends before. */
  read(isEnough: (received: Buffer) => boolean): Promise<Buffer>;
  close(): void;
}

/**
 * The Kubernetes API with a time limit on every call. Objects come and go as plain JSON, so that fields this program does not
 * know are never lost on the way. Answers other than success throw `ApiError`; network trouble throws what the client threw.
 */
export interface KubernetesApi {
  request<T>(method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, options?: RequestOptions): Promise<T>;
  /** The object, or undefined when it does not exist. */
  find<T>(path: string): Promise<T | undefined>;
  /** All items, page by page; a page that fails fails the list. */
  list<T>(path: string, query?: Record<string, string>): Promise<T[]>;
  /** Opens a connection to a port of a pod; `timeout` (milliseconds, default 15 000) covers all of it. */
  connect(target: { namespace: string; pod: string; port: number }, timeout?: number): Promise<PodSocket>;
  /** Address of the API server, for messages. */
  readonly server: string;
}

/** Path of an object or a collection: `path('apps/v1', 'resource', 'statefulsets', 'kafka')`. Core group: `v1`. */
export function path(groupVersion: string, namespace: string | undefined, plural: string, name?: string): string {
  const root = groupVersion === 'v1' ? '/api/v1' : `/apis/${groupVersion}`;
  const parts = [
    ...(namespace === undefined ? [] : ['namespaces', namespace]),
    plural,
    ...(name === undefined ? [] : [name]),
  ];
  return [root, ...parts.map((part) => encodeURIComponent(part))].join('/');
}

/** kubeconfig by the usual conventions: KUBECONFIG, ~/.kube/config, in-cluster; or the given file. */
export function loadKubeConfig(file?: string): KubeConfig {
  const config = new KubeConfig();
  if (file === undefined) config.loadFromDefault();
  else config.loadFromFile(file);
  return config;
}

export function createKubernetesApi(config: KubeConfig): KubernetesApi {
  const server = config.getCurrentCluster()?.server;
  if (server === undefined) throw new Error('the kubeconfig names no current cluster');
  const http = new IsomorphicFetchHttpLibrary();

  async function request<T>(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    resource: string,
    options: RequestOptions = {},
  ): Promise<T> {
    const query = new URLSearchParams(options.query).toString();
    const context = new RequestContext(
      `${(server as string).replace(/\/$/, '')}${resource}${query === '' ? '' : `?${query}`}`,
      HttpMethod[method],
    );
    context.setSignal(AbortSignal.timeout(options.timeout ?? 10_000));
    context.setHeaderParam('Accept', 'application/json');
    if (options.body !== undefined) {
      const fallback = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
      context.setHeaderParam('Content-Type', options.contentType ?? fallback);
      context.setBody(JSON.stringify(options.body));
    }
    await config.applySecurityAuthentication(context);
    const response = await http.send(context).toPromise();
    const text = await response.body.text();
    if (response.httpStatusCode >= 200 && response.httpStatusCode < 300) {
      const type = response.headers['content-type'] ?? '';
      return (type.startsWith('application/json') ? JSON.parse(text) : text) as T;
    }
    throw statusError(response.httpStatusCode, text);
  }

  async function find<T>(resource: string): Promise<T | undefined> {
    try {
      return await request<T>('GET', resource);
    } catch (error) {
      if (error instanceof ApiError && error.code === 404) return undefined;
      throw error;
    }
  }

  async function list<T>(resource: string, query: Record<string, string> = {}): Promise<T[]> {
    const items: T[] = [];
    let next: string | undefined;
    do {
      const page: { items?: T[]; metadata?: { continue?: string } } = await request('GET', resource, {
        query: { ...query, limit: '500', ...(next !== undefined && { continue: next }) },
        timeout: 30_000,
      });
      // A list without items would read as "nothing there": that must be an answer, not a gap in one.
      if (!Array.isArray(page.items)) throw new ApiError(502, 'BadGateway', `${resource} did not answer with a list`);
      items.push(...page.items);
      next = page.metadata?.continue === '' ? undefined : page.metadata?.continue;
    } while (next !== undefined);
    return items;
  }

  async function connect(
    target: { namespace: string; pod: string; port: number },
    timeout = 15_000,
  ): Promise<PodSocket> {
    const end = Date.now() + timeout;
    const input = new PassThrough();
    let received = Buffer.alloc(0);
    let closed = false;
    let wake: () => void = () => undefined;
    const output = new Writable({
      write(chunk: Buffer, _encoding, done) {
        received = Buffer.concat([received, chunk]);
        wake();
        done();
      },
    });
    const complaints = new Writable({ write: (_chunk, _encoding, done) => done() });
    const opening = new PortForward(config).portForward(
      target.namespace,
      target.pod,
      [target.port],
      output,
      complaints,
      input,
    );
    // The client's own type of the socket comes from a package without resolvable types.
    const socket = (await within(opening, end)) as unknown as {
      close(): void;
      on(event: 'close', listener: () => void): void;
    };
    socket.on('close', () => {
      closed = true;
      wake();
    });

    async function read(isEnough: (received: Buffer) => boolean): Promise<Buffer> {
      while (!isEnough(received)) {
        if (closed) throw Object.assign(new Error('the pod closed the connection'), { code: 'ECONNRESET' });
        const arrival = new Promise<void>((resolve) => {
          wake = resolve;
        });
        await within(arrival, end);
      }
      const answer = received;
      received = Buffer.alloc(0);
      return answer;
    }
    return { read, write: (bytes) => void input.write(bytes), close: () => socket.close() };
  }

  return { request, find, list, connect, server };
}

async function within<T>(promise: Promise<T>, end: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    const late = (): void => reject(Object.assign(new Error('no answer in time'), { code: 'ETIMEDOUT' }));
    timer = setTimeout(late, Math.max(end - Date.now(), 0));
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}

function statusError(code: number, text: string): ApiError {
  try {
    const status = JSON.parse(text) as { reason?: string; message?: string };
    return new ApiError(code, status.reason, status.message ?? `HTTP ${code}`);
  } catch {
    return new ApiError(code, undefined, `HTTP ${code}: ${text.slice(0, 200)}`);
  }
}

export type ApiErrorClass = 'transient' | 'conflict' | 'absent' | 'needs-human' | 'permanent' | 'unknown';

/** Which way an error of the API heals. Network trouble, 5xx, 408, 429 and an expired list (410) heal by themselves; rights by a human; bad requests never. */
export function classifyApiError(error: unknown): ApiErrorClass {
  if (error instanceof ApiError) {
    if (error.code === 404) return 'absent';
    if (error.code === 409) return 'conflict';
    if (error.code === 401 || error.code === 403) return 'needs-human';
    if ([408, 410, 429].includes(error.code) || error.code >= 500) return 'transient';
    return 'permanent';
  }
  return networkCode(error) === undefined ? 'unknown' : 'transient';
}

/** Writes to an object that may be gone by now; false when it is, which for many writes is as good as done. */
export async function ifThere(write: () => Promise<unknown>): Promise<boolean> {
  try {
    await write();
    return true;
  } catch (error) {
    if (classifyApiError(error) === 'absent') return false;
    throw error;
  }
}

/** Wraps an error of the API into a classified failure; classified ones and unknown ones pass unchanged. */
export function apiFailure(
  error: unknown,
  doing: string,
  untouched: string,
  server: string,
): ApplicationFailure | Error {
  if (isClassified(error)) return error as ApplicationFailure;
  const failure = { what: `${doing} failed`, cause: errorText(error), untouched, next: '' };
  switch (classifyApiError(error)) {
    case 'transient':
    case 'conflict':
      return transient(
        {
          ...failure,
          next: `it is tried again by itself; if it stays so: kubectl --server ${server} get --raw /readyz`,
        },
        error,
      );
    case 'needs-human':
      return needsHuman(
        { ...failure, next: 'give the user of the kubeconfig these rights (kubectl auth whoami), then: ferry resume' },
        error,
      );
    case 'absent':
    case 'permanent':
      return permanent(
        { ...failure, next: 'compare the plan with the cluster (ferry check), then: ferry abort' },
        error,
      );
    case 'unknown':
      return error instanceof Error ? error : new Error(String(error));
  }
}

/** Runs a step against the API; what it throws comes out classified. */
export async function onApi<T>(
  api: KubernetesApi,
  doing: string,
  untouched: string,
  step: () => Promise<T>,
): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw apiFailure(error, doing, untouched, api.server);
  }
}
