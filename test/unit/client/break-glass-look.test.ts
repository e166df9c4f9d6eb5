import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { encrypt } from '../../../src/activities/backup-cipher.ts';
import type { KubernetesApi } from '../../../src/activities/kubernetes-api.ts';
import { sha256 } from '../../../src/activities/platform-secrets.ts';
import { assess } from '../../../src/client/break-glass-assess.ts';
import type { LookInput } from '../../../src/client/break-glass-look.ts';
import { look, readBackupFiles } from '../../../src/client/break-glass-look.ts';
import type { HostAddress, HostConnection, RunResult } from '../../../src/hosts/contract.ts';
import { componentTable } from '../../../src/plan/components.ts';
import { recordedConfig, sampleComponents } from '../plan/samples.ts';

/* What break-glass reads, with a cluster and machines that answer from memory: the window is open, one machine has stopped services. */

const hostKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGludmVudGVkIGhvc3Qga2V5IG9mIGEgc2FtcGxl';
const knownHosts = [{ patterns: ['node-?'], key: hostKey, revoked: false }];
const key = Buffer.alloc(32, 7);
const threeNodes = ['node-1', 'node-2', 'node-3'];
const directory = '/var/lib/ferry/backup/site-a/20261124-abcd';

function secret(values: Record<string, string>): object {
  const data = Object.entries(values).map(([name, value]) => [name, Buffer.from(value).toString('base64')]);
  return { metadata: { name: 'secret' }, data: Object.fromEntries(data) as object };
}

function records(): Record<string, string> {
  return Object.fromEntries(
    sampleComponents().flatMap(({ kind, dataPath, replicas }) => {
      const { persist } = componentTable[kind];
      const params = { hosts: replicas.map(({ from }) => from), data_path: dataPath, admin_passwd: 'hunter2' };
      return persist === undefined ? [] : [[persist.key, stringify({ params })]];
    }),
  );
}

function backupFiles(encrypted: boolean): Map<string, Buffer> {
  const contents = new Map([
    ['secret-proton-proton-cli-config.json', secret({ ClusterConfiguration: recordedConfig('base') })],
    ['secret-resource-persist-component-manage-components.json', secret(records())],
  ]);
  const files = new Map<string, Buffer>();
  const listed = [...contents].map(([name, object]) => {
    const bytes = Buffer.from(JSON.stringify(object));
    const stored = encrypted ? `${name}.aes` : name;
    files.set(`${directory}/${stored}`, encrypted ? encrypt(bytes, key, stored) : bytes);
    return { name: stored, digest: sha256(bytes) };
  });
  const manifest = { takenAt: '2026-11-24T01:00:00Z', encrypted, files: listed };
  files.set(`${directory}/manifest.json`, Buffer.from(JSON.stringify(manifest)));
  return files;
}

interface World {
  files: Map<string, Buffer>;
  /** Machines where kubelet starts etcd; it does not answer. */
  masters?: string[];
  config?: string;
  /** Of the application, once it was started again; the others run again with it. */
  replicas?: number;
  /** A unit that runs on node-2. */
  unit?: string;
}

function deps(world: World): Parameters<typeof look>[0] {
  const find = (path: string): Promise<unknown> => {
    const { config } = world;
    if (path.endsWith('/proton-cli-config')) {
      return Promise.resolve(config === undefined ? undefined : secret({ ClusterConfiguration: config }));
    }
    if (path.endsWith('/namespaces/proton/leases/ferry-migration')) {
      return Promise.resolve({ metadata: { name: 'ferry-migration' }, spec: { holderIdentity: 'night of the move' } });
    }
    return Promise.resolve(path.endsWith('-components') ? secret(records()) : undefined);
  };
  const list = (path: string): Promise<unknown[]> => {
    if (path === '/api/v1/nodes') {
      return Promise.resolve(
        [1, 2, 3, 4].map((number) => ({
          metadata: { name: `node-${number}`, labels: { 'node-role.kubernetes.io/control-plane': '' } },
        })),
      );
    }
    if (path === '/apis/apps/v1/deployments') {
      const annotations = { 'ferry.migration/id': 'site-a', 'ferry.migration/previous-replicas': '3', other: 'x' };
      const spec = { replicas: world.replicas ?? 0 };
      return Promise.resolve([{ metadata: { name: 'web', namespace: 'anyshare', annotations }, spec }]);
    }
    if (path === '/apis/apps/v1/daemonsets') {
      const annotations = { 'ferry.migration/id': 'site-a', 'ferry.migration/previous-node-selector': '{}' };
      const nodeSelector = world.replicas === undefined ? { 'ferry.migration/parked': 'true' } : {};
      const metadata = { name: 'agent', namespace: 'anyshare', annotations };
      return Promise.resolve([{ metadata, spec: { template: { spec: { nodeSelector } } } }]);
    }
    if (path === '/apis/batch/v1/jobs') {
      const metadata = { name: 'once', namespace: 'anyshare', annotations: { 'ferry.migration/id': 'site-a' } };
      return Promise.resolve([{ metadata, spec: { suspend: world.replicas === undefined } }]);
    }
    if (path.endsWith('/secrets')) {
      const labels = { 'ferry.migration/id': 'site-a' };
      return Promise.resolve([{ metadata: { name: 'ferry-config-add-nodes', labels } }]);
    }
    return Promise.resolve([]);
  };
  const connection = (host: HostAddress): HostConnection =>
    ({
      host,
      run: (argv: readonly string[]): Promise<RunResult> => {
        const line = argv.join(' ');
        if (line.includes('manifests/etcd.yaml')) {
          const isMaster = world.masters?.includes(host.name) === true;
          return Promise.resolve({ code: isMaster ? 0 : 1, signal: null, stdout: '', stderr: '' });
        }
        const stdout = line.endsWith('-- /var/lib/ferry/backup')
          ? 'site-a\n'
          : line.endsWith('-- /var/lib/ferry/backup/site-a')
            ? '20261124-abcd\n20261125-half\n'
            : line.includes('list-units') && host.name === 'node-2' && world.unit !== undefined
              ? `${world.unit} loaded active running ferry job\n`
              : '';
        return Promise.resolve({ code: 0, signal: null, stdout, stderr: '' });
      },
      readFile: (path: string) => {
        const isStopped = host.name === 'node-2' && path.endsWith('/site-a/stopped-units.json');
        return Promise.resolve(
          isStopped ? Buffer.from('{"units":["kubelet.service"],"restored":false}') : world.files.get(path),
        );
      },
    }) as unknown as HostConnection;
  return {
    api: { server: 'https://a', find, list, request: () => Promise.resolve({}) } as unknown as KubernetesApi,
    hosts: {
      connect: (host) =>
        host.name === 'node-3' ? Promise.reject(new Error('node-3 is away')) : Promise.resolve(connection(host)),
      close: () => Promise.resolve(),
    },
    knownHosts,
  };
}

