import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import { z } from 'zod';
import { type Answer, type Call, noAnswer, type Outcome, send } from './api-transport.ts';
import { errorText, networkCode } from './failures.ts';

/*
 * Several ways to one Kubernetes API. The kubeconfig names one server, and that machine may be rebooted or taken away; the other
 * control-plane nodes serve the same API.
 */

/** Milliseconds. */
export interface RoadTimes {
  /** A connection takes at most this long where another server could be asked instead. */
  connect: number;
  /** A server that says nothing for this long is asked on a second connection whether it lives. */
  silence: number;
  /** The answer to that, and to the question which cluster it serves. */
  proof: number;
  /** A server that failed is left out this long before it is looked at again; doubled each time up to `longestPause`. */
  pause: number;
  longestPause: number;
  /** How old the list of control-plane nodes may be. */
  refresh: number;
}

const defaultTimes: RoadTimes = {
  connect: 1000,
  silence: 500,
  proof: 1000,
  pause: 2000,
  longestPause: 60_000,
  refresh: 30_000,
};

export interface RoadSettings {
  /** Servers that were written down by hand, `https://10.0.0.12:6443`. */
  servers: string[];
  /** Where the servers that were seen are kept for the next start; absent: in memory only. */
  stateDirectory?: string;
  times?: Partial<RoadTimes>;
}

/** From FERRY_API_SERVERS (addresses or URLs, separated by commas or blanks) and XDG_STATE_HOME. */
export function roadSettings(env: NodeJS.ProcessEnv = process.env): RoadSettings {
  const listed = (env['FERRY_API_SERVERS'] ?? '').split(/[\s,]+/).filter((entry) => entry !== '');
  const named = env['XDG_STATE_HOME'];
  const state = named === undefined || named === '' ? join(homedir(), '.local', 'state') : named;
  return { servers: listed.map(serverUrl), stateDirectory: join(state, 'proton-ferry') };
}

/** `10.0.0.12`, `10.0.0.12:8443`, `master-2:6443`, `https://…`. */
function serverUrl(entry: string): string {
  const text = entry.includes('://') ? entry : `https://${isIP(entry) === 6 ? `[${entry}]` : entry}`;
  if (!URL.canParse(text)) throw new Error(`FERRY_API_SERVERS: "${entry}" is no address of a server`);
  const url = new URL(text);
  if (url.protocol !== 'https:' || url.pathname !== '/' || url.search !== '' || url.username !== '') {
    throw new Error(`FERRY_API_SERVERS: "${entry}" must be https://HOST:PORT`);
  }
  // A URL forgets its scheme's own port, which is not the API's.
  const named = /:\d+$/.test(text.replace(/\/$/, ''));
  return named ? `https://${url.host}${url.port === '' ? ':443' : ''}` : `https://${url.host}:6443`;
}

export interface Place {
  url: string;
  /** Name that the certificate must carry; absent: what the URL names. */
  serverName?: string | undefined;
}

type Origin = 'kubeconfig' | 'listed' | 'learned';

interface Road extends Place {
  origin: Origin;
  config: KubeConfig;
  /** Answers for this cluster, and nothing has failed since. Unlike `aside`, the default of a server never asked is neither. */
  provedAt?: number;
  /** Failed: left out while another can be used. */
  aside?: { until: number; pause: number };
  proving?: Promise<unknown>;
}

/** What is known about one server, for people. */
export interface ServerReport {
  server: string;
  origin: Origin;
  /** Absent: it answers for this cluster. */
  trouble?: string;
}

export interface Roads {
  /** Asks one server after the other until one answers. `mayRepeat`: the call may be sent again when nobody knows whether the first took effect. */
  call(call: Call, options: { timeout: number; mayRepeat: boolean }): Promise<Answer>;
  /** Runs something of its own (a websocket) against the first server that lives; it must be harmless to begin it twice. */
  along<T>(timeout: number, step: (config: KubeConfig, timeLeft: number) => Promise<T>): Promise<T>;
  /** Asks every known server now. */
  survey(): Promise<ServerReport[]>;
  /** The server in use. */
  readonly server: string;
}

const memorySchema = z.object({
  cluster: z.string().min(1),
  servers: z.array(z.object({ url: z.url(), serverName: z.string().optional() })).max(100),
});
type Memory = z.infer<typeof memorySchema>;

const identityPath = '/api/v1/namespaces/kube-system';

/** 5xx answers with which a server speaks of itself (its etcd, its shutdown) rather than of the request. */
const ownTrouble = new Set([500, 502, 503, 504]);

