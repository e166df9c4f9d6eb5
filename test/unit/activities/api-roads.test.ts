import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { type RoadSettings, roadSettings } from '../../../src/activities/api-roads.ts';
import { classifyApiError, createKubernetesApi, type KubernetesApi } from '../../../src/activities/kubernetes-api.ts';
import { Authority, FakeApiServer, kubeConfigOf, type Mood } from './api-servers.ts';

// Other work beside this one may make every handshake slow.
vi.setConfig({ testTimeout: 40_000 });

/** Addresses of this test's own; API servers are looked for at their usual port. */
const [one, two, three] = ['127.66.1.1', '127.66.1.2', '127.66.1.3'] as const;
const port = 6443;

let authority: Authority;
let stranger: Authority;
const pairs = new Map<string, { key: string; cert: string }>();
const servers = new Set<FakeApiServer>();
let stateDirectory: string;

beforeAll(() => {
  authority = new Authority();
  stranger = new Authority();
  for (const address of [one, two, three]) pairs.set(address, authority.issue(address, `IP:${address}`));
  pairs.set('misfit', authority.issue('misfit', 'IP:127.66.9.9'));
  pairs.set('stranger', stranger.issue('stranger', `IP:${one},IP:${two}`));
  pairs.set('named', authority.issue('named', 'DNS:cluster.test'));
});
afterAll(() => {
  authority.remove();
  stranger.remove();
});
beforeEach(() => {
  stateDirectory = mkdtempSync(join(tmpdir(), 'ferry-roads-'));
});
afterEach(async () => {
  for (const server of servers) await server.stop();
  servers.clear();
  rmSync(stateDirectory, { recursive: true, force: true });
});

async function serve(address: string, pair: string = address, at = port): Promise<FakeApiServer> {
  const found = pairs.get(pair);
  if (found === undefined) throw new Error(pair);
  const server = await new FakeApiServer(address, at, found).start();
  servers.add(server);
  return server;
}

function apiFor(address: string, settings: Partial<RoadSettings> = {}): KubernetesApi {
  const times = { connect: 1000, silence: 300, proof: 1000, pause: 100, refresh: 500, ...settings.times };
  return createKubernetesApi(kubeConfigOf(`https://${address}:${port}`, authority), {
    servers: [],
    stateDirectory,
    ...settings,
    times,
  });
}

const servedBy = async (api: KubernetesApi, timeout?: number): Promise<string> =>
  (await api.request<{ served: string }>('GET', '/x', timeout === undefined ? {} : { timeout })).served;

async function timed<T>(step: () => Promise<T>): Promise<{ value: T; took: number }> {
  const start = performance.now();
  const value = await step();
  return { value, took: performance.now() - start };
}

/** Until the other control-plane nodes have been learned and written down. */
async function learned(api: KubernetesApi): Promise<void> {
  await expect
    .poll(
      async () => {
        await servedBy(api);
        const well = (await api.survey()).filter(({ trouble }) => trouble === undefined);
        return well.length > 1 && readdirSync(stateDirectory).length === 1;
      },
      { timeout: 20_000, interval: 100 },
    )
    .toBe(true);
}

