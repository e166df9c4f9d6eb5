import { PassThrough, Writable } from 'node:stream';
import { type ApplicationFailure } from '@temporalio/common';
import { KubeConfig, PortForward } from '@kubernetes/client-node';
import { createRoads, type RoadSettings, roadSettings, type ServerReport } from './api-roads.ts';
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

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

export interface RequestOptions {
  body?: unknown;
  /** Default `application/json`; merge patches for PATCH. */
  contentType?: string;
  query?: Record<string, string>;
  /** Milliseconds for all servers together; default 10 000. */
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
 * know are never lost on the way. Answers other than success throw `ApiError`; network trouble throws what the network said.
 * A server that is away is passed over for another of the same cluster (see mayRepeat for what is asked twice).
 */
export interface KubernetesApi {
  request<T>(method: Method, path: string, options?: RequestOptions): Promise<T>;
  /** The object, or undefined when it does not exist. */
  find<T>(path: string): Promise<T | undefined>;
  /** All items, page by page; a page that fails fails the list. */
  list<T>(path: string, query?: Record<string, string>): Promise<T[]>;
  /** Opens a connection to a port of a pod; `timeout` (milliseconds, default 15 000) covers all of it. */
  connect(target: { namespace: string; pod: string; port: number }, timeout?: number): Promise<PodSocket>;
  /** Every API server that is known, asked now. */
  survey(): Promise<ServerReport[]>;
  /** Address of the API server in use, for messages. */
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

/**
 * Whether a request may be sent to a second server when the first took it and nobody knows what became of it: the connection broke, or the
 * server answered 5xx, which an API server also does when etcd took a write and was too slow to say so.
 *
 * - GET changes nothing.
 * - PUT and PATCH that carry the object's resourceVersion, and DELETE with a precondition, take effect once at most: if the first did, the
 *   second is answered 409 (or 404), which callers take as "look again".
 * - Everything else is given back as it failed. A POST would create twice or answer "exists already" for what this very call has made; a
 *   patch or delete without precondition could hit what somebody else has made of the object, or the object that came after it.
 *   The activity's retry looks first and then acts, so nothing is lost but a moment.
 *
 * What never left this machine (refused, no route, no connection in time, a certificate that does not fit) has no such limits.
 */
export function mayRepeat(method: Method, body: unknown): boolean {
  const { metadata, preconditions } = (body ?? {}) as {
    metadata?: { resourceVersion?: unknown };
    preconditions?: { uid?: unknown; resourceVersion?: unknown };
  };
  switch (method) {
    case 'GET':
      return true;
    case 'PUT':
    case 'PATCH':
      return isText(metadata?.resourceVersion);
    case 'DELETE':
      return isText(preconditions?.uid) || isText(preconditions?.resourceVersion);
    case 'POST':
      return false;
  }
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== '';
}

export function createKubernetesApi(config: KubeConfig, settings: RoadSettings = roadSettings()): KubernetesApi {
  const roads = createRoads(config, settings);

  async function request<T>(method: Method, resource: string, options: RequestOptions = {}): Promise<T> {
    const query = new URLSearchParams(options.query).toString();
    const fallback = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const { status, contentType, text } = await roads.call(
      {
        method,
        resource: `${resource}${query === '' ? '' : `?${query}`}`,
        headers: {
          accept: 'application/json',
          ...(options.body !== undefined && { 'content-type': options.contentType ?? fallback }),
        },
        ...(options.body !== undefined && { body: JSON.stringify(options.body) }),
      },
      { timeout: options.timeout ?? 10_000, mayRepeat: mayRepeat(method, options.body) },
    );
    if (status < 200 || status >= 300) throw statusError(status, text);
    return (contentType.startsWith('application/json') ? JSON.parse(text) : text) as T;
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
    const { namespace, pod, port } = target;
    // Nothing is written to the pod before it is open, so that it may be opened twice.
    const socket = await roads.along(timeout, (along, left) =>
      openSocket(new PortForward(along).portForward(namespace, pod, [port], output, complaints, input), left),
    );
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

  return {
    request,
    find,
    list,
    connect,
    survey: () => roads.survey(),
    get server() {
      return roads.server;
    },
  };
}

/** The client's own type of the socket comes from a package without resolvable types. */
interface WebSocketLike {
  close(): void;
  on(event: 'close', listener: () => void): void;
}

async function openSocket(opening: Promise<unknown>, timeout: number): Promise<WebSocketLike> {
  try {
    return (await within(opening, Date.now() + timeout)) as WebSocketLike;
  } catch (error) {
    // One that opens after all is nobody's.
    opening.then(
      (socket) => (socket as WebSocketLike).close(),
      () => undefined,
    );
    // A websocket fails with an event that holds the error.
    throw error instanceof Error ? error : ((error as { error?: unknown }).error ?? error);
  }
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
