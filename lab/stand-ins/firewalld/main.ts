/**
 * Stand-in for firewall-cmd and its daemon, with real rules in the kernel: who is in a zone that accepts may reach every port, everybody
 * else may reach ssh and is told to go away; what is connected stays connected. As there, what is permanent and what is running are two
 * things, and a reload makes the second equal to the first.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

interface Rules {
  /** Sources of each zone whose target is ACCEPT; `ipset:NAME` stands for the entries of a set. */
  zones: Record<string, string[]>;
  sets: Record<string, string[]>;
}

const permanentFile = '/etc/firewalld/rules.json';
const runtimeFile = '/run/firewalld/rules.json';

function read(file: string): Rules {
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Rules) : { zones: {}, sets: {} };
}

function write(file: string, rules: Rules): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, JSON.stringify(rules));
}

function fail(code: number, message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(code);
}

function nft(script: string): void {
  const { status, stderr } = spawnSync('nft', ['-f', '-'], { input: script, encoding: 'utf8' });
  if (status !== 0) fail(13, `Error: COMMAND_FAILED: ${stderr.trim()}`);
}

function load(rules: Rules): void {
  const sources = Object.values(rules.zones)
    .flat()
    .flatMap((source) => (source.startsWith('ipset:') ? (rules.sets[source.slice('ipset:'.length)] ?? []) : [source]))
    // the lab has no addresses of the sixth version
    .filter((source) => !source.includes(':'));
  const accepted = sources.length === 0 ? [] : [`ip saddr { ${[...new Set(sources)].join(', ')} } accept`];
  const chain = [
    'type filter hook input priority 10; policy accept;',
    ...['ct state established,related accept', 'iifname "lo" accept', ...accepted],
    ...['icmp type echo-request accept', 'tcp dport 22 accept', 'reject with icmpx type admin-prohibited'],
  ];
  nft(
    `table inet firewalld\ndelete table inet firewalld\ntable inet firewalld {\nchain input {\n${chain.join('\n')}\n}\n}\n`,
  );
  write(runtimeFile, rules);
}

interface Words {
  permanent: boolean;
  values: Map<string, string[]>;
}

function wordsOf(args: readonly string[]): Words {
  const values = new Map<string, string[]>();
  for (const word of args) {
    const match = /^--(?<name>[a-z-]+)(?:=(?<value>.*))?$/.exec(word);
    if (match?.groups === undefined) fail(2, `usage: see firewall-cmd man page\nfirewall-cmd: error: ${word}`);
    const { name = '', value = '' } = match.groups as { name?: string; value?: string };
    values.set(name, [...(values.get(name) ?? []), value]);
  }
  return { permanent: values.delete('permanent'), values };
}

/** Adds to or removes from a list; undefined when the list is only asked for. */
function changed(list: readonly string[], added: readonly string[], removed: readonly string[]): string[] | undefined {
  if (added.length === 0 && removed.length === 0) return undefined;
  return [...new Set([...list, ...added])].filter((entry) => !removed.includes(entry));
}

function command(args: readonly string[]): void {
  const { permanent, values } = wordsOf(args);
  const first = (name: string): string | undefined => values.get(name)?.[0];
  const isRunning = existsSync(runtimeFile);
  if (values.has('state')) {
    if (!isRunning) fail(252, 'not running');
    process.stdout.write('running\n');
    return;
  }
  if (!isRunning) fail(252, 'FirewallD is not running');
  if (values.has('reload')) {
    load(read(permanentFile));
    process.stdout.write('success\n');
    return;
  }
  const rules = read(permanent ? permanentFile : runtimeFile);
  const of = (name: string): string[] => values.get(name) ?? [];
  const save = (next: Rules): void => {
    if (permanent) write(permanentFile, next);
    else load(next);
    process.stdout.write('success\n');
  };
  const set = first('ipset');
  if (set !== undefined) {
    const list = rules.sets[set];
    if (list === undefined) fail(135, `Error: INVALID_IPSET: ${set}`);
    const next = changed(list, of('add-entry'), of('remove-entry'));
    if (next === undefined) process.stdout.write(list.map((entry) => `${entry}\n`).join(''));
    else save({ ...rules, sets: { ...rules.sets, [set]: next } });
    return;
  }
  if (values.has('get-ipsets')) {
    process.stdout.write(`${Object.keys(rules.sets).join(' ')}\n`);
    return;
  }
  const fresh = first('new-ipset');
  if (fresh !== undefined) {
    if (rules.sets[fresh] !== undefined) fail(26, `Error: NAME_CONFLICT: new_ipset(): '${fresh}'`);
    save({ ...rules, sets: { ...rules.sets, [fresh]: [] } });
    return;
  }
  const zone = first('zone');
  if (zone !== undefined) {
    const list = rules.zones[zone] ?? [];
    const next = changed(list, of('add-source'), of('remove-source'));
    if (next === undefined) process.stdout.write(`${list.join(' ')}\n`);
    else save({ ...rules, zones: { ...rules.zones, [zone]: next } });
    return;
  }
  fail(2, `usage: see firewall-cmd man page\nfirewall-cmd: error: no such command in the lab: ${args.join(' ')}`);
}

const args = process.argv.slice(2);
if (args[0] === 'start') load(read(permanentFile));
else if (args[0] === 'stop') {
  nft('table inet firewalld\ndelete table inet firewalld\n');
  rmSync(runtimeFile, { force: true });
} else command(args);