describe('a server of the kubeconfig that is away', () => {
  it.each<[string, (first: FakeApiServer) => unknown]>([
    ['refuses connections', (first) => first.stop()],
    ['accepts connections and says nothing', (first) => (first.mood = 'frozen')],
    ['takes requests and says nothing', (first) => (first.mood = 'silent')],
    ['hangs up', (first) => (first.mood = 'breaking')],
    ['has trouble of its own', (first) => (first.status = 503)],
    ['has come back as another cluster', (first) => (first.cluster = 'cluster-2')],
  ])('that %s is passed over in a moment, and then left alone', async (_how, change) => {
    const first = await serve(one);
    const second = await serve(two);
    first.nodes = second.nodes = [one, two];
    const api = apiFor(one);
    await learned(api);
    expect(await servedBy(api)).toBe(one);

    await change(first);
    const { value, took } = await timed(() => servedBy(api));
    const again = await timed(() => servedBy(api));

    expect(value).toBe(two);
    expect(took).toBeLessThan(2500);
    expect(again.value).toBe(two);
    expect(again.took).toBeLessThan(900);
    expect(api.server).toBe(second.url);
  });

  it('costs a moment once, on however many ports its machine would be asked', async () => {
    const [balancer, first] = [await serve(one, one, 8443), await serve(one)];
    const second = await serve(two);
    balancer.nodes = first.nodes = second.nodes = [one, two];
    const api = createKubernetesApi(kubeConfigOf(balancer.url, authority), {
      servers: [],
      stateDirectory,
      times: { connect: 3000, silence: 1000, proof: 2000, pause: 100, refresh: 500 },
    });
    await learned(api);
    balancer.mood = first.mood = 'frozen';

    const { value, took } = await timed(() => servedBy(api, 20_000));

    expect(value).toBe(two);
    // One silence and one proof; two machines would take twice as long.
    expect(took).toBeLessThan(4500);
  });

  it('is used again when it is back', async () => {
    const first = await serve(one);
    const second = await serve(two);
    first.nodes = second.nodes = [one, two];
    const api = apiFor(one);
    await learned(api);
    first.mood = 'frozen';
    expect(await servedBy(api)).toBe(two);

    first.mood = 'ready';

    await expect.poll(() => servedBy(api), { timeout: 20_000, interval: 50 }).toBe(one);
  });

  it('is known to a worker that starts later', async () => {
    const first = await serve(one);
    const second = await serve(two);
    first.nodes = second.nodes = [one, two];
    await learned(apiFor(one));
    await first.stop();

    const { value, took } = await timed(() => servedBy(apiFor(one)));

    expect(value).toBe(two);
    expect(took).toBeLessThan(2500);
    const [file = ''] = readdirSync(stateDirectory);
    expect(statSync(join(stateDirectory, file)).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(stateDirectory, file), 'utf8')).not.toContain('invented');
  });

  it('never answers "no pods" for a cluster that is not this one', async () => {
    const first = await serve(one);
    first.nodes = [one, two];
    const second = await serve(two);
    second.nodes = [one, two];
    const api = apiFor(one);
    await learned(api);
    await Promise.all([first.stop(), second.stop()]);
    // Both started again with an empty etcd, and the right certificates.
    for (const address of [one, two]) (await serve(address)).cluster = 'cluster-2';

    const lists = [
      api.list('/api/v1/pods'),
      // A worker that starts only now.
      apiFor(one).list('/api/v1/pods'),
    ];

    await Promise.all(lists.map((list) => expect(list).rejects.toThrow(/serves another cluster/)));
  });

  it('is tried with all the time there is when no other is known', async () => {
    const first = await serve(one);
    first.delay = 1200;

    expect(await servedBy(apiFor(one))).toBe(one);
    expect(first.taken).toEqual(['GET /x']);
  });
});

describe('an API that is away altogether', () => {
  it('is waited for with all the time that a request has, and used again where it comes back first', async () => {
    const first = await serve(one);
    const second = await serve(two);
    first.nodes = second.nodes = [one, two];
    const api = apiFor(one);
    await learned(api);
    first.mood = second.mood = 'frozen';
    await expect(servedBy(api, 1500)).rejects.toSatisfy((error) => classifyApiError(error) === 'transient');

    const waiting = servedBy(api, 20_000);
    setTimeout(() => (second.mood = 'ready'), 1500);

    expect(await waiting).toBe(two);
  });

  it('says of every server what is wrong with it', async () => {
    const first = await serve(one);
    const second = await serve(two);
    first.nodes = second.nodes = [one, two];
    const api = apiFor(one);
    await learned(api);
    await Promise.all([first.stop(), second.stop()]);

    const { took } = await timed(async () => {
      await expect(servedBy(api)).rejects.toThrow(new RegExp(`ECONNREFUSED ${one}.*${two}.* ECONNREFUSED`));
    });
    expect(took).toBeLessThan(2500);
  });
});

