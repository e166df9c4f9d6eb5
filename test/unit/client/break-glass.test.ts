import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { describeAssessment } from '../../../src/client/break-glass.ts';
import type { Findings, FoundComponent, FoundMember, MarkedWorkload } from '../../../src/client/break-glass-assess.ts';
import { assess } from '../../../src/client/break-glass-assess.ts';
import { chooseMigration } from '../../../src/client/break-glass-look.ts';

const machine = { name: 'old1', user: 'root', address: '10.0.0.1', port: 22 };
const fresh = { name: 'new1', user: 'root', address: '10.0.0.2', port: 2222 };

function redis(host: string, volumeHost?: string): FoundComponent {
  const volume = volumeHost === undefined ? {} : { volumeHost, node: volumeHost };
  return { kind: 'redis', namespace: 'resource', replicas: [{ ordinal: 0, host, pvc: 'c-0', pv: 'v-0', ...volume }] };
}

function marked(kind: MarkedWorkload['kind'], name: string, marks: Record<string, string>): MarkedWorkload {
  return { kind, namespace: 'anyshare', name, marks: { 'ferry.migration/id': 'site-a', ...marks }, runs: false };
}

const applications: MarkedWorkload[] = [
  marked('CronJob', 'nightly', { 'ferry.migration/previous-suspend': 'false' }),
  marked('CronJob', 'off', { 'ferry.migration/previous-suspend': 'true' }),
  marked('Deployment', 'web', { 'ferry.migration/previous-replicas': '3' }),
  marked('DaemonSet', 'agent', { 'ferry.migration/previous-node-selector': '{}' }),
  marked('StatefulSet', 'index', { 'ferry.migration/previous-replicas': '2' }),
  marked('HorizontalPodAutoscaler', 'web', { 'ferry.migration/previous-min-replicas': '0' }),
];

/** Nothing has happened; `change` says what has. */
function findings(change: Partial<Findings> = {}): Findings {
  return {
    migration: 'site-a',
    configNamespace: 'proton',
    resourceNamespace: 'resource',
    marked: [],
    configNodes: ['old1'],
    clusterNodes: [{ name: 'old1', ready: true }],
    components: [redis('old1', 'old1')],
    prepared: [],
    control: machine,
    packageDirectory: '/opt/proton-package',
    home: '/root',
    protonCli: 'proton-cli',
    backup: {
      directory: '/var/lib/ferry/backup/site-a/20261124',
      takenAt: '2026-11-24T01:00:00Z',
      encrypted: false,
      files: ['secret-proton-proton-cli-config.json', 'dot-proton-cli.yaml'],
      nodes: ['old1'],
      components: [{ kind: 'redis', hosts: ['old1'] }],
    },
    running: [],
    stopped: [],
    silent: [],
    ...change,
  };
}

const inWindow: Partial<Findings> = {
  marked: applications,
  configNodes: ['old1', 'new1'],
  clusterNodes: [
    { name: 'old1', ready: true },
    { name: 'new1', ready: true },
  ],
  prepared: ['add-nodes', 'reinstall'],
};
const commandsOf = (change: Partial<Findings>): string[] =>
  assess(findings(change)).steps.flatMap(({ commands }) => commands);

