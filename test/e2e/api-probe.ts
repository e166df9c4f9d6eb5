/**
 * api-probe.ts KUBECONFIG SERVER: from the first answer on, every 100 ms one quorum read and one write of a ConfigMap through SERVER, each on a
 * connection of its own, as clients behind a load balancer do. On SIGTERM: one line of JSON about failures and the longest times without
 * success, also of one that had not ended by then.
 */
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { parse } from 'yaml';

interface Access {
  clusters: { cluster: { 'certificate-authority-data': string } }[];
  users: { user: { 'client-certificate-data': string; 'client-key-data': string } }[];
}

const [file = '', server = ''] = process.argv.slice(2);
const access = parse(readFileSync(file, 'utf8')) as Access;
const decode = (text = ''): Buffer => Buffer.from(text, 'base64');
const user = access.users[0]?.user;
const tls = {
  ca: decode(access.clusters[0]?.cluster['certificate-authority-data']),
  cert: decode(user?.['client-certificate-data']),
  key: decode(user?.['client-key-data']),
  // Every load balancer leads to servers whose certificate names the platform's own name for them.
  servername: 'proton-cs.lb.aishu.cn',
};
const collection = '/api/v1/namespaces/default/configmaps';

/** What went wrong, or undefined. */
function ask(method: string, path: string, body?: object): Promise<string | undefined> {
  return new Promise((resolve) => {
    const agent = new Agent({ ...tls, keepAlive: false });
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const headers = body === undefined ? {} : { 'Content-Type': type };
    const sent = request(new URL(path, server), { method, agent, headers, timeout: 2000 }, (response) => {
      response.resume();
      response.once('error', (error) => resolve(error.message));
      response.once('end', () => {
        const status = response.statusCode ?? 0;
        resolve(status < 300 || (method === 'POST' && status === 409) ? undefined : `HTTP ${status}`);
      });
    });
    sent.once('timeout', () => sent.destroy(new Error('no answer within 2 s')));
    sent.once('error', (error) => resolve(error.message));
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** A stretch of time, in milliseconds since the epoch. */
interface Span {
  from: number;
  to: number;
}

interface Counted {
  requests: number;
  failed: number;
  longestGapSeconds: number;
  /** Every longer time without success. */
  gaps: Span[];
  failures: (Span & { why: string })[];
}

/** Milliseconds; a request comes every 100. */
const longGap = 400;
const counter = (): Counted => ({ requests: 0, failed: 0, longestGapSeconds: 0, gaps: [], failures: [] });
const counts = { read: counter(), write: counter() };
const lastSuccess = { read: 0, write: 0 };

function note(kind: keyof typeof counts, from: number, why: string | undefined): void {
  const count = counts[kind];
  const to = Date.now();
  count.requests += 1;
  if (why !== undefined) {
    count.failed += 1;
    count.failures.push({ from, to, why });
    return;
  }
  closeGap(kind, to);
}

/** The time without success ends here. */
function closeGap(kind: keyof typeof counts, to: number): void {
  const last = lastSuccess[kind];
  lastSuccess[kind] = to;
  if (last === 0) return;
  const count = counts[kind];
  if (to - last > longGap) count.gaps.push({ from: last, to });
  count.longestGapSeconds = Math.max(count.longestGapSeconds, (to - last) / 1000);
}

let isAsking = true;
const pending = new Set<Promise<void>>();

function send(kind: keyof typeof counts, answer: Promise<string | undefined>): void {
  const from = Date.now();
  const noted = answer.then((failure) => note(kind, from, failure)).finally(() => pending.delete(noted));
  pending.add(noted);
}

/** What was asked gets its answer, or its time limit: a request without an end is a failure, not nothing. */
async function report(): Promise<void> {
  isAsking = false;
  await Promise.all(pending);
  for (const kind of ['read', 'write'] as const) closeGap(kind, Date.now());
  console.log(JSON.stringify(counts));
  process.exit(0);
}

process.on('SIGTERM', () => void report());
while ((await ask('POST', collection, { metadata: { name: 'api-probe' } })) !== undefined) {
  await new Promise((resolve) => setTimeout(resolve, 200));
}
console.error('the first answer came');
setInterval(() => {
  if (!isAsking) return;
  send('read', ask('GET', `${collection}/api-probe`));
  const data = { at: String(Date.now()) };
  send('write', ask('PATCH', `${collection}/api-probe`, { data }));
}, 100);