describe('a server that is only slow', () => {
  it('is waited for, since it answers when it is asked whether it lives', async () => {
    const first = await serve(one);
    const second = await serve(two);
    first.nodes = second.nodes = [one, two];
    const api = apiFor(one, { times: { proof: 3000 } });
    await learned(api);
    second.taken.length = 0;
    first.delay = 700;

    expect(await servedBy(api)).toBe(one);
    expect(second.taken).toEqual([]);
  });
});

describe('certificates', () => {
  it.each([
    ['of another machine', 'misfit'],
    ['of another authority', 'stranger'],
  ])('%s make a server as good as absent: it is asked nothing', async (_what, pair) => {
    const first = await serve(one);
    const second = await serve(two, pair);
    const third = await serve(three);
    first.nodes = third.nodes = [one, two, three];
    const api = apiFor(one);
    await learned(api);
    await first.stop();

    expect(await servedBy(api)).toBe(three);
    await third.stop();
    await expect(servedBy(api, 2000)).rejects.toSatisfy((error) => classifyApiError(error) === 'transient');
    expect(second.taken).toEqual([]);
  });

  it('behind a balancer are held against the name that the kubeconfig demands', async () => {
    const first = await serve(one, 'named', 8443);
    const second = await serve(two, 'named', 8443);
    first.nodes = second.nodes = [one, two];
    const config = kubeConfigOf(first.url, authority, { tlsServerName: 'cluster.test' });
    const api = createKubernetesApi(config, {
      servers: [],
      stateDirectory,
      times: { connect: 1000, proof: 1000, pause: 100, refresh: 500 },
    });
    await learned(api);
    await first.stop();

    expect(await servedBy(api)).toBe(two);
  });
});

describe('a request that a server took before it hung up', () => {
  const version = { metadata: { resourceVersion: '7' } };

  it.each<[string, 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', object | undefined, boolean]>([
    ['a GET', 'GET', undefined, true],
    ['a PUT with the version', 'PUT', version, true],
    ['a PUT without', 'PUT', { metadata: {} }, false],
    ['a PATCH with the version', 'PATCH', version, true],
    ['a PATCH without', 'PATCH', { spec: { replicas: 0 } }, false],
    ['a DELETE of one uid', 'DELETE', { preconditions: { uid: 'u' } }, true],
    ['a DELETE of a version', 'DELETE', { preconditions: { resourceVersion: '7' } }, true],
    ['a DELETE of a name', 'DELETE', { propagationPolicy: 'Background' }, false],
    ['a DELETE of nothing but a name', 'DELETE', undefined, false],
    ['a POST', 'POST', version, false],
  ])('%s: repeated elsewhere or not', async (_what, method, body, repeated) => {
    for (const trouble of ['breaking', 'status'] as const) {
      const first = await serve(one);
      const second = await serve(two);
      first.nodes = second.nodes = [one, two];
      const api = apiFor(one);
      await learned(api);
      first.taken.length = second.taken.length = 0;
      if (trouble === 'breaking') first.mood = 'breaking';
      else first.status = 500;

      const call = api.request<{ served: string }>(method, '/y', body === undefined ? {} : { body });

      if (repeated) expect(await call).toMatchObject({ served: two });
      else await expect(call).rejects.toSatisfy((error) => classifyApiError(error) === 'transient');
      expect(first.taken).toEqual([`${method} /y`]);
      expect(second.taken).toEqual(repeated ? [`${method} /y`] : []);
      await Promise.all([first.stop(), second.stop()]);
    }
  });

  it.each<[string, Mood | 'gone']>([
    ['where nobody listens', 'gone'],
    ['where nobody answers', 'frozen'],
  ])('is another matter than one that never left: %s, every kind goes elsewhere', async (_what, mood) => {
    const first = await serve(one);
    const second = await serve(two);
    if (mood === 'gone') await first.stop();
    else first.mood = mood;
    const api = apiFor(one, { servers: [second.url] });

    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'GET'] as const) {
      expect(await api.request(method, '/y', method === 'GET' ? {} : { body: {} })).toMatchObject({ served: two });
    }
    expect(first.taken).toEqual([]);
    expect(second.taken).toHaveLength(5);
  });

  it('of a pod behind the API is the last word of that pod', async () => {
    const first = await serve(one);
    const second = await serve(two);
    first.nodes = second.nodes = [one, two];
    const api = apiFor(one);
    await learned(api);
    first.status = 503;
    second.taken.length = 0;

    await expect(api.request('GET', '/api/v1/namespaces/a/pods/b:80/proxy/health')).rejects.toMatchObject({
      code: 503,
    });
    expect(second.taken).toEqual([]);
  });

  it('fails with its own answer when every server has the same trouble', async () => {
    const first = await serve(one);
    const second = await serve(two);
    first.nodes = second.nodes = [one, two];
    const api = apiFor(one);
    await learned(api);
    first.status = second.status = 500;

    await expect(api.request('GET', '/y')).rejects.toMatchObject({ code: 500, message: `trouble at ${one}` });
  });
});

