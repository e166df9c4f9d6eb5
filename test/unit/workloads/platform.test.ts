import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse, parseDocument } from 'yaml';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { applicationManifests } from '../../../lab/workloads/applications.ts';
import { clusterConfiguration, passwords } from '../../../lab/workloads/cluster-config.ts';
import { components, componentsOf } from '../../../lab/workloads/components.ts';
import { packImage } from '../../../lab/workloads/images.ts';
import {
  buildServicePackage,
  listCharts,
  platformVersion,
  profileFromEnvironment,
} from '../../../lab/workloads/service-package.ts';

const machines = [11, 12, 13].map((n, index) => ({ name: `old${index + 1}`, address: `10.77.0.${n}` }));
let work: string;
beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), 'platform-'));
});
afterEach(() => rm(work, { recursive: true, force: true }));

describe('recorded configuration', () => {
  const text = clusterConfiguration(machines, 'full');

  it.each(['1.1', '1.2'] as const)('reads the same by YAML %s, passwords included', (version) => {
    const config = parseDocument(text, { version }).toJS() as Record<
      string,
      { admin_passwd?: unknown; password?: unknown }
    >;
    expect(config['proton_mariadb']?.admin_passwd).toBe(passwords.mariadbAdmin);
    expect(config['proton_mongodb']?.admin_passwd).toBe(passwords.mongodbAdmin);
    expect(config['proton_redis']?.admin_passwd).toBe(passwords.redis);
    expect(config['nebula']?.password).toBe(passwords.nebula);
    expect(config['resource_connect_info']).toMatchObject({
      rds: { password: passwords.mariadb },
      mongodb: { password: passwords.mongodb },
      opensearch: { password: passwords.opensearch },
      mq: { auth: { password: passwords.kafka } },
    });
  });

  it('has sorted keys and no comment, as the platform prints it', () => {
    const keys = Object.keys(parse(text) as object);
    expect(keys).toEqual(keys.toSorted());
    expect(text).not.toMatch(/^\s*#/m);
  });

  it('names a section with hosts for each component of the profile and none else', () => {
    const all = components.map(({ section }) => section);
    for (const profile of ['small', 'full'] as const) {
      const config = parse(clusterConfiguration(machines, profile)) as Record<string, { hosts: string[] } | undefined>;
      const wanted = componentsOf(profile);
      expect(all.filter((section) => config[section] !== undefined).sort()).toEqual(
        wanted.map(({ section }) => section).sort(),
      );
      for (const { section, hosts } of wanted)
        expect(config[section]?.hosts).toEqual(['old1', 'old2', 'old3'].slice(0, hosts));
    }
  });

  it('has no deploy namespace, which would make the platform skip three components', () => {
    expect((parse(text) as { deploy: object }).deploy).toEqual({ devicespec: 'AS10000', mode: 'standard' });
  });
});

describe('components', () => {
  it('are thirteen kinds, seven or more of them in the small profile', () => {
    expect(components).toHaveLength(13);
    const small = componentsOf('small').map(({ name }) => name);
    expect(small).toEqual(
      expect.arrayContaining(['redis', 'etcd', 'zookeeper', 'kafka', 'grafana', 'mariadb', 'mongodb']),
    );
  });

  it.each(['tiny', ''])('LAB_PROFILE=%j is refused', (LAB_PROFILE) => {
    expect(() => profileFromEnvironment({ LAB_PROFILE })).toThrow('there are small and full');
  });
});

describe('service package', () => {
  it('holds each chart under its name and version, the same bytes each time', async () => {
    await buildServicePackage(join(work, 'a'), 'small');
    await buildServicePackage(join(work, 'b'), 'small');

    const charts = await readdir(join(work, 'a', 'service-package', 'charts'));
    expect(charts.sort()).toEqual((await listCharts()).map(({ name, version }) => `${name}-${version}.tgz`).sort());
    expect(await readFile(join(work, 'a', 'proton-version.txt'), 'utf8')).toBe(`${platformVersion}\n`);
    for (const chart of charts) {
      const [a, b] = await Promise.all(
        ['a', 'b'].map((one) => readFile(join(work, one, 'service-package', 'charts', chart))),
      );
      expect(a?.equals(b ?? Buffer.alloc(0)), chart).toBe(true);
    }
  });

  it('packs charts that stand alone: what they share is in them', async () => {
    await buildServicePackage(work, 'full');
    const archive = join(work, 'service-package', 'charts', 'proton-kafka-5.6.0.tgz');
    const { stdout } = await promisify(execFile)('tar', ['-tvzf', archive]);
    expect(stdout).toMatch(/^-\S+ .* proton-kafka\/templates\/_lab\.tpl$/m);
    expect(stdout).not.toContain(' -> ');
  });
});

describe('packImage', () => {
  it('makes the same archive of the same folder, with the reference containerd looks for', async () => {
    const root = join(work, 'root');
    await mkdir(join(root, 'bin'), { recursive: true });
    await writeFile(join(root, 'bin', 'program'), 'x', { mode: 0o755 });
    await symlink('program', join(root, 'bin', 'link'));

    await packImage(root, join(work, 'one.tar'), 'docker.io/lab/one:1', { Cmd: ['/bin/program'] });
    await packImage(root, join(work, 'two.tar'), 'docker.io/lab/one:1', { Cmd: ['/bin/program'] });

    const [one, two] = await Promise.all(['one.tar', 'two.tar'].map((name) => readFile(join(work, name))));
    expect(one?.equals(two ?? Buffer.alloc(0))).toBe(true);
    const { stdout } = await promisify(execFile)('tar', ['-xOf', join(work, 'one.tar'), 'index.json']);
    expect(JSON.parse(stdout)).toMatchObject({
      manifests: [{ annotations: { 'io.containerd.image.name': 'docker.io/lab/one:1' } }],
    });
  });
});

describe('applications', () => {
  const manifests = applicationManifests(
    components.flatMap(({ sources }) => sources),
    'http://ledger',
  );
  const found = (kind: string): { name: string; spec: Record<string, unknown> }[] =>
    manifests
      .filter((manifest) => manifest['kind'] === kind)
      .map((manifest) => ({
        name: (manifest['metadata'] as { name: string }).name,
        spec: manifest['spec'] as Record<string, unknown>,
      }));

  it('are one of each kind that has to be stopped', () => {
    expect(found('Deployment').map(({ name, spec }) => [name, spec['replicas']])).toEqual([
      ['ledger-client', 1],
      ['deploy-service', 1],
      ['document-service', 2],
      ['legacy-gateway', 0],
    ]);
    expect(found('StatefulSet')).toHaveLength(1);
    expect(found('DaemonSet')).toHaveLength(1);
    expect(found('CronJob').map(({ name, spec }) => [name, spec['suspend']])).toEqual([
      ['session-cleanup', false],
      ['yearly-audit', true],
    ]);
    expect(found('HorizontalPodAutoscaler')).toHaveLength(1);
  });

  it('give the client no more rights than it needs', () => {
    const role = manifests.find((manifest) => manifest['kind'] === 'Role') as { rules: object[] };
    expect(role.rules).toEqual([
      { apiGroups: [''], resources: ['pods'], verbs: ['get', 'list'] },
      {
        apiGroups: [''],
        resources: ['secrets'],
        resourceNames: ['proton-redis-proton-redis-secret', 'proton-mariadb-proton-rds'],
        verbs: ['get'],
      },
    ]);
  });
});