/** How the network says that a machine does not answer at all; a refusal comes from one that runs. */
const silence = new Set(['ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH']);

/** What a kubeconfig's client certificates, tokens and proxy are, for another server. */
function configFor(config: KubeConfig, place: Place): KubeConfig {
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw new Error('the kubeconfig names no current cluster');
  const { tlsServerName: _own, ...rest } = cluster;
  const own = new KubeConfig();
  own.loadFromOptions({
    clusters: [
      { ...rest, server: place.url, ...(place.serverName !== undefined && { tlsServerName: place.serverName }) },
    ],
    users: config.getUsers(),
    contexts: config.getContexts(),
    currentContext: config.getCurrentContext(),
  });
  return own;
}

export function createRoads(config: KubeConfig, settings: RoadSettings): Roads {
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw new Error('the kubeconfig names no current cluster');
  const times = { ...defaultTimes, ...settings.times };
  const first: Road = { url: cluster.server.replace(/\/$/, ''), origin: 'kubeconfig', config };
  const own = new URL(first.url);
  // Without a certificate to hold a server against, nobody can tell whether another one is what it says.
  const verifies = own.protocol === 'https:' && !cluster.skipTLSVerify;
  const file = verifies ? memoryFile(config, settings.stateDirectory) : undefined;
  const memory = file === undefined ? undefined : readMemory(file);

  /** uid of the namespace kube-system, which is the cluster's identity; undefined while nobody has told it. */
  let identity = memory?.cluster;
  let roads: Road[] = [first];
  let inUse = first;
  let refreshedAt = -Infinity;
  let refreshing = false;
  place(
    'listed',
    settings.servers.map((url) => ({ url })),
  );
  if (verifies && memory !== undefined) place('learned', memory.servers);

  /** Replaces all roads of an origin; what is known about those that stay is kept. */
  function place(origin: Origin, places: readonly Place[]): void {
    const others = roads.filter((road) => road.origin !== origin);
    const kept = places
      .filter(({ url }) => !others.some((road) => road.url === url))
      .map(
        (entry) =>
          roads.find(
            (road) => road.origin === origin && road.url === entry.url && road.serverName === entry.serverName,
          ) ?? {
            ...entry,
            origin,
            config: configFor(config, entry),
          },
      );
    roads = [...others, ...kept];
  }

  /** Where no question tells whether a server is well again, only its next use can. */
  function isAside({ aside }: Road): boolean {
    return aside !== undefined && (identity !== undefined || aside.until > Date.now());
  }

  /** The kubeconfig's first, then those that are written down, then the learned ones; whoever failed last comes after all others. */
  function inOrder(): Road[] {
    return [...roads.filter((road) => !isAside(road)), ...roads.filter(isAside)];
  }

  function setAside(road: Road, error: unknown, pause = times.pause): void {
    delete road.provedAt;
    road.aside = { until: Date.now() + pause, pause };
    if (!silence.has(networkCode(error) ?? '')) return;
    // A machine that is silent on one port is off, more often than not: its other ports come after other machines.
    const { hostname } = new URL(road.url);
    for (const other of roads) {
      if (other.aside !== undefined || new URL(other.url).hostname !== hostname) continue;
      delete other.provedAt;
      other.aside = { until: Date.now() + pause, pause };
    }
  }

  function works(road: Road): void {
    inUse = road;
    // Who answers without having told which cluster it serves is right only as long as nobody knows better.
    if (identity === undefined) delete road.aside;
  }

  /** Whether this server must say which cluster it serves before it is used. */
  function isUnproved(road: Road): boolean {
    return identity !== undefined && road.provedAt === undefined;
  }

  /**
   * Asks a server which cluster it serves. A master that left and whose etcd started again, empty, has the right certificates and answers
   * "no pods" with success. Answers undefined when all is well, else what is wrong.
   */
  function prove(road: Road, limit: number): Promise<unknown> {
    road.proving ??= ask().finally(() => delete road.proving);
    return road.proving;

    async function ask(): Promise<unknown> {
      const outcome = await fetchObject(road, identityPath, limit);
      const failed = 'error' in outcome ? outcome.error : whatIsWrong(road, outcome.answer);
      if (failed === undefined) {
        road.provedAt = Date.now();
        delete road.aside;
      } else {
        const doubled = Math.min((road.aside?.pause ?? times.pause / 2) * 2, times.longestPause);
        setAside(road, failed, doubled);
      }
      return failed;
    }
  }

  function whatIsWrong(road: Road, { status, text }: Answer): unknown {
    // The kubeconfig's own server may say by itself that a token has run out: its answer to the request is the better one.
    if ((status === 401 || status === 403) && road === first) return undefined;
    if (status !== 200) return unusable(`${road.url} answers HTTP ${status}`);
    const found = uidOf(text);
    if (found === undefined) return new Error(`${road.url} does not say which cluster it serves`);
    identity ??= found;
    if (found === identity) return undefined;
    return new Error(
      `${road.url} serves another cluster (kube-system has uid ${found}, not ${identity})${file === undefined ? '' : `; if this cluster was made anew, remove ${file}`}`,
    );
  }

  async function fetchObject(road: Road, resource: string, limit: number): Promise<Outcome> {
    try {
      return await send(
        road.config,
        road.url,
        { method: 'GET', resource, headers: { accept: 'application/json' } },
        { connect: limit, total: limit, background: true },
      );
    } catch (error) {
      return { error, sent: false };
    }
  }

  /** Looks again at servers whose pause is over, and at the nodes; nobody waits for it. */
  function tend(): void {
    if (!verifies) return;
    const now = Date.now();
    for (const road of roads) {
      const due =
        road.aside === undefined ? road.provedAt === undefined && identity !== undefined : road.aside.until <= now;
      if (due) void prove(road, 2 * times.proof);
    }
    // Who failed a moment ago may have left for good.
    const changing = roads.some((road) => road.aside !== undefined && road.aside.pause < 5 * times.pause);
    if (refreshing || now - refreshedAt < (changing ? Math.min(5000, times.refresh) : times.refresh)) return;
    refreshing = true;
    void refresh()
      // An answer that is no list of nodes teaches nothing; what is known stays.
      .catch(() => undefined)
      .finally(() => {
        refreshing = false;
        refreshedAt = Date.now();
      });
  }

  async function refresh(): Promise<void> {
    const road = roads.includes(inUse) ? inUse : first;
    if ((await prove(road, 2 * times.proof)) !== undefined || identity === undefined) return;
    const outcome = await fetchObject(road, '/api/v1/nodes?limit=500', 10_000);
    if (!('answer' in outcome) || outcome.answer.status !== 200) return;
    const places = placesOf(outcome.answer.text, own, cluster?.tlsServerName);
    // Masters need not be nodes of the cluster: then there is nothing to learn.
    if (places.length === 0) return;
    place('learned', places);
    if (file !== undefined) writeMemory(file, { cluster: identity, servers: places });
    for (const fresh of roads)
      if (fresh.provedAt === undefined && fresh.aside === undefined) await prove(fresh, 2 * times.proof);
  }

  /** One attempt, watched: a server that has gone silent and does not answer a second connection either is given up where another is left. */
  async function attempt(road: Road, call: Call, left: number, watch: boolean, connect: number): Promise<Outcome> {
    if (!watch) return send(road.config, road.url, call, { connect, total: left });
    const silent = new AbortController();
    let ended = false;
    let lastSign = Date.now();
    const timer = setInterval(() => {
      if (Date.now() - lastSign < times.silence) return;
      lastSign = Date.now() + times.proof;
      void prove(road, times.proof).then((failed) => {
        if (!ended && failed !== undefined) silent.abort(failed);
      });
    }, times.silence / 2);
    try {
      return await send(road.config, road.url, call, {
        connect,
        total: left,
        signal: silent.signal,
        onProgress: () => (lastSign = Date.now()),
      });
    } finally {
      ended = true;
      clearInterval(timer);
    }
  }

  /** Asks again, with more patience each time: a connection that was made while a server was away may stay mute when it is back. */
  async function proveWithin(road: Road, limit: number): Promise<unknown> {
    const end = Date.now() + limit;
    for (let patience = 2 * times.proof; ; patience *= 2) {
      const left = Math.max(Math.min(patience, end - Date.now()), 1);
      const failed = await withinTime(prove(road, left), left);
      if (failed === undefined || networkCode(failed) !== 'ETIMEDOUT' || end - Date.now() < 100) return failed;
    }
  }

  /** The first of several to prove itself, asked side by side; undefined when none does. */
  async function firstUp(asked: readonly Road[], limit: number, failures: Failure[]): Promise<Road | undefined> {
    const proofs = asked.map(async (road) => {
      const failed = await proveWithin(road, limit);
      if (failed !== undefined) throw new Unproved(road, failed);
      return road;
    });
    try {
      return await Promise.any(proofs);
    } catch (error) {
      for (const { road, error: why } of (error as AggregateError).errors as Unproved[])
        failures.push({ road, error: why });
      return undefined;
    }
  }

  /** Goes along the roads until one leads somewhere. `step` answers undefined when the next is to be tried. */
  async function walk<T>(
    timeout: number,
    step: (road: Road, left: number, others: boolean) => Promise<{ done: T } | { failed: unknown; last?: boolean }>,
  ): Promise<T> {
    const end = Date.now() + timeout;
    const tried = new Set<Road>();
    const failures: Failure[] = [];
    for (;;) {
      const left = end - Date.now();
      const [next, ...rest] = inOrder().filter((road) => !tried.has(road));
      if (left <= 0 || next === undefined) break;
      // Where all have failed before, any of them may be the one that is back.
      const road = isAside(next) && identity !== undefined ? await firstUp([next, ...rest], left, failures) : next;
      if (road === undefined) break;
      tried.add(road);
      const others = rest.some((other) => !isAside(other));
      if (isUnproved(road)) {
        const failed = await proveWithin(road, others ? Math.min(times.proof, left) : left);
        if (failed !== undefined) {
          if (road.aside === undefined) setAside(road, failed);
          failures.push({ road, error: failed });
          continue;
        }
      }
      const outcome = await step(road, Math.max(end - Date.now(), 1), others);
      if ('done' in outcome) {
        works(road);
        tend();
        return outcome.done;
      }
      failures.push({ road, error: outcome.failed });
      if (outcome.last === true) break;
    }
    throw failureOf(failures);
  }

  function call(given: Call, { timeout, mayRepeat }: { timeout: number; mayRepeat: boolean }): Promise<Answer> {
    // What a pod answers through the API is the pod's word, not the server's.
    const speaksForItself = !/\/proxy(\/|\?|$)/.test(given.resource);
    let troubled: Answer | undefined;
    return walk<Answer>(timeout, async (road, left, others) => {
      const began = Date.now();
      const connect = others ? Math.min(times.connect, left) : left;
      const outcome = await attempt(road, given, left, others && mayRepeat, connect);
      if ('answer' in outcome) {
        const { answer } = outcome;
        // "Not there" is what another cluster would say as well: it counts only from a server that has said since which one it serves.
        if (identity !== undefined && saysNothingIsThere(answer) && (road.provedAt ?? 0) <= began) {
          const limit = Math.max(began + left - Date.now(), 1);
          const failed = await withinTime(prove(road, limit), limit);
          if (failed !== undefined) return { failed };
        }
        const trouble = speaksForItself && ownTrouble.has(answer.status);
        if (!trouble || !mayRepeat || !others) return { done: trouble ? (troubled ?? answer) : answer };
        troubled ??= answer;
        setAside(road, new Error(`HTTP ${answer.status}`));
        return { failed: unusable(`${road.url} answers HTTP ${answer.status}`) };
      }
      // A server that took the whole time may only be slow.
      if (!outcome.sent || (others && Date.now() < began + left)) setAside(road, outcome.error);
      return { failed: outcome.error, last: outcome.sent && !mayRepeat };
    }).catch((error: unknown) => {
      if (troubled !== undefined) return troubled;
      throw error;
    });
  }

  function along<T>(timeout: number, step: (config: KubeConfig, timeLeft: number) => Promise<T>): Promise<T> {
    return walk<T>(timeout, async (road, left, others) => {
      // A websocket has no limit of its own for connecting: the server is asked first whether it lives.
      if (others && identity !== undefined) {
        const failed = await withinTime(prove(road, times.proof), times.proof);
        if (failed !== undefined) return { failed };
      }
      try {
        return { done: await step(road.config, others ? Math.max(left / 2, Math.min(left, times.proof)) : left) };
      } catch (error) {
        if (networkCode(error) === undefined) return { failed: error, last: true };
        if (others) setAside(road, error);
        return { failed: error };
      }
    });
  }

  async function survey(): Promise<ServerReport[]> {
    // The questions themselves do not keep a process alive; here somebody waits for their answers.
    const hold = setInterval(() => undefined, 1000);
    try {
      if (verifies) await refresh();
      return await Promise.all(
        roads.map(async (road) => {
          const failed = await prove(road, 5000);
          return { server: road.url, origin: road.origin, ...(failed !== undefined && { trouble: errorText(failed) }) };
        }),
      );
    } finally {
      clearInterval(hold);
    }
  }

  return {
    call,
    along,
    survey,
    get server() {
      return inUse.url;
    },
  };
}