const input: LookInput = {
  configNamespace: 'proton',
  resourceNamespace: 'resource',
  backupDirectory: '/var/lib/ferry/backup',
  hostAddress: Object.fromEntries([1, 2, 3, 4].map((number) => [`node-${number}`, `node-${number}`])),
  sshUser: 'root',
  sshPort: 22,
};

function keyFile(): string {
  const file = join(mkdtempSync(join(tmpdir(), 'ferry-key-')), 'key');
  writeFileSync(file, key);
  return file;
}

describe('look', () => {
  it('finds breadcrumbs, prepared stages, the newest whole backup, running units and stopped services', async () => {
    const world = { files: backupFiles(false), config: recordedConfig('base'), unit: 'ferry-apply-site-a.service' };
    const { findings } = await look(deps(world), input);

    expect(findings).toMatchObject({
      migration: 'site-a',
      workflowId: 'night of the move',
      prepared: ['add-nodes'],
      control: { name: 'node-1' },
      configNodes: threeNodes,
      backup: { directory, encrypted: false, nodes: threeNodes, masters: threeNodes },
      running: [{ machine: { name: 'node-2' }, unit: 'ferry-apply-site-a.service' }],
      stopped: [{ machine: { name: 'node-2' }, units: ['kubelet.service'] }],
      silent: [{ name: 'node-3', why: 'node-3 is away' }],
    });
    expect(findings.marked).toEqual([
      {
        kind: 'Deployment',
        namespace: 'anyshare',
        name: 'web',
        marks: { 'ferry.migration/id': 'site-a', 'ferry.migration/previous-replicas': '3' },
        runs: false,
      },
      expect.objectContaining({ kind: 'DaemonSet', name: 'agent', runs: false }),
      expect.objectContaining({ kind: 'Job', name: 'once', runs: false }),
    ]);
    expect(assess(findings).verdict).toBe('unclear');
    expect(assess({ ...findings, running: [] }).verdict).toBe('the way back is open');
  });

  it('sees what was started again and still carries its breadcrumbs', async () => {
    const world = { files: backupFiles(false), config: recordedConfig('base'), replicas: 3 };
    const { marked } = (await look(deps(world), input)).findings;

    expect(marked.map(({ kind, runs }) => [kind, runs])).toEqual([
      ['Deployment', true],
      ['DaemonSet', true],
      ['Job', true],
    ]);
  });

  it('says that members of etcd could not be listed, and asks for none where there are none', async () => {
    const world = { files: backupFiles(false), config: recordedConfig('base') };
    const { findings } = await look(deps({ ...world, masters: ['node-1'] }), input);

    expect(findings.members).toBeUndefined();
    expect(findings.membersTrouble).toMatch(/\S/);
    expect((await look(deps(world), input)).findings.membersTrouble).toBeUndefined();
  });

  it('holds no secret', async () => {
    const { findings } = await look(deps({ files: backupFiles(false), config: recordedConfig('base') }), input);

    expect(JSON.stringify([findings, assess(findings)])).not.toContain('hunter2');
  });

  it('goes on when the configuration is gone, and warns of proton-cli', async () => {
    const { findings } = await look(deps({ files: backupFiles(false) }), { ...input, controlHost: 'node-1' });

    expect(findings.configTrouble).toContain('does not exist');
    expect(assess(findings).stands.join('\n')).toContain('do not run it before the Secret is back');
    expect(assess(findings).steps.map(({ title }) => title)).toContain('Restore the Secrets');
  });

  it('reads an encrypted backup with its key, and says that it cannot without', async () => {
    const world = { files: backupFiles(true), config: recordedConfig('base') };
    const blind = await look(deps(world), input);
    const seeing = await look(deps(world), { ...input, backupKeyFile: keyFile() });

    expect(assess(blind.findings).verdict).toBe('unclear');
    expect(seeing.findings.backup?.nodes).toEqual(threeNodes);
  });
});

describe('readBackupFiles', () => {
  it('refuses a file that is not what the manifest says', async () => {
    const files = backupFiles(false);
    files.set(`${directory}/secret-proton-proton-cli-config.json`, Buffer.from('{}'));
    const { hosts } = deps({ files });
    const control = await hosts.connect({ name: 'node-1', address: 'x', port: 22, user: 'root', hostKeys: [] });
    const backup = { directory, takenAt: '', encrypted: false, files: [] };

    await expect(readBackupFiles(control, backup, undefined)).rejects.toThrow(/digest is not that of the manifest/);
  });
});
