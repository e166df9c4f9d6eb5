import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { PlanReference } from '../../../src/activities/contract.ts';
import { localRunner } from '../../../src/activities/helm.ts';
import type { KubernetesApi } from '../../../src/activities/kubernetes-api.ts';
import { createSecretActivities } from '../../../src/activities/secrets.ts';
import type { HostConnection, Hosts } from '../../../src/hosts/contract.ts';
import type { Host } from '../../../src/plan/plan.ts';

const control: Host = { name: 'node-1', address: '10.0.0.11', port: 22, user: 'root', hostKeys: [], role: 'old' };
const plan = {
  cluster: 'demo',
  platform: { configNamespace: 'proton', resourceNamespace: 'resource', home: '/no/such/home' },
} as PlanReference;
const api = {
  server: 'https://10.0.0.11:6443',
  find: (path: string) =>
    Promise.resolve({ metadata: { name: path.split('/').at(-1) ?? '', namespace: 'x' }, data: { key: 'dmFsdWU=' } }),
} as unknown as KubernetesApi;

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'ferry-backup-'));
});
afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

/** This machine as the control host, its own state kept below the temporary directory. */
function hosts(ran: string[][] = []): Hosts {
  const here = (path: string): string => (path.startsWith('/var/lib/ferry') ? `${root}${path}` : path);
  const connection = {
    host: control,
    run: (argv: readonly string[]) => {
      ran.push([...argv]);
      return localRunner.run(argv.map(here));
    },
    readFile: (path: string) => readFile(here(path)).catch(() => undefined),
    writeFile: (path: string, content: string | Buffer, mode: number) => writeFile(here(path), content, { mode }),
  } as unknown as HostConnection;
  return { connect: () => Promise.resolve(connection), close: () => Promise.resolve() };
}

async function modeOf(path: string): Promise<string> {
  return ((await stat(path)).mode & 0o7777).toString(8);
}

function backup(directory: string, using: Hosts = hosts(), repeated: { again?: true } = {}): Promise<unknown> {
  const { backupSecrets } = createSecretActivities({ api, hosts: using, backup: { directory } });
  return backupSecrets({ migration: 'demo', control, plan, ...repeated });
}

describe('the directory of a backup', () => {
  it('keeps its mode where it exists; what lies below is closed', async () => {
    const directory = join(root, 'mnt');
    await mkdir(directory);
    await chmod(directory, 0o1777);

    await backup(directory);

    expect(await modeOf(directory)).toBe('1777');
    expect(await modeOf(join(directory, 'demo'))).toBe('700');
    const [run = ''] = await readdir(join(directory, 'demo'));
    expect(await modeOf(join(directory, 'demo', run))).toBe('700');
    expect(await readdir(join(directory, 'demo', run))).toContain('manifest.json');
  });

  it('is another one for what is saved again, which a repeated step finds', async () => {
    const directory = join(root, 'mnt');

    await backup(directory);
    const second = await backup(directory, hosts(), { again: true });
    const repeated = [await backup(directory), await backup(directory, hosts(), { again: true })];

    expect(second).toMatchObject({ changed: true });
    expect(repeated).toMatchObject([{ changed: false }, { changed: false }]);
    expect(await readdir(join(directory, 'demo'))).toHaveLength(2);
  });

  it('is closed where it has to be made', async () => {
    const directory = join(root, 'a', 'b');

    await backup(directory);

    expect(await modeOf(directory)).toBe('700');
  });

  it('is closed again below where somebody opened it', async () => {
    const directory = join(root, 'mnt');
    await mkdir(join(directory, 'demo'), { recursive: true });
    await chmod(join(directory, 'demo'), 0o755);

    await backup(directory);

    expect(await modeOf(join(directory, 'demo'))).toBe('700');
  });

  it.each([
    '/',
    '/tmp',
    '/etc',
    '/etc/ferry',
    '/usr',
    '/usr/share/x',
    '/var',
    '/var/lib',
    '/root',
    '/mnt',
    '/var/lib/ferry',
  ])('is never %s', async (directory) => {
    const ran: string[][] = [];

    await expect(backup(directory, hosts(ran))).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringContaining(`The backup cannot go to ${directory} on node-1`) as string,
    });
    expect(ran.map(([program]) => program)).toEqual(['readlink']);
  });

  it('is never one of the system behind a link', async () => {
    await symlink('/etc', join(root, 'link'));

    await expect(backup(join(root, 'link', 'ferry-test'))).rejects.toMatchObject({
      message: expect.stringContaining('/etc/ferry-test belongs to the system (/etc)') as string,
    });
  });

  it('may be the usual one, which is below a directory of this program', async () => {
    await expect(backup('/var/lib/ferry/backup')).resolves.toMatchObject({ changed: true });
  });

  it('is quoted in the command that a message offers', async () => {
    const file = join(root, 'it is a file');
    await writeFile(file, '');

    await expect(backup(file)).rejects.toMatchObject({
      message: expect.stringContaining(String.raw`'\''${file}'\''`) as string,
    });
  });
});