interface Failure {
  road: Road;
  error: unknown;
}

class Unproved extends Error {
  readonly road: Road;
  readonly error: unknown;
  constructor(road: Road, error: unknown) {
    super(road.url);
    this.road = road;
    this.error = error;
  }
}

/** The first failure tells most: the kubeconfig's server is what people know. The others are named beside it. */
function failureOf(failures: readonly Failure[]): unknown {
  const [first, ...others] = failures;
  if (first === undefined) return noAnswer('no API server answered in time');
  // As long as one of them may come back, all of it may heal by itself.
  const code = failures.map(({ error }) => networkCode(error)).find((found) => found !== undefined);
  if (others.length === 0 || code === undefined) return first.error;
  const rest = others.map(({ road, error }) => `${road.url}: ${errorText(error)}`).join('; ');
  return Object.assign(new Error(`${errorText(first.error)}; ${rest}`, { cause: first.error }), { code });
}

/** A server that answers, but not so that it can be used now. */
function unusable(what: string): Error {
  return Object.assign(new Error(what), { code: 'EHOSTDOWN' });
}

/** Holds the process while something runs that would not. */
async function withinTime(promise: Promise<unknown>, limit: number): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<unknown>((resolve) => {
    timer = setTimeout(() => resolve(noAnswer('no answer in time')), limit + 50);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** An object that is absent, or a list without items. */
function saysNothingIsThere({ status, text }: Answer): boolean {
  return status === 404 || (status === 200 && text.length < 2000 && /"items":\s*(null|\[\s*\])/.test(text));
}

function uidOf(text: string): string | undefined {
  try {
    const { metadata } = JSON.parse(text) as { metadata?: { uid?: unknown } };
    return typeof metadata?.uid === 'string' && metadata.uid !== '' ? metadata.uid : undefined;
  } catch {
    return undefined;
  }
}

interface NodeList {
  items?: {
    metadata: { labels?: Record<string, string>; deletionTimestamp?: string };
    status?: { addresses?: { type: string; address: string }[] };
  }[];
}

/**
 * Servers of the control-plane nodes: first each API server itself, whose certificate carries the machine's address, then the port that the
 * kubeconfig names, where each node's load balancer listens. Behind a balancer answers any master, so there the certificate is held against
 * the name that the kubeconfig demands, where it demands one.
 */
function placesOf(text: string, own: URL, tlsServerName: string | undefined): Place[] {
  const { items = [] } = JSON.parse(text) as NodeList;
  const addresses = items
    .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
    .filter(({ metadata }) =>
      Object.keys(metadata.labels ?? {}).some((label) =>
        /^node-role\.kubernetes\.io\/(control-plane|master)$/.test(label),
      ),
    )
    .flatMap(({ status }) => status?.addresses ?? [])
    .filter(({ type, address }) => type === 'InternalIP' && isIP(address) !== 0)
    .map(({ address }) => (isIP(address) === 6 ? `[${address}]` : address));
  const direct = addresses.map((address) => ({ url: `https://${address}:6443` }));
  const port = own.port === '' ? '443' : own.port;
  // 443 is the address of the service inside of the cluster, not a port of the nodes.
  if (port === '6443' || port === '443') return direct;
  const ownName = isIP(own.hostname.replace(/^\[|\]$/g, '')) === 0 ? own.hostname : undefined;
  const serverName = tlsServerName ?? ownName;
  const balanced = addresses.map((address) => ({
    url: `https://${address}:${port}`,
    ...(serverName !== undefined && { serverName }),
  }));
  return [...direct, ...balanced];
}

/** One file for each cluster and the server by which it is known. */
function memoryFile(config: KubeConfig, directory: string | undefined): string | undefined {
  const cluster = config.getCurrentCluster();
  if (directory === undefined || cluster === null) return undefined;
  try {
    const authority = cluster.caData ?? (cluster.caFile === undefined ? '' : readFileSync(cluster.caFile, 'base64'));
    const key = createHash('sha256').update(`${cluster.server}\n${authority}`).digest('hex').slice(0, 16);
    return join(directory, `api-servers-${key}.json`);
  } catch {
    return undefined;
  }
}

function readMemory(file: string): Memory | undefined {
  try {
    return memorySchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    // Absent or unreadable: it is learned again.
    return undefined;
  }
}

function writeMemory(file: string, memory: Memory): void {
  try {
    const text = JSON.stringify(memory);
    if (JSON.stringify(readMemory(file)) === text) return;
    mkdirSync(join(file, '..'), { recursive: true, mode: 0o700 });
    const temporary = `${file}.${process.pid}`;
    writeFileSync(temporary, text, { mode: 0o600 });
    renameSync(temporary, file);
  } catch {
    // A worker that may write nowhere remembers as long as it runs.
  }
}
