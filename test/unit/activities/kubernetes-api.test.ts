import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  ApiError,
  classifyApiError,
  createKubernetesApi,
  type KubernetesApi,
  onApi,
  path,
} from '../../../src/activities/kubernetes-api.ts';

let server: Server;
let api: KubernetesApi;
let requests: { method: string | undefined; url: string | undefined; type: string | undefined; body: string }[];
let answer: (request: IncomingMessage) => { status: number; body: unknown } | undefined;

beforeEach(async () => {
  requests = [];
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method, url, headers } = request;
      requests.push({ method, url, type: headers['content-type'], body: Buffer.concat(chunks).toString() });
      const given = answer(request);
      if (given === undefined) return;
      response.writeHead(given.status, { 'content-type': 'application/json' }).end(JSON.stringify(given.body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const config = new KubeConfig();
  config.loadFromClusterAndUser(
    { name: 'c', server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, skipTLSVerify: true },
    { name: 'u' },
  );
  api = createKubernetesApi(config);
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

describe('paths', () => {
  it.each([
    { made: path('v1', 'resource', 'pods', 'a-0'), expected: '/api/v1/namespaces/resource/pods/a-0' },
    { made: path('v1', undefined, 'persistentvolumes'), expected: '/api/v1/persistentvolumes' },
    { made: path('apps/v1', 'a', 'deployments'), expected: '/apis/apps/v1/namespaces/a/deployments' },
    { made: path('v1', 'a', 'pods', '../../nodes'), expected: '/api/v1/namespaces/a/pods/..%2F..%2Fnodes' },
  ])('$expected', ({ made, expected }) => {
    expect(made).toBe(expected);
  });
});

describe('calls of the API', () => {
  it('read a list page by page', async () => {
    const pages = [
      { items: [1, 2], metadata: { continue: 'next' } },
      { items: [3], metadata: { continue: '' } },
    ];
    answer = () => ({ status: 200, body: pages.shift() });

    expect(await api.list('/api/v1/pods')).toEqual([1, 2, 3]);
    expect(requests.map(({ url }) => url)).toEqual(['/api/v1/pods?limit=500', '/api/v1/pods?limit=500&continue=next']);
  });

  it('never take an answer without items for an empty list', async () => {
    answer = () => ({ status: 200, body: { kind: 'Status' } });

    await expect(api.list('/api/v1/pods')).rejects.toMatchObject({ code: 502 });
  });

  it('fail a list whose second page fails', async () => {
    const pages = [
      { status: 200, body: { items: [1], metadata: { continue: 'next' } } },
      { status: 410, body: { reason: 'Expired', message: 'too old' } },
    ];
    answer = () => pages.shift();

    await expect(api.list('/api/v1/pods')).rejects.toMatchObject({ code: 410, reason: 'Expired' });
  });

  it('send patches as merge patches', async () => {
    answer = () => ({ status: 200, body: {} });

    await api.request('PATCH', '/x', { body: { spec: { replicas: 0 } } });

    expect(requests).toEqual([
      { method: 'PATCH', url: '/x', type: 'application/merge-patch+json', body: '{"spec":{"replicas":0}}' },
    ]);
  });

  it('find nothing where there is nothing', async () => {
    answer = () => ({ status: 404, body: { reason: 'NotFound', message: 'pods "a" not found' } });

    expect(await api.find('/x')).toBeUndefined();
  });

  it('have a time limit', async () => {
    answer = () => undefined;

    const call = api.request('GET', '/x', { timeout: 100 });

    await expect(call).rejects.toSatisfy((error) => classifyApiError(error) === 'transient');
  });

  it('to a port where nobody listens heal by themselves', async () => {
    await new Promise((resolve) => server.close(resolve));

    const call = onApi(api, 'Looking', 'everything', () => api.list('/api/v1/pods'));

    await expect(call).rejects.toMatchObject({ type: 'Transient', nonRetryable: false });
  });
});

describe('errors of the API', () => {
  it.each([
    { code: 400, expected: 'permanent' },
    { code: 401, expected: 'needs-human' },
    { code: 403, expected: 'needs-human' },
    { code: 404, expected: 'absent' },
    { code: 408, expected: 'transient' },
    { code: 409, expected: 'conflict' },
    { code: 410, expected: 'transient' },
    { code: 422, expected: 'permanent' },
    { code: 429, expected: 'transient' },
    { code: 500, expected: 'transient' },
    { code: 503, expected: 'transient' },
  ])('$code is $expected', ({ code, expected }) => {
    expect(classifyApiError(new ApiError(code, undefined, 'x'))).toBe(expected);
  });

  it.each([
    { code: 503, type: 'Transient' },
    { code: 409, type: 'Transient' },
    { code: 403, type: 'NeedsHuman' },
    { code: 422, type: 'Permanent' },
  ])('$code leaves an activity as $type', async ({ code, type }) => {
    answer = () => ({ status: code, body: { message: 'because' } });

    const call = onApi(api, 'Looking', 'everything', () => api.list('/api/v1/pods'));

    await expect(call).rejects.toMatchObject({ type, details: [{ cause: 'because', untouched: 'everything' }] });
  });

  it('of this program itself stay what they are', async () => {
    const error = new RangeError('a bug');

    await expect(onApi(api, 'Looking', 'everything', () => Promise.reject(error))).rejects.toBe(error);
  });
});
