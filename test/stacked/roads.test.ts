/* The worker's way to the API while the machine that its kubeconfig names is away. Inside a lab with a stacked control plane. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { faults } from '../../lab/faults.ts';
import { hostNamed } from '../../lab/machines/machines.ts';
import { pause, poll } from '../../lab/process.ts';
import { run } from '../../lab/workloads/run.ts';
import {
  ApiError,
  createKubernetesApi,
  type KubernetesApi,
  type KubernetesObject,
  loadKubeConfig,
  path,
} from '../../src/activities/kubernetes-api.ts';

/** One kind of request, again and again. */
interface Stream {
  name: string;
  succeeded: number[];
  failed: string[];
  stop(): Promise<void>;
}

const configMap = path('v1', 'default', 'configmaps', 'ferry-roads');
const names = ['old1', 'old2', 'old3'];
let stateDirectory: string;
let api: KubernetesApi;

const open = (settings: { servers?: string[]; stateDirectory?: string } = {}): KubernetesApi =>
  createKubernetesApi(loadKubeConfig(), { servers: [], ...settings });

function stream(name: string, every: number, request: () => Promise<unknown>): Stream {
  const ended = new AbortController();
  const succeeded: number[] = [Date.now()];
  const failed: string[] = [];
  const running = (async () => {
    while (!ended.signal.aborted) {
      try {
        await request();
        succeeded.push(Date.now());
      } catch (error) {
        failed.push(String(error));
      }
      await pause(every);
    }
  })();
  return {
    name,
    succeeded,
    failed,
    stop: () => {
      ended.abort();
      return running;
    },
  };
}

function longestGap(times: readonly number[]): number {
  return Math.max(...times.slice(1).map((time, index) => time - (times[index] ?? time)));
}

/** Reads and writes with the version; nobody else writes. Where a try took effect without an answer, its repetition is refused: then it looks. */
async function count(): Promise<void> {
  const before = await readCounter();
  const next = (before.data?.count ?? 0) + 1;
  try {
    await api.request('PUT', configMap, { body: { ...before, data: { count: String(next) } } });
  } catch (error) {
    if (!(error instanceof ApiError && error.code === 409)) throw error;
    expect((await readCounter()).data?.count).toBe(next);
  }
}

async function readCounter(): Promise<KubernetesObject & { data?: { count: number } }> {
  const found = await api.request<KubernetesObject & { data?: { count: string } }>('GET', configMap);
  const { data, ...rest } = found;
  return { ...rest, ...(data !== undefined && { data: { count: Number(data.count) } }) };
}

/** A member of etcd tells its health over plain HTTP, on a machine that stays; the way there is a port-forward. */
async function askPod(): Promise<void> {
  const socket = await api.connect({ namespace: 'kube-system', pod: 'etcd-old2', port: 2381 }, 10_000);
  try {
    socket.write('GET /health HTTP/1.0\r\n\r\n');
    const answer = await socket.read((bytes) => bytes.includes('\r\n\r\n'));
    if (!/^HTTP\/1\.\d 200 /.test(answer.toString())) throw new Error(answer.toString().slice(0, 80));
  } finally {
    socket.close();
  }
}

/** What was said to a pod is never said twice by itself: who asked does it, as every step is tried again. */
async function askPodAgain(): Promise<void> {
  try {
    await askPod();
  } catch {
    await askPod();
  }
}

