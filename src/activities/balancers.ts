import { z } from 'zod';
import type { HostConnection, Hosts } from '../hosts/contract.ts';
import type { Host } from '../plan/plan.ts';
import type { Evidence, Master } from './contract.ts';
import { needsHuman, onHost, transient } from './failures.ts';
import { lastLines } from './helm.ts';
import { parseFields, runScript } from './host-script.ts';
import { poll } from './polling.ts';

/*
 * The load balancer of the API on every machine of the platform. Its manager keeps one document per machine and writes haproxy's whole
 * configuration from it, so what is left out there is gone: the document is taken as it is, and only the API servers are exchanged.
 */

const managerPath = '/api/slb/v1/haproxy/haproxy';
const managerPort = 9547;
const configuration = '/usr/local/haproxy/haproxy.cfg';
/** Frontend and backend of the API server. */
const section = 'cs';

const valueSchema = z.union([z.string(), z.array(z.string())]);
const sectionSchema = z.record(z.string(), valueSchema);
type Section = z.infer<typeof sectionSchema>;
const documentSchema = z.looseObject({
  conf: z.looseObject({
    frontend: z.record(z.string(), sectionSchema),
    backend: z.record(z.string(), sectionSchema),
  }),
});
export type BalancerDocument = z.infer<typeof documentSchema>;

/** The same document, with these API servers behind the balancer. Throws when it has none to exchange. */
export function withServers(document: BalancerDocument, masters: readonly Master[]): BalancerDocument {
  const { frontend, backend } = document.conf;
  const name = frontend[section]?.['default_backend'];
  const servers = typeof name === 'string' ? backend[name] : undefined;
  if (typeof name !== 'string' || servers === undefined) {
    throw new Error(`it has no frontend ${section} with a backend`);
  }
  const changed = { ...servers, server: masters.map((master) => serverLine(servers['server'], master)) };
  return { ...document, conf: { ...document.conf, backend: { ...backend, [name]: changed } } };
}

/** The line it has, when it is for the same master at the same address; else as the platform writes it. */
function serverLine(lines: string | string[] | undefined, { name, address }: Master): string {
  const end = `${address.includes(':') ? `[${address}]` : address}:6443`;
  const known = [lines ?? []]
    .flat()
    .find((line) => line.trim().split(/\s+/).slice(0, 2).join(' ') === `${name} ${end}`);
  return known ?? `${name} ${end} check`;
}

/**
 * The document of a written configuration. The manager writes every keyword with its value as it got them, so it can be read back; the
 * value of `server` is a list wherever it stands.
 */
export function parseConfiguration(text: string): BalancerDocument {
  const conf: Record<string, Section> = {};
  const named: Record<'frontend' | 'backend', Record<string, Section>> = { frontend: {}, backend: {} };
  let current: Section | undefined;
  for (const line of text.split('\n')) {
    if (line.trim() === '' || line.trimStart().startsWith('#')) continue;
    const [keyword = '', ...words] = line.trim().split(/\s+/);
    if (!/^\s/.test(line)) {
      if (keyword === 'frontend' || keyword === 'backend') current = named[keyword][words[0] ?? ''] ??= {};
      else current = conf[keyword] ??= {};
      continue;
    }
    if (current === undefined) throw new Error(`"${line.trim()}" stands before any section`);
    const value = line.trim().slice(keyword.length + 1);
    const known = current[keyword];
    current[keyword] = known === undefined ? value : [...[known].flat(), value];
  }
  // Their order is haproxy's: what is said of all servers stands before the first.
  for (const backend of Object.values(named.backend)) backend['server'] = [backend['server'] ?? []].flat();
  return documentSchema.parse({ conf: { ...conf, ...named } });
}

/** Addresses that a configuration leads to, in its order; undefined when it has no balancer of the API. */
export function serversOf(document: BalancerDocument): string[] | undefined {
  const { frontend, backend } = document.conf;
  const name = frontend[section]?.['default_backend'];
  const servers = typeof name === 'string' ? backend[name]?.['server'] : undefined;
  return servers === undefined
    ? undefined
    : [servers].flat().map((line) => line.trim().split(/\s+/).slice(0, 2).join(' '));
}

function wanted(masters: readonly Master[]): string[] {
  return masters.map(({ name, address }) => `${name} ${address.includes(':') ? `[${address}]` : address}:6443`);
}

export async function setBalancers(hosts: Hosts, input: { on: Host[]; masters: Master[] }): Promise<Evidence> {
  const { on, masters } = input;
  const changed: string[] = [];
  // One after the other: a document that haproxy refuses must not reach them all.
  for (const host of on) {
    const untouched = `the load balancers of ${
      on
        .filter(({ name }) => name !== host.name)
        .map(({ name }) => name)
        .join(', ') || 'other machines'
    }, and what else the one of ${host.name} does`;
    await onHost(host.name, untouched, async () => {
      const connection = await hosts.connect(host);
      if (await setBalancer(connection, masters)) changed.push(host.name);
    });
  }
  const names = on.map(({ name }) => name).join(', ');
  return {
    changed: changed.length > 0,
    proof: `haproxy of ${names} leads to ${masters.map(({ name }) => name).join(', ')}: read in its configuration, which it has loaded`,
  };
}

