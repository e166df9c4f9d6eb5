/**
 * The ledger: what was acknowledged to the client, kept outside of what is migrated, against what the components hold wherever they run
 * now.
 */
import { spawn } from 'node:child_process';
import { mkdir, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { LabAccess } from './access.ts';
import type { Component, Source } from './components.ts';
import { buildProgram } from './images.ts';
import { run } from './run.ts';

const recordSchema = z.object({ component: z.string(), ordinal: z.int(), key: z.string(), sum: z.string() });
const treeSchema = z.object({
  component: z.string(),
  ordinal: z.int(),
  tree: z.string(),
  entries: z.int(),
});
const entrySchema = z.union([recordSchema, treeSchema]);
export type LedgerEntry = z.infer<typeof entrySchema>;
type LedgerRecord = z.infer<typeof recordSchema>;
type LedgerTree = z.infer<typeof treeSchema>;

const readSchema = z.union([recordSchema, z.object({ component: z.string(), ordinal: z.int(), error: z.string() })]);

/** What a component's ordinal holds now. */
export interface Holding {
  component: string;
  ordinal: number;
  /** Key to sum of each record. */
  records: Map<string, string>;
  /** Digest of its folder of seeded files. */
  tree?: string;
  /** Why it could not be read. */
  error?: string;
}

export interface LedgerVerdict {
  acknowledged: number;
  found: number;
  /** Records acknowledged and not there, or there with another value; at most 100 of them. */
  missing: string[];
  missingCount: number;
  /** Seeded folders compared, and those that differ. */
  trees: number;
  differentTrees: string[];
  /** Ordinals that could not be read although the ledger knows records of them. */
  unreadable: string[];
}

function nameOf(entry: { component: string; ordinal: number }): string {
  return `${entry.component}-${entry.ordinal}`;
}

/** Parses the ledger; a line that is none of its kinds is an error, a last line cut off by a crash was never acknowledged. */
export function parseLedger(text: string): LedgerEntry[] {
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  return whole
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => entrySchema.parse(JSON.parse(line)));
}

/** Compares; pure. The same record may stand in the ledger twice. */
export function judgeLedger(entries: readonly LedgerEntry[], holdings: readonly Holding[]): LedgerVerdict {
  const held = new Map(holdings.map((holding) => [nameOf(holding), holding]));
  const records = new Map<string, LedgerRecord>();
  const trees = new Map<string, LedgerTree>();
  for (const entry of entries) {
    if ('tree' in entry) trees.set(nameOf(entry), entry);
    else records.set(`${nameOf(entry)}/${entry.key}`, entry);
  }
  const missing: string[] = [];
  const unreadable = new Set<string>();
  for (const [name, record] of records) {
    const holding = held.get(nameOf(record));
    if (holding === undefined || holding.error !== undefined)
      unreadable.add(`${nameOf(record)}: ${holding?.error ?? 'is not running'}`);
    const sum = holding?.records.get(record.key);
    if (sum !== record.sum) missing.push(sum === undefined ? name : `${name} (another value)`);
  }
  const differentTrees = [...trees.entries()]
    .filter(([name, { tree }]) => held.get(name)?.tree !== tree)
    .map(([name]) => name);
  return {
    acknowledged: records.size,
    found: records.size - missing.length,
    missing: missing.slice(0, 100),
    missingCount: missing.length,
    trees: trees.size,
    differentTrees,
    unreadable: [...unreadable],
  };
}

/** Whether nothing acknowledged is lost. An empty ledger proves nothing and is not good. */
export function ledgerIsComplete(verdict: LedgerVerdict): boolean {
  return verdict.acknowledged > 0 && verdict.missingCount === 0 && verdict.differentTrees.length === 0;
}

export function describeVerdict(verdict: LedgerVerdict): string {
  const { acknowledged, found, trees, differentTrees } = verdict;
  const lines = [
    `ledger: ${acknowledged} records acknowledged, ${found} found; ${trees} seeded folders, ${trees - differentTrees.length} identical`,
    ...verdict.unreadable.map((line) => `unreadable: ${line}`),
    ...differentTrees.map((name) => `seeded folder differs: ${name}`),
    ...verdict.missing.slice(0, 20).map((name) => `missing: ${name}`),
  ];
  if (verdict.missingCount > 20) lines.push(`… and ${verdict.missingCount - 20} more`);
  if (acknowledged === 0) lines.push('nothing was ever acknowledged: that proves nothing');
  return lines.join('\n');
}

const ledgerPort = 9555;

export function ledgerUrl(access: LabAccess): string {
  return `http://${access.controlAddress}:${ledgerPort}`;
}

export function ledgerFile(access: LabAccess): string {
  return join(access.state, 'ledger.jsonl');
}

async function answers(url: string): Promise<boolean> {
  return fetch(`${url}/health`, { signal: AbortSignal.timeout(2000) }).then(
    ({ ok }) => ok,
    () => false,
  );
}

