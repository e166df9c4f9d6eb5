import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { afterAll, describe, expect, it } from 'vitest';
import { guardPauseSeconds, guardScript } from '../../../src/activities/apply-guard.ts';
import { closedPort, makeCertificate, serveSilence, writeKubeconfig } from './fake-kubernetes.ts';
import { FakePlatform, type Effects } from './fake-platform.ts';
import { recorded } from './fixtures.ts';

interface State {
  kubernetes_nodes: [name: string, status: string, roles: string][];
  cronjobs: string[];
}

interface Transcript {
  name: string;
  environment: string | null;
  file: string;
  recorded_config: string;
  recorded_config_after: string;
  exit: number | string;
  stdout: string;
  stderr: string;
  before: State;
  after: State;
  effects: Record<string, Effects>;
}

const { cases, documents } = recorded<{ cases: Transcript[]; documents: Record<string, string> }>(
  'apply-transcripts.json',
);

const main = fileURLToPath(new URL('../../../lab/stand-ins/proton-cli/main.ts', import.meta.url));
const network = new URL('network.ts', import.meta.url).href;
const scratch = mkdtempSync(join(tmpdir(), 'stand-in-apply-'));
const certificate = makeCertificate(scratch);
afterAll(() => rmSync(scratch, { recursive: true }));

function document(name: string): string {
  const found = documents[name];
  if (found === undefined) throw new Error(`no document ${name}`);
  return found;
}

/** Addresses of all machines that any of the files names. */
const names = new Map<string, string>();
for (const text of Object.values(documents)) {
  for (const { ip4, name } of (parse(text) as { nodes: { ip4: string; name: string }[] }).nodes) names.set(ip4, name);
}

interface Outcome {
  exit: number | null;
  stdout: string;
  stderr: string;
  platform: FakePlatform;
}

interface Setting {
  switches?: object;
  /** Port of the API as the tool sees it. */
  seen?: number;
  /** Under the guard that ferry runs it under, and with its limits. */
  guarded?: boolean;
}