/** Losing the leader stops every server for seconds, whatever road leads there; that is not what is looked at here. */
async function leadElsewhere(): Promise<void> {
  const folder = '/etc/kubernetes/pki/etcd';
  const tls = [`--cacert=${folder}/ca.crt`, `--cert=${folder}/server.crt`, `--key=${folder}/server.key`];
  const etcdctl = async (...args: string[]): Promise<string> => {
    const argv = ['kubectl', '-n', 'kube-system', 'exec', 'etcd-old1', '--', 'etcdctl'];
    return (await run([...argv, '--endpoints=https://127.0.0.1:2379', ...tls, ...args], { timeout: 30_000 })).stdout;
  };
  const status = JSON.parse(await etcdctl('endpoint', 'status', '-w', 'json')) as {
    Status: { header: { member_id: number }; leader: number };
  }[];
  if (status[0]?.Status.leader !== status[0]?.Status.header.member_id) return;
  const table = await etcdctl('member', 'list');
  const id = table
    .split('\n')
    .map((line) => line.split(', '))
    .find(([, , name]) => name === 'old2')?.[0];
  await etcdctl('move-leader', id ?? '');
}

async function usable(of: KubernetesApi): Promise<string[]> {
  return (await of.survey()).filter(({ trouble }) => trouble === undefined).map(({ server }) => server);
}

describe("the worker's way to the API", () => {
  beforeAll(async () => {
    stateDirectory = mkdtempSync(join(tmpdir(), 'ferry-roads-'));
    api = open({ stateDirectory });
    await api.request('DELETE', configMap).catch(() => undefined);
    await api.request('POST', path('v1', 'default', 'configmaps'), { body: { metadata: { name: 'ferry-roads' } } });
    await poll('all API servers known', 60, async () => (await usable(api)).length >= names.length);
  });
  afterAll(() => {
    rmSync(stateDirectory, { recursive: true, force: true });
  });

  it('begins at the machine that the kubeconfig names, and knows the other masters', async () => {
    const servers = await usable(api);

    expect(new URL(api.server).hostname).toBe(hostNamed('old1').address);
    for (const name of names) expect(servers).toContain(`https://${hostNamed(name).address}:6443`);
  });

  it('loses no request when that machine is switched off', async () => {
    await leadElsewhere();
    const streams = [
      { patience: 4000, ...stream('reading', 100, () => api.list(path('v1', undefined, 'nodes'))) },
      { patience: 4000, ...stream('counting', 100, count) },
      // One that is being asked when the machine dies waits for its answer until its time is over.
      { patience: 14_000, ...stream('asking a pod', 300, askPodAgain) },
    ];
    await pause(5000);
    const before = streams.map(({ succeeded }) => succeeded.length);

    await faults['crash']?.(['old1']);
    await pause(25_000);
    for (const each of streams) await each.stop();

    for (const [index, { name, succeeded, failed, patience }] of streams.entries()) {
      console.info(
        `${name}: ${succeeded.length} succeeded, ${failed.length} failed, longest gap ${longestGap(succeeded)} ms`,
      );
      expect(failed).toEqual([]);
      expect(succeeded.length).toBeGreaterThan((before[index] ?? 0) + 20);
      expect(longestGap(succeeded)).toBeLessThan(patience);
    }
    expect(new URL(api.server).hostname).not.toBe(hostNamed('old1').address);
    // Less would be a write that was said to be done and is lost, more one that was done twice.
    expect((await readCounter()).data?.count).toBe((streams[1]?.succeeded.length ?? 0) - 1);
  });

  it('is found by a worker that starts while that machine is away', async () => {
    const remembered = open({ stateDirectory });
    const named = open({ servers: [`https://${hostNamed('old3').address}:6443`] });
    const start = Date.now();

    expect(await remembered.list(path('v1', undefined, 'nodes'))).not.toEqual([]);
    const took = Date.now() - start;
    expect(await named.list(path('v1', undefined, 'nodes'))).not.toEqual([]);

    console.info(`first answer after ${took} ms`);
    expect(took).toBeLessThan(5000);
  });

  it('goes back to that machine when it is there again', async () => {
    await faults['start']?.(['old1']);

    await poll('the first server in use again', 300, async () => {
      await api.list(path('v1', undefined, 'nodes')).catch(() => undefined);
      return new URL(api.server).hostname === hostNamed('old1').address;
    });
  });
});