/** Starts the ledger on the lab's own side unless it runs. It ends with the lab. */
export async function startLedger(access: LabAccess): Promise<void> {
  const url = ledgerUrl(access);
  if (await answers(url)) return;
  await mkdir(access.state, { recursive: true });
  const program = await buildProgram('writer', access.cache, access.progress);
  const log = await open(join(access.state, 'ledger.log'), 'a');
  const args = ['ledger', '--listen', `${access.controlAddress}:${ledgerPort}`, '--file', ledgerFile(access)];
  const child = spawn(program, args, { detached: true, stdio: ['ignore', log.fd, log.fd] });
  child.unref();
  await log.close();
  for (let attempt = 0; attempt < 50; attempt++) {
    if (await answers(url)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`the ledger does not answer at ${url}; see ${join(access.state, 'ledger.log')}`);
}

export async function appendToLedger(access: LabAccess, lines: string): Promise<void> {
  const answer = await fetch(`${ledgerUrl(access)}/entries`, { method: 'POST', body: lines });
  if (!answer.ok) throw new Error(`the ledger refused entries: ${answer.status} ${await answer.text()}`);
}

/** An ordinal that runs, with what is needed to talk to it. */
export interface Target {
  component: string;
  ordinal: number;
  protocol: string;
  address: string;
  user?: string;
  password?: string;
  seedable: boolean;
  node: string;
}

interface Pod {
  metadata: { name: string; namespace: string; deletionTimestamp?: string };
  spec: { nodeName?: string };
  status: { podIP?: string; conditions?: { type: string; status: string }[] };
}

/** The ready pods of the components' StatefulSets. */
export async function runningTargets(access: LabAccess, components: readonly Component[]): Promise<Target[]> {
  const sources = components.flatMap((component) => component.sources);
  const namespaces = [...new Set(sources.map(({ namespace }) => namespace))];
  const accounts = new Map<Source, { user?: string; password?: string }>();
  for (const source of sources) accounts.set(source, await accountOf(access, source));
  const targets: Target[] = [];
  for (const namespace of namespaces) {
    const { stdout } = await access.kubectl(['-n', namespace, 'get', 'pods', '-o', 'json']);
    for (const pod of (JSON.parse(stdout) as { items: Pod[] }).items) {
      const { conditions, podIP } = pod.status;
      const ready = conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true;
      const split = /^(.+)-(\d+)$/.exec(pod.metadata.name);
      if (!ready || podIP === undefined || pod.metadata.deletionTimestamp !== undefined || split === null) continue;
      const source = sources.find((one) => one.namespace === namespace && one.statefulSet === split[1]);
      if (source === undefined) continue;
      const { component, protocol, port, seedable } = source;
      const place = { address: `${podIP}:${port}`, node: pod.spec.nodeName ?? '' };
      targets.push({ component, ordinal: Number(split[2]), protocol, ...place, ...accounts.get(source), seedable });
    }
  }
  return targets;
}

async function accountOf(access: LabAccess, source: Source): Promise<{ user?: string; password?: string }> {
  if (source.secret === undefined) return {};
  const get = ['-n', source.namespace, 'get', 'secret', source.secret, '-o', 'json', '--ignore-not-found'];
  const { stdout } = await access.kubectl(get);
  // absent while the component is uninstalled
  if (stdout === '') return {};
  const { data } = JSON.parse(stdout) as { data?: Record<string, string> };
  const value = (key: string | undefined): string => Buffer.from(data?.[key ?? ''] ?? '', 'base64').toString();
  const user = source.userKey === undefined ? source.user : value(source.userKey);
  return { ...(user === undefined ? {} : { user }), password: value(source.passwordKey) };
}

/** Runs the lab's writer with targets on its standard input (passwords stay off the command line). */
export async function askTargets(
  access: LabAccess,
  args: readonly string[],
  targets: readonly Target[],
): Promise<string> {
  const program = await buildProgram('writer', access.cache, access.progress);
  const { stdout } = await run([program, ...args], { input: JSON.stringify(targets) });
  return stdout;
}

export async function readHoldings(access: LabAccess, components: readonly Component[]): Promise<Holding[]> {
  const targets = await runningTargets(access, components);
  const holdings = new Map<string, Holding>();
  for (const { component, ordinal } of targets)
    holdings.set(`${component}-${ordinal}`, { component, ordinal, records: new Map() });
  for (const line of (await askTargets(access, ['read'], targets)).split('\n')) {
    if (line === '') continue;
    const read = readSchema.parse(JSON.parse(line));
    const holding = holdings.get(nameOf(read));
    if (holding === undefined) continue;
    if ('error' in read) holding.error = read.error;
    else holding.records.set(read.key, read.sum);
  }
  for (const target of targets.filter(({ seedable }) => seedable)) {
    const holding = holdings.get(nameOf(target));
    const answer = await fetch(`http://${target.address}/tree`).catch(() => undefined);
    if (holding !== undefined && answer?.ok === true)
      holding.tree = z.object({ digest: z.string() }).parse(await answer.json()).digest;
  }
  return [...holdings.values()];
}

/** Acknowledged = found? Reads the ledger and every running component. */
export async function checkLedger(access: LabAccess, components: readonly Component[]): Promise<LedgerVerdict> {
  const entries = parseLedger(await readFile(ledgerFile(access), 'utf8'));
  return judgeLedger(entries, await readHoldings(access, components));
}
