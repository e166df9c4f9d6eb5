import { readFile } from 'node:fs/promises';
import { Agent, request as httpsRequest } from 'node:https';
import type { KubernetesObject } from './objects.ts';

const account = '/var/run/secrets/kubernetes.io/serviceaccount';

export interface Answer {
  status: number;
  body: unknown;
}

/** The Kubernetes API as a pod sees it. Plain Node, because an operator's pod has nothing but the machine's Node. */
export interface Api {
  /** A non-2xx status is an answer; a connection that fails throws. */
  call(method: string, path: string, body?: object, type?: string): Promise<Answer>;
}

export async function inClusterApi(): Promise<Api> {
  const ca = await readFile(`${account}/ca.crt`);
  const agent = new Agent({ keepAlive: true, ca });
  const host = process.env['KUBERNETES_SERVICE_HOST'];
  const port = process.env['KUBERNETES_SERVICE_PORT'];
  async function call(method: string, path: string, body?: object, type = 'application/json'): Promise<Answer> {
    const token = await readFile(`${account}/token`, 'utf8');
    const text = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const headers = {
        authorization: `Bearer ${token}`,
        ...(text === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(text) }),
      };
      const request = httpsRequest({ agent, host, port, method, path, headers, timeout: 10_000 }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.once('error', reject);
        response.once('end', () => {
          const answer = Buffer.concat(chunks).toString();
          try {
            resolve({
              status: response.statusCode ?? 0,
              body: answer === '' ? undefined : (JSON.parse(answer) as unknown),
            });
          } catch {
            resolve({ status: response.statusCode ?? 0, body: answer });
          }
        });
      });
      request.once('timeout', () => request.destroy(new Error(`${method} ${path}: no answer within 10 s`)));
      request.once('error', reject);
      request.end(text);
    });
  }
  return { call };
}

const plurals: Record<string, string> = {
  PersistentVolume: 'persistentvolumes',
  PersistentVolumeClaim: 'persistentvolumeclaims',
  Service: 'services',
  ConfigMap: 'configmaps',
  StatefulSet: 'statefulsets',
  Deployment: 'deployments',
  CronJob: 'cronjobs',
};

/** Path of an object, or of its collection. */
export function pathOf(object: KubernetesObject, collection = false): string {
  const { apiVersion, kind, metadata } = object;
  const plural = plurals[kind];
  if (plural === undefined) throw new Error(`no path known for kind ${kind}`);
  const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const namespace = metadata.namespace === undefined ? '' : `/namespaces/${metadata.namespace}`;
  return `${root}${namespace}/${plural}${collection ? '' : `/${metadata.name}`}`;
}

/** What a refusal says, in one line. */
export function refusal(answer: Answer): string {
  const { body } = answer;
  const message = typeof body === 'object' && body !== null && 'message' in body ? String(body.message) : String(body);
  return `${answer.status} ${message}`.slice(0, 300);
}
