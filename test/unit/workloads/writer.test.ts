/* The lab's data producer is only worth something if it starts on whole data, and only on whole data. */
import { spawn, type ChildProcess } from 'node:child_process';
import { createServer } from 'node:net';
import {
  appendFile,
  cp,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { workloadsCache } from '../../../lab/workloads/access.ts';
import { buildProgram } from '../../../lab/workloads/images.ts';

let program: string;
let work: string;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  program = await buildProgram('writer', workloadsCache());
}, 300_000);
beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), 'writer-'));
});
afterEach(async () => {
  for (const child of children) await end(child, 'SIGKILL');
  await rm(work, { recursive: true, force: true });
});
afterAll(() => {
  expect(children.size).toBe(0);
});

function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) {
      resolve(child.exitCode);
      return;
    }
    child.once('exit', (code) => resolve(code));
    child.kill(signal);
  }).then((code) => {
    children.delete(child);
    return code as number | null;
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

interface Server {
  child: ChildProcess;
  url: string;
}

/** Starts a server; throws with what it said if it ends instead of answering. */
async function serve(kind: string, pod: string, data = join(work, 'data')): Promise<Server> {
  const port = await freePort();
  const args = ['serve', '--kind', kind, '--data', data, '--port', String(port)];
  const child = spawn(program, args, { env: { ...process.env, POD_NAME: pod }, stdio: ['ignore', 'pipe', 'pipe'] });
  children.add(child);
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const url = `http://127.0.0.1:${port}`;
  for (;;) {
    if (child.exitCode !== null) {
      children.delete(child);
      throw new Error(said.trim());
    }
    const ok = await fetch(`${url}/health`).then(
      (answer) => answer.ok,
      () => false,
    );
    if (ok) return { child, url };
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Appends so many records of 20 KB in requests of five; the numbers make each one different. */
async function fill(server: Server, from: number, count: number): Promise<void> {
  for (let number = from; number < from + count; number += 5) {
    const lines = [0, 1, 2, 3, 4].map((index) => `key-${number + index} ${'v'.repeat(20_000)}`);
    const answer = await fetch(`${server.url}/append`, { method: 'POST', body: lines.join('\n') });
    expect(answer.ok).toBe(true);
  }
}

async function keys(server: Server): Promise<string[]> {
  const text = await (await fetch(`${server.url}/records`)).text();
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => line.split(' ')[0] ?? '');
}

const numbered = (count: number): string[] => Array.from({ length: count }, (_, index) => `key-${index}`);

const sentinels: [string, string, string[]][] = [
  ['kafka', 'kafka-1', ['meta.properties']],
  ['zookeeper', 'zookeeper-1', ['myid', 'version-2']],
  ['opensearch', 'opensearch-master-1', ['nodes']],
  ['nsq', 'proton-mq-nsq-nsqd-1', ['nsqd.dat']],
  ['policy-engine', 'proton-policy-engine-proton-policy-engine-1', ['policies']],
  ['prometheus', 'prometheus-1', ['wal']],
  ['grafana', 'grafana-1', ['grafana.db']],
  ['package-store', 'proton-package-store-1', ['packages']],
  ['mongodb', 'mongodb-mongodb-1', ['WiredTiger', 'mongod.lock']],
  ['nebula-metad', 'nebula-metad-1', ['nebula']],
  ['nebula-storaged', 'nebula-storaged-1', ['nebula']],
];

describe.each(sentinels)('%s', (kind, pod, files) => {
  it('lays out the product’s sentinel files and refuses another member’s directory', async () => {
    const server = await serve(kind, pod);
    await fill(server, 0, 5);
    await end(server.child, 'SIGTERM');

    expect(await readdir(join(work, 'data'))).toEqual(expect.arrayContaining(files));
    await expect(serve(kind, pod.replace(/1$/, '2'))).rejects.toThrow('belongs to another member');
  });

  it('holds every acknowledged record after kill -9, through rotation and compaction', async () => {
    const first = await serve(kind, pod);
    await fill(first, 0, 100);
    await end(first.child, 'SIGKILL');

    const second = await serve(kind, pod);
    await fill(second, 100, 5);

    expect(await keys(second)).toEqual(numbered(105));
  });
});

describe('a copy of kafka’s data', () => {
  const logs = (): string => join(work, 'copy', 'ledger-0');

  beforeEach(async () => {
    const server = await serve('kafka', 'kafka-0');
    // three segments, not yet merged
    await fill(server, 0, 35);
    await cp(join(work, 'data'), join(work, 'copy'), { recursive: true });
    // now merged: files of the copy have gone
    await fill(server, 35, 40);
    await end(server.child, 'SIGTERM');
  });

  it('starts when it is whole', async () => {
    expect(await keys(await serve('kafka', 'kafka-0', join(work, 'copy')))).toEqual(numbered(35));
  });

  it('does not start with a file left over that was merged away', async () => {
    for (const file of await readdir(join(work, 'data', 'ledger-0')))
      await cp(join(work, 'data', 'ledger-0', file), join(logs(), file));
    await expect(serve('kafka', 'kafka-0', join(work, 'copy'))).rejects.toThrow('missing or left over');
  });

  it('does not start with a file missing', async () => {
    const [, second = ''] = (await readdir(logs())).sort();
    await unlink(join(logs(), second));
    await expect(serve('kafka', 'kafka-0', join(work, 'copy'))).rejects.toThrow('missing or left over');
  });

  it('does not start with a damaged record', async () => {
    const [first = ''] = (await readdir(logs())).sort();
    const content = await readFile(join(logs(), first));
    content[1000] = 'w'.charCodeAt(0);
    await writeFile(join(logs(), first), content);
    await expect(serve('kafka', 'kafka-0', join(work, 'copy'))).rejects.toThrow('damaged');
  });

  it('does not start with a segment that is not the last cut short', async () => {
    const [first = ''] = (await readdir(logs())).sort();
    await truncate(join(logs(), first), (await stat(join(logs(), first))).size - 5);
    await expect(serve('kafka', 'kafka-0', join(work, 'copy'))).rejects.toThrow('incomplete');
  });

  it('cuts off a torn record at the very end, as after a crash', async () => {
    const last = (await readdir(logs())).sort().at(-1) ?? '';
    await appendFile(join(logs(), last), '00000000 35 key-35 half');
    const server = await serve('kafka', 'kafka-0', join(work, 'copy'));
    await fill(server, 35, 5);
    expect(await keys(server)).toEqual(numbered(40));
  });

  it('starts silently empty where the data should be', async () => {
    await rename(join(work, 'copy'), join(work, 'nested'));
    const server = await serve('kafka', 'kafka-0', join(work, 'copy'));
    expect(await keys(server)).toEqual([]);
  });

  it('is not served twice at once', async () => {
    await serve('kafka', 'kafka-0', join(work, 'copy'));
    await expect(serve('kafka', 'kafka-0', join(work, 'copy'))).rejects.toThrow('locked by another process');
  });
});

describe('seeded files', () => {
  interface Tree {
    digest: string;
    entries: number;
    bytes: number;
    blocks: number;
  }
  const tree = async (server: Server): Promise<Tree> => (await (await fetch(`${server.url}/tree`)).json()) as Tree;
  let server: Server;
  const seed = (): string => join(work, 'data', 'seed');

  beforeEach(async () => {
    server = await serve('package-store', 'proton-package-store-0');
    const answer = await fetch(`${server.url}/seed?bytes=300000&files=50`, { method: 'POST' });
    expect(answer.ok).toBe(true);
  });

  it('are many, odd, linked and sparse, and made once', async () => {
    const made = await tree(server);
    expect(made.entries).toBeGreaterThan(100);
    expect(made.blocks * 512).toBeLessThan(made.bytes);
    await fetch(`${server.url}/seed?bytes=900000&files=90`, { method: 'POST' });
    expect(await tree(server)).toEqual(made);
  });

  it.each<[string, () => Promise<void>]>([
    ['a content changed', () => writeFile(join(seed(), 'links', 'one'), 'other')],
    ['a file gone', () => unlink(join(seed(), 'odd', '-rf'))],
    ['a file more', () => writeFile(join(seed(), 'more'), '')],
    ['a time changed', () => utimes(join(seed(), 'odd', '-rf'), 1, 1)],
    [
      'a hard link that became a file of its own',
      async () => {
        const path = join(seed(), 'links', 'two');
        const { atime, mtime } = await stat(path);
        const content = await readFile(path);
        await unlink(path);
        await writeFile(path, content);
        await utimes(path, atime, mtime);
      },
    ],
  ])('tell %s', async (_, change) => {
    const { digest } = await tree(server);
    await change();
    expect((await tree(server)).digest).not.toBe(digest);
  });
});