async function run(given: Transcript, { switches = {}, ...setting }: Setting = {}): Promise<Outcome> {
  const directory = mkdtempSync(join(scratch, 'case-'));
  const root = join(directory, 'root');
  for (const path of ['home/.kube', 'root/etc/kubernetes', 'root/etc/lab', 'cwd/service-package/charts'])
    mkdirSync(join(directory, path), { recursive: true });
  if (!given.name.startsWith('no-component-manage-chart'))
    writeFileSync(join(directory, 'cwd/service-package/charts/component-manage-1.0.0.tgz'), '');
  writeFileSync(join(directory, 'cwd/conf.yaml'), document(given.file));
  writeFileSync(join(root, 'etc/lab/proton-cli.json'), JSON.stringify({ sleepScale: 0.005, ...switches }));
  const platform = new FakePlatform({
    configuration: document(given.recorded_config),
    names,
    effects: given.effects,
    hasVersionedConfig: given.name !== 'unchanged-no-versioned-kubelet-configmap',
  });
  for (const [name, , roles] of given.before.kubernetes_nodes)
    platform.nodes.set(name, roles.includes('control-plane'));
  for (const name of given.before.cronjobs) platform.cronJobs.add(name);
  const [api, agents, closed] = [
    await platform.serveApi(certificate),
    await platform.serveAgents(),
    await closedPort(),
  ];
  writeKubeconfig(join(root, 'etc/kubernetes/admin.conf'), api.port, certificate);
  // the trap is an API that cannot be reached for a while
  const seen = setting.seen ?? (given.name.startsWith('fresh-trap') ? closed.port : api.port);
  writeKubeconfig(join(directory, 'home/.kube/config'), seen, certificate);
  const delay = /PROTON_CLI_NODE_REMOVE_DELAY=(?<seconds>\d+)/.exec(given.environment ?? '')?.groups?.['seconds'];
  const guard = join(directory, 'guard.sh');
  writeFileSync(guard, guardScript);
  const tool = [process.execPath, '--import', network, main, 'apply', '-f', 'conf.yaml'];
  const limits = [String(guardPauseSeconds * 100), String(guardPauseSeconds)];
  const [file = '', ...argv] = setting.guarded === true ? ['/bin/sh', guard, ...limits, ...tool] : tool;
  const child = spawn(file, argv, {
    cwd: join(directory, 'cwd'),
    env: {
      PATH: process.env['PATH'] ?? '',
      HOME: join(directory, 'home'),
      TEST_ROOT: root,
      TEST_AGENTS_PORT: String(agents.port),
      ...(delay === undefined ? {} : { PROTON_CLI_NODE_REMOVE_DELAY: delay }),
      ...(given.name === 'add-node-agent-down' ? { TEST_DOWN_HOST: '10.77.0.23' } : {}),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const exit = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  api.close();
  agents.close();
  return { exit, stdout, stderr, platform };
}

/** Modules that work on all nodes at once: what they say is compared node by node. */
function isOf(line: string): number {
  if (/update node |Keepalived/.test(line)) return 0;
  return /restart proton-cr/.test(line) ? 1 : -1;
}

function addressIn(line: string): string {
  return /10\.77\.0\.\d+/.exec(line)?.[0] ?? '';
}

/**
 * Without times, kubelet's arguments (they are those that the machine had) and the addresses of a crash; the lab's agent has another
 * path for files.
 */
function linesOf(stderr: string): string[] {
  const lines = stderr
    .replace(/^time=\S+/gm, 'time=T')
    .replace(/(new kubelet args: )\S.*(?= file=)/g, '$1')
    .replace(/^(\[signal SIGSEGV: segmentation violation).*\]$/gm, '$1]')
    .replace(/\ngoroutine 1 \[running\]:\n/g, '')
    .replace(/^\[stack trace left out\]\n/gm, '')
    .replace(/(ecms\/v1alpha1\/files)[^"]*/g, '$1')
    .replace(/\n+$/, '')
    .split('\n');
  const sorted: string[] = [];
  for (let start = 0; start < lines.length;) {
    const module = isOf(lines[start] ?? '');
    let end = start + 1;
    if (module >= 0) while (end < lines.length && isOf(lines[end] ?? '') === module) end += 1;
    const block = lines.slice(start, end);
    sorted.push(...block.sort((one, other) => addressIn(one).localeCompare(addressIn(other))));
    start = end;
  }
  return sorted;
}

/** What the tool asks of a machine and the lab cannot give: settings of the kernel, files of its services, helm's repositories. */
const beyondTheLab = [
  /^(?:modprobe|getenforce|swapoff|sed|getconf|free|iptables|helm|helm3) ?/,
  /^sysctl --load /,
  /^proton-cli alpha /,
  /^POST \/(?:usr\/lib\/sysctl\.d\/proton-cs\.conf|etc\/proton-cr\/|etc\/containerd\/|etc\/kubernetes\/manifests\/|var\/lib\/kubelet)/,
];

/** What the stand-in asks in another way: it reads a file by a command, and removes one. */
const otherwise = [/^cat \/etc\/hosts$/, /^rm -rf \/etc\/proton-cli$/];

function callsOf(calls: readonly string[], leftOut: readonly RegExp[]): string[] {
  return (
    calls
      .filter((call) => !leftOut.some((pattern) => pattern.test(call)))
      // asked for again while a node is prepared
      .filter((call, index, all) => call !== 'hostname' || all.indexOf(call) === index)
  );
}

function recordedCalls({ agent = [] }: Effects): string[] {
  return callsOf(
    agent.map(({ command, POST }) => command ?? `POST ${POST ?? ''}`),
    beyondTheLab,
  );
}

/** Only the first apply that got so far changed kubelet's settings on the recorded machines; the lab's kubelets have none of the tool's. */
const isFirst = ({ name }: Transcript): boolean => name === 'no-component-manage-chart-first';
const kubeletRestart = /systemctl restart kubelet/;

const isKilled = ({ exit }: Transcript): boolean => typeof exit === 'string';

describe('transcripts of apply', () => {
  it('are all there', () => {
    expect(cases).toHaveLength(24);
  });

  it.concurrent.each(cases.filter((given) => !isKilled(given)))(
    '$name',
    async (given) => {
      const { exit, stdout, stderr, platform } = await run(given);
      expect(linesOf(stderr)).toEqual(
        linesOf(given.stderr).filter((line) => !isFirst(given) || !kubeletRestart.test(line)),
      );
      expect({ exit, stdout }).toEqual({ exit: given.exit, stdout: given.stdout });
      expect(parse(platform.configuration)).toEqual(parse(document(given.recorded_config_after)));
      const roles = given.after.kubernetes_nodes.map(([name, , role]) => [name, role.includes('control-plane')]);
      expect([...platform.nodes].sort()).toEqual(roles.sort());
      expect([...platform.cronJobs].sort()).toEqual(given.after.cronjobs.toSorted());
      for (const [name, effects] of Object.entries(given.effects)) {
        const calls = callsOf(platform.calls.get(name) ?? [], otherwise);
        expect({ name, calls }).toEqual({
          name,
          calls: recordedCalls(effects).filter((call) => !isFirst(given) || !kubeletRestart.test(call)),
        });
        const { cs } = effects.slb?.find(({ m }) => m === 'POST') ?? {};
        if (cs !== undefined) expect({ name, cs: platform.backends.get(name) }).toEqual({ name, cs });
      }
    },
    60_000,
  );

  it.concurrent.each(cases.filter(isKilled))(
    '$name, up to where it was killed',
    async (given) => {
      const { stdout, stderr } = await run(given);
      const [before = ''] = given.stderr.split(/^WATCHER: .*\n/m);
      const lines = linesOf(before);
      expect(linesOf(stderr).slice(0, lines.length)).toEqual(lines);
      expect(lines.length).toBeGreaterThan(1);
      expect(stdout).toBe(given.stdout);
    },
    60_000,
  );

  it('the variant that fails in kubesuite does so with several nodes, and has only cordoned them', async () => {
    const given = cases.find(({ name }) => name === 'remove-two-workers-1');
    if (given === undefined) throw new Error('no such transcript');
    const { exit, stderr, platform } = await run(given, { switches: { flakeFirstRemovals: 1 } });
    expect(exit).toBe(1);
    expect(stderr).toContain('Error: apply module cs fail: unable to delete nodes: kubesuite: exit status 1\n');
    expect([...platform.nodes.keys()]).toEqual(given.before.kubernetes_nodes.map(([name]) => name));
    expect([...platform.calls.values()].flat().filter((call) => call.startsWith('kubectl'))).toEqual([
      'kubectl cordon new1',
      'kubectl cordon new3',
    ]);
  }, 60_000);
});

/** An API that takes connections and never answers: the tool then installs a new cluster over the live one. */
describe('an apply whose configuration is not readable', () => {
  const announced = 'msg=init kubernetes cluster begin';
  async function againstMuteApi(guarded: boolean): Promise<Outcome> {
    const given = cases.find(({ name }) => name === 'fresh-trap');
    if (given === undefined) throw new Error('no such transcript');
    const mute = await serveSilence();
    try {
      return await run(given, { seen: mute.port, guarded });
    } finally {
      mute.close();
    }
  }

  it.concurrent(
    'goes as far as the fresh install when nobody guards it',
    async () => {
      const { exit, stderr, platform } = await againstMuteApi(false);

      expect(stderr).toContain(announced);
      expect([...platform.calls.values()].flat()).toContain('systemctl stop kubelet');
      expect(exit).toBe(1);
    },
    60_000,
  );

  it.concurrent(
    'is ended by the guard before it asks anything of any machine',
    async () => {
      const { exit, stdout, stderr, platform } = await againstMuteApi(true);

      expect(exit).toBe(86);
      expect(stdout).toBe('');
      expect(stderr.match(/msg=.*(?= file=)/g)).toEqual(['msg=version info']);
      expect([...platform.calls]).toEqual([]);
      expect([...platform.backends]).toEqual([]);
    },
    60_000,
  );

  it.concurrent(
    'is left alone by the guard when it is readable',
    async () => {
      const given = cases.find(({ name }) => name === 'apply-after-fresh-trap');
      if (given === undefined) throw new Error('no such transcript');
      const { exit, stdout } = await run(given, { guarded: true });

      expect({ exit, stdout }).toEqual({ exit: given.exit, stdout: given.stdout });
    },
    60_000,
  );
});