/** True when something had to be changed. */
async function setBalancer(connection: HostConnection, masters: readonly Master[]): Promise<boolean> {
  const { name } = connection.host;
  const before = await observe(connection);
  if (isAsWanted(before, masters)) return false;
  const document = await readDocument(connection, before.document);
  let next: BalancerDocument;
  try {
    next = withServers(document, masters);
  } catch (error) {
    throw unknownDocument(name, error instanceof Error ? error.message : String(error));
  }
  const answer = await ask(connection, 'PUT', JSON.stringify(next));
  if (answer.status !== 204 && answer.status !== 200) {
    throw refused(name, `the manager answers ${answer.status}: ${lastLines(answer.body, 2)}`);
  }
  await poll(
    async () => {
      const after = await observe(connection);
      if (isAsWanted(after, masters)) return { done: true, value: undefined };
      const servers = after.document === undefined ? undefined : serversOf(after.document);
      return {
        done: false,
        waiting: `${configuration} leads to ${servers?.join(', ') ?? 'nobody'}${after.loaded ? '' : ', and haproxy has not loaded it'}`,
      };
    },
    { deadline: 30_000 },
    (waiting) => refused(name, waiting),
  );
  return true;
}

interface Observed {
  document: BalancerDocument | undefined;
  /** A haproxy runs that started after its configuration was written. */
  loaded: boolean;
}

function isAsWanted({ document, loaded }: Observed, masters: readonly Master[]): boolean {
  return loaded && document !== undefined && serversOf(document)?.join() === wanted(masters).join();
}

/** A reload is a new process that answers; the old one only ends its connections. $1 the configuration. */
const loadedScript = `
[ -r "$1" ] || return 0
now=$(date +%s)
echo "written=$((now - $(stat -c %Y -- "$1")))"
for age in $(ps -C haproxy -o etimes=); do echo "$age"; done | sort -n | head -n 1 | sed 's/^/youngest=/'`;

async function observe(connection: HostConnection): Promise<Observed> {
  const content = await connection.readFile(configuration);
  if (content === undefined) return { document: undefined, loaded: false };
  const fields = parseFields(await runScript(connection, 'looking at haproxy', loadedScript, [configuration]));
  const [written, youngest] = [fields.get('written'), fields.get('youngest')].map((text) =>
    text === undefined || text === '' ? undefined : Number(text),
  );
  // Whole seconds on both sides.
  const loaded = written !== undefined && youngest !== undefined && youngest <= written + 1;
  try {
    return { document: parseConfiguration(content.toString('utf8')), loaded };
  } catch {
    return { document: undefined, loaded };
  }
}

/** What the manager keeps; where it does not tell, what it wrote. */
async function readDocument(
  connection: HostConnection,
  written: BalancerDocument | undefined,
): Promise<BalancerDocument> {
  const answer = await ask(connection, 'GET');
  if (answer.status === 200) {
    const parsed = documentSchema.safeParse(parseJson(answer.body));
    if (parsed.success) return parsed.data;
  }
  if (written !== undefined) return written;
  throw unknownDocument(
    connection.host.name,
    `the manager answers ${answer.status} without a document, and ${configuration} is none that can be read`,
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function unknownDocument(name: string, cause: string): Error {
  return needsHuman({
    what: `The load balancer of ${name} cannot be changed safely`,
    cause,
    untouched: 'all load balancers that were not changed yet',
    next: `look at ${configuration} on ${name} and at http://${name}:${managerPort}${managerPath}; an apply of proton-cli writes both anew; then: ferry resume`,
  });
}

function refused(name: string, cause: string): Error {
  return needsHuman({
    what: `The load balancer of ${name} does not lead to the masters that it should`,
    cause,
    untouched: 'all load balancers that were not changed yet, and the masters',
    next: `systemctl status proton_slb_manager haproxy on ${name}, then: ferry resume`,
  });
}

/**
 * One request to the manager, from its own machine: the port need not be open to this worker, and nothing but bash is needed. HTTP/1.0,
 * so that the answer ends with the connection. $1 address, $2 port, $3 method, $4 path; the body comes from stdin.
 */
const requestScript =
  'body=$(cat); exec 3<>"/dev/tcp/$1/$2" || exit 7; ' +
  String.raw`printf '%s %s HTTP/1.0\r\nHost: %s:%s\r\nContent-Type: application/json\r\nContent-Length: %s\r\nConnection: close\r\n\r\n%s' "$3" "$4" "$1" "$2" "$(printf %s "$body" | wc -c)" "$body" >&3; cat <&3`;

async function ask(
  connection: HostConnection,
  method: 'GET' | 'PUT',
  body = '',
): Promise<{ status: number; body: string }> {
  const { name, address } = connection.host;
  let said = '';
  for (const end of [address, '127.0.0.1']) {
    const argv = ['bash', '-c', requestScript, 'bash', end, `${managerPort}`, method, managerPath];
    const result = await connection.run(argv, { input: body, timeout: 40_000 });
    const match = /^HTTP\/1\.[01] (\d{3})[^\r\n]*\r?\n[^]*?\r?\n\r?\n([^]*)$/.exec(result.stdout);
    if (match?.[1] !== undefined) return { status: Number(match[1]), body: match[2] ?? '' };
    said = lastLines(result.stderr, 1);
    if (!/^\d+\./.test(address)) break;
  }
  throw transient({
    what: `The load balancer manager of ${name} does not answer`,
    cause: said || `no answer on port ${managerPort}`,
    untouched: `the load balancer of ${name}`,
    next: `it is tried again by itself; if it stays so: systemctl status proton_slb_manager on ${name}`,
  });
}