describe('assess', () => {
  it.each<[string, Partial<Findings>, string]>([
    ['nothing happened', {}, 'nothing to bring back'],
    ['applications are stopped', { marked: applications }, 'the way back is open'],
    ['nodes were added', inWindow, 'the way back is open'],
    ['components are uninstalled', { ...inWindow, components: [redis('new1')] }, 'the way back is open'],
    ['an old node left the cluster', { ...inWindow, clusterNodes: [{ name: 'new1', ready: true }] }, 'no way back'],
    ['an old node left the configuration', { ...inWindow, configNodes: ['new1'] }, 'no way back'],
    [
      'the backup cannot be read',
      { ...inWindow, backup: { directory: '/b', takenAt: 't', encrypted: true, files: [] } },
      'unclear',
    ],
  ])('%s', (_, change, verdict) => {
    expect(assess(findings(change)).verdict).toBe(verdict);
  });

  it('starts applications as their breadcrumbs say, what starts things by itself last', () => {
    expect(commandsOf({ marked: applications }).filter((line) => !line.includes('annotate'))).toEqual([
      'kubectl -n anyshare scale statefulset index --replicas=2',
      'kubectl -n anyshare scale deployment web --replicas=3',
      `kubectl -n anyshare patch daemonset agent --type=merge -p '{"spec":{"template":{"spec":{"nodeSelector":{"ferry.migration/parked":null}}}}}'`,
      `kubectl -n anyshare patch cronjob nightly --type=merge -p '{"spec":{"suspend":false}}'`,
      `kubectl -n anyshare patch horizontalpodautoscaler web --type=merge -p '{"spec":{"minReplicas":0}}'`,
    ]);
  });

  it('brings components back in order: off the new nodes, Secrets, apply, applications', () => {
    const { steps } = assess(findings({ ...inWindow, components: [redis('new1', 'new1')] }));

    expect(steps.map(({ title }) => title)).toEqual([
      'Take the components off the new nodes',
      'Restore the Secrets',
      'Install the components on the old nodes, over their own data',
      'Keep the new nodes empty',
      'Start the applications as they were',
      'Resume what starts things by itself',
      'Take the breadcrumbs away',
    ]);
    expect(steps[0]?.commands).toEqual([
      'helm3 -n resource uninstall proton-redis --wait',
      'kubectl -n resource delete pvc c-0 --ignore-not-found',
      'kubectl delete pv v-0 --ignore-not-found',
    ]);
    expect(steps[2]?.commands).toContain(
      `ssh root@10.0.0.1 'cd /opt/proton-package && proton-cli apply -f /root/ferry-old-config.yaml'`,
    );
  });

  describe('where masters are members of etcd', () => {
    const member = (name: string, id: string, healthy = true): FoundMember => ({
      ...{ id, name, leader: name === 'old1', healthy },
      machine: { ...fresh, name },
    });

    it('has new ones leave one by one, dead ones first, before the apply that would shut them out', () => {
      const { steps, stands } = assess(
        findings({
          ...inWindow,
          components: [redis('new1')],
          configNodes: ['old1', 'new1', 'new2'],
          clusterNodes: ['old1', 'new1', 'new2'].map((name) => ({ name, ready: true })),
          members: [member('old1', 'a1'), member('new1', 'b1'), member('new2', 'b2', false)],
        }),
      );
      const titles = steps.map(({ title }) => title);
      const leaving = steps.find(({ title }) => title.startsWith('New masters'));

      expect(stands).toContain('Members of etcd: old1 (leader), new1, new2 (not healthy); 0 more may be lost.');
      expect(titles.indexOf('New masters leave etcd, one after the other')).toBeLessThan(
        titles.findIndex((title) => title.startsWith('Install the components')),
      );
      expect(titles).not.toContain('Keep the new nodes empty');
      const short = leaving?.commands.map((line) =>
        line.replace(/^kubectl -n kube-system exec etcd-old1 -- .*\.key /, ''),
      );
      expect(short).toEqual([
        'member remove b2',
        "ssh -p 2222 root@10.0.0.2 'systemctl disable --now kubelet; kubeadm reset --force'",
        'kubectl delete node new2',
        'endpoint health --cluster',
        'member remove b1',
        "ssh -p 2222 root@10.0.0.2 'systemctl disable --now kubelet; kubeadm reset --force'",
        'kubectl delete node new1',
        'endpoint health --cluster',
        'member list',
      ]);
    });

    it('does not apply the old configuration while nobody knows the members', () => {
      const { verdict, warnings, steps } = assess(findings({ ...inWindow, membersTrouble: 'no master answered' }));

      expect(verdict).toBe('unclear');
      expect(warnings.join()).toContain('could not be listed: no master answered. Run no proton-cli apply');
      expect(steps.flatMap(({ commands }) => commands).join()).not.toContain('proton-cli');
    });

    it('sees that an old one has left etcd although its Node is still there', () => {
      const backup = { ...findings().backup!, masters: ['old1'] };
      const change = { ...inWindow, components: [redis('new1', 'new1')], backup };
      const without = { ...change, members: [member('new1', 'b1')] };
      const { verdict, stands } = assess(findings(without));

      expect(verdict).toBe('no way back');
      expect(stands).toContain('Old nodes that have left already: old1.');
      expect(commandsOf(without).join('\n')).not.toMatch(/kubectl replace|uninstall|proton-cli apply|member remove/);
      expect(assess(findings({ ...change, members: [member('old1', 'a1'), member('new1', 'b1')] })).verdict).toBe(
        'the way back is open',
      );
      expect(assess(findings(change)).verdict).toBe('the way back is open');
    });

    it('takes out members that the tool left behind, when there is no way back', () => {
      const lines = commandsOf({
        ...inWindow,
        clusterNodes: [{ name: 'new1', ready: true }],
        members: [member('old1', 'a1', false), member('new1', 'b1')],
      });

      expect(lines.filter((line) => line.includes('member remove'))).toEqual([
        expect.stringMatching(/exec etcd-new1 -- etcdctl .* member remove a1$/),
      ]);
      expect(lines.join('\n')).not.toContain('kubectl delete node');
    });
  });

  it('touches neither Secrets nor components when only applications were stopped', () => {
    const lines = commandsOf({ marked: applications });

    expect(lines.join('\n')).not.toMatch(/proton-cli|secret|uninstall/);
  });

  it('fetches an encrypted backup first', () => {
    const { backup } = findings();
    const encrypted = { ...backup!, encrypted: true, files: ['secret-proton-proton-cli-config.json.aes'] };
    const lines = commandsOf({ ...inWindow, backup: encrypted });

    expect(lines[0]).toContain('--backup-key-file KEYFILE --fetch ./ferry-backup-site-a');
    expect(lines[1]).toContain('cat ./ferry-backup-site-a/secret-proton-proton-cli-config.json | kubectl replace');
  });

  it('ends copies, and starts what was stopped on machines', () => {
    const lines = commandsOf({
      running: [{ machine: fresh, unit: 'ferry-site-a-redis-0.service' }],
      stopped: [{ machine, units: ['kubelet', 'docker'] }],
    });

    expect(lines).toEqual([
      `ssh -p 2222 root@10.0.0.2 'systemctl stop ferry-site-a-redis-0.service'`,
      `ssh root@10.0.0.1 'systemctl start kubelet docker'`,
      'kubectl wait --for=condition=Ready node/old1 --timeout=10m',
    ]);
  });

  describe('while an apply runs', () => {
    const running = [{ machine, unit: 'ferry-apply-site-a.service' }];
    const wait = `ssh root@10.0.0.1 'while systemctl is-active --quiet ferry-apply-site-a.service; do sleep 5; done'`;
    const again = 'ferry break-glass --cluster site-a';

    it.each<[string, Partial<Findings>]>([
      ['removes old nodes that are still there', { ...inWindow, components: [redis('new1', 'new1')] }],
      ['adds nodes', { ...inWindow, prepared: ['add-nodes'] }],
      ['installs components', { ...inWindow, components: [redis('new1')] }],
      ['has changed nothing yet', {}],
    ])('plans nothing on what will not stay so: it %s', (_, change) => {
      const { verdict, warnings, steps } = assess(
        findings({ ...change, running, stopped: [{ machine, units: ['kubelet'] }] }),
      );

      expect(verdict).toBe('unclear');
      expect(warnings.join('\n')).toContain('ferry-apply-site-a.service still runs on old1');
      expect(steps.flatMap(({ commands }) => commands)).toEqual([wait, again]);
    });

    it('ends copies as well, and names the key that the next look needs', () => {
      const lines = commandsOf({
        ...inWindow,
        running: [...running, { machine: fresh, unit: 'ferry-site-a-redis-0.service' }],
        backup: { directory: '/b', takenAt: 't', encrypted: true, files: [] },
      });

      expect(lines).toEqual([
        wait,
        `ssh -p 2222 root@10.0.0.2 'systemctl stop ferry-site-a-redis-0.service'`,
        `${again} --backup-key-file KEYFILE`,
      ]);
    });

    it('still says when there is no way back, and takes no member out beside it', () => {
      const change = { ...inWindow, clusterNodes: [{ name: 'new1', ready: true }], running };

      expect(assess(findings(change)).verdict).toBe('no way back');
      expect(commandsOf(change)).toEqual([wait, again]);
    });
  });

  it('never restores the old configuration when old nodes are gone, and still starts the applications', () => {
    const lines = commandsOf({ ...inWindow, configNodes: ['new1'], components: [redis('new1', 'new1')] });

    expect(lines.join('\n')).not.toMatch(/kubectl replace|uninstall|proton-cli apply/);
    expect(lines).toContain('kubectl -n anyshare scale deployment web --replicas=3');
  });

  it('says that going back loses writes when applications run on new nodes', () => {
    const { warnings } = assess(findings({ ...inWindow, marked: [], components: [redis('new1', 'new1')] }));

    expect(warnings.join('\n')).toContain('loses what they wrote');
  });

  it('says so when they were started there and still carry their breadcrumbs', () => {
    const written = 'Deployment anyshare/web may have written there. Going back loses what they wrote';
    const said = (change: Partial<Findings>): string =>
      assess(findings({ ...inWindow, components: [redis('new1', 'new1')], ...change })).warnings.join('\n');
    const again = applications.map((workload) => ({ ...workload, runs: workload.kind === 'Deployment' }));

    expect(said({ marked: again })).toContain(written);
    expect(assess(findings({ ...inWindow, marked: again })).stands.join('\n')).toContain('; 1 run again.');
    expect(said({})).not.toContain('loses');
    expect(said({ marked: again, components: [redis('old1', 'old1')] })).not.toContain('loses');
  });

  it('ignores a breadcrumb that is no number', () => {
    const odd = marked('Deployment', 'web', { 'ferry.migration/previous-replicas': '3; reboot' });

    expect(commandsOf({ marked: [odd] }).join('\n')).not.toContain('reboot');
  });

  it('reads as text', () => {
    const found = findings({ ...inWindow, silent: [{ name: 'new2', why: 'no answer' }] });
    const text = stripVTControlCharacters(describeAssessment(found, assess(found)));

    expect(text).toContain('site-a: the way back is open');
    expect(text).toContain('Applications: 6 carry breadcrumbs');
    expect(text).toContain('Not asked: new2: no answer.');
    expect(text).toContain('Nothing was changed.');
  });
});

describe('chooseMigration', () => {
  it('takes the only one, or the one that is named', () => {
    expect(chooseMigration(new Set(['a']), undefined)).toBe('a');
    expect(chooseMigration(new Set(['a', 'b']), 'b')).toBe('b');
  });

  it('asks when there are several and says so when there is none', () => {
    expect(() => chooseMigration(new Set(['b', 'a']), undefined)).toThrow(/several migrations: a, b/);
    expect(() => chooseMigration(new Set(), undefined)).toThrow(/no trace of a migration/);
  });
});