describe('a connection to a pod', () => {
  it.each<[string, Mood | 'gone']>([
    ['is gone', 'gone'],
    ['accepts connections and says nothing', 'frozen'],
  ])('is made through another server when the first %s', async (_what, mood) => {
    const first = await serve(one);
    const second = await serve(two);
    first.nodes = second.nodes = [one, two];
    const api = apiFor(one);
    await learned(api);
    if (mood === 'gone') await first.stop();
    else first.mood = mood;

    const { value: socket, took } = await timed(() => api.connect({ namespace: 'a', pod: 'b', port: 513 }, 10_000));
    const received = await socket.read((bytes) => bytes.length >= 5);
    socket.close();

    expect(received.toString()).toBe('hello');
    expect(took).toBeLessThan(2500);
    expect(second.taken).toContain('UPGRADE /api/v1/namespaces/a/pods/b/portforward?ports=513');
  });
});

describe('a process of its own', () => {
  it('lives as long as somebody waits for an answer, and no longer', async () => {
    const first = await serve(one);
    const second = await serve(two);
    first.nodes = second.nodes = [one, two];
    second.delay = 500;
    const module = new URL('../../../src/activities/kubernetes-api.ts', import.meta.url).href;
    const code = `
      import { createKubernetesApi, loadKubeConfig } from ${JSON.stringify(module)};
      const api = createKubernetesApi(loadKubeConfig(process.argv[1]), { servers: [] });
      console.log((await api.survey()).map(({ server, trouble }) => trouble ?? server).join(' '));
      console.log((await api.request('GET', '/x')).served);`;
    const file = join(stateDirectory, 'kubeconfig');
    writeFileSync(file, kubeConfigOf(first.url, authority).exportConfig(), { mode: 0o600 });

    const { value, took } = await timed(() =>
      promisify(execFile)(process.execPath, ['--input-type=module', '-e', code, file], { timeout: 30_000 }),
    );

    expect(value.stdout).toBe(`${first.url} ${second.url}\n${one}\n`);
    expect(took).toBeLessThan(20_000);
  });
});

describe('servers that were written down', () => {
  it.each([
    ['10.0.0.12', ['https://10.0.0.12:6443']],
    ['10.0.0.12:8443, master-3', ['https://10.0.0.12:8443', 'https://master-3:6443']],
    ['https://10.0.0.12:6443/ https://[fd00::2]:443', ['https://10.0.0.12:6443', 'https://[fd00::2]:443']],
    ['fd00::1', ['https://[fd00::1]:6443']],
    ['', []],
  ])('"%s"', (text, expected) => {
    expect(roadSettings({ FERRY_API_SERVERS: text }).servers).toEqual(expected);
  });

  it.each(['http://10.0.0.12', 'https://10.0.0.12/path', 'https://user@10.0.0.12', 'not a:server:1'])(
    'not "%s"',
    (text) => {
      expect(() => roadSettings({ FERRY_API_SERVERS: text })).toThrow(/FERRY_API_SERVERS: ".*" (must be|is no)/);
    },
  );
});
