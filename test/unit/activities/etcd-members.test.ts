import { describe, expect, it } from 'vitest';
import { parseEtcdManifest } from '../../../src/activities/etcd-command.ts';
import {
  describeMembers,
  isMemberOf,
  memberProblems,
  parseMembers,
  parseStatuses,
} from '../../../src/activities/etcd-members.ts';
import { parseListening } from '../../../src/activities/kubelet.ts';

/* Answers of etcdctl 3.6.5, recorded; those of older versions where they differ. */

const members = `{"header":{"cluster_id":2628648207410866645,"member_id":327199047217190696,"raft_term":2},"members":[{"ID":327199047217190696,"name":"m1","peerURLs":["https://127.61.0.11:2380"],"clientURLs":["https://127.61.0.11:2379"]},{"ID":12626556653214907811,"name":"m2","peerURLs":["https://127.61.0.12:2380"],"clientURLs":["https://127.61.0.12:2379"]},{"ID":14503266531731116319,"peerURLs":["https://127.61.0.13:2380"],"isLearner":true}]}`;

const statuses = `[{"Endpoint":"https://127.61.0.11:2379","Status":{"header":{"cluster_id":2628648207410866645,"member_id":327199047217190696,"revision":1,"raft_term":2},"version":"3.6.5","dbSize":28672,"leader":12626556653214907811,"raftIndex":9,"raftTerm":2,"raftAppliedIndex":8,"dbSizeInUse":24576,"storageVersion":"3.6.0","downgradeInfo":{}}},{"Endpoint":"https://127.61.0.12:2379","Status":{"header":{"cluster_id":2628648207410866645,"member_id":12626556653214907811,"revision":1,"raft_term":2},"version":"3.6.5","dbSize":36864,"leader":12626556653214907811,"raftIndex":9,"raftTerm":2,"raftAppliedIndex":9,"dbSizeInUse":24576}}]`;

const leaderless = `[{"Endpoint":"https://127.0.0.1:2379","Status":{"header":{"cluster_id":2628648207410866645,"member_id":327199047217190696,"revision":1,"raft_term":2},"version":"3.6.5","dbSize":28672,"raftIndex":8,"raftTerm":2,"raftAppliedIndex":8,"errors":["etcdserver: no leader"],"dbSizeInUse":24576}}]`;

describe('answers of etcdctl', () => {
  it('keep ids of 64 bits, as etcdctl takes them', () => {
    expect(parseMembers(members).map(({ id }) => id)).toEqual([
      '48a71ccc43a1728',
      'af3a8a60b3383da3',
      'c945f411aaa5111f',
    ]);
    expect(parseStatuses(statuses).map(({ id, leader }) => [id, leader])).toEqual([
      ['48a71ccc43a1728', 'af3a8a60b3383da3'],
      ['af3a8a60b3383da3', 'af3a8a60b3383da3'],
    ]);
  });

  it.each([
    ['9007199254740991', '1fffffffffffff'],
    ['9007199254740993', '20000000000001'],
    ['18446744073709551615', 'ffffffffffffffff'],
    ['5', '5'],
  ])('read %s as %s', (number, hex) => {
    expect(parseMembers(`{"members":[{"ID":${number},"name":"a"}]}`)[0]?.id).toBe(hex);
  });

  it.each([
    // etcd 3.2: two outputs of one member in a report to its project, the id once in each way
    [
      '3.2',
      '"ID":3608752293884089161,"name":"a","peerURLs":["https://10.97.0.110:2380"],"clientURLs":["https://10.97.0.110:2379"]',
      '3214dd175f565349',
      false,
    ],
    // the same of later versions; learners came with 3.4, and who is none says nothing of it
    [
      '3.4',
      '"ID":10276657743932975437,"name":"a","peerURLs":["http://localhost:2380"],"clientURLs":["http://localhost:2379"]',
      '8e9e05c52164694d',
      false,
    ],
    [
      '3.5',
      '"ID":2424519976348339362,"name":"a","peerURLs":["http://127.0.0.1:12380"],"clientURLs":["http://127.0.0.1:12379"],"isLearner":true',
      '21a5a012a514cca2',
      true,
    ],
  ])('are read as etcd %s lists a member', (_version, fields, id, learner) => {
    const text = `{"header":{"cluster_id":14841639068965178418,"member_id":10276657743932975437,"raft_term":7},"members":[{${fields}}]}`;

    expect(parseMembers(text)).toMatchObject([{ id, name: 'a', learner }]);
  });

  it.each([
    [
      '3.2, which does not tell what is applied',
      '"version":"3.2.18","dbSize":25165824,"leader":3608752293884089161,"raftIndex":41219,"raftTerm":6',
      41_219,
    ],
    [
      '3.4',
      '"version":"3.4.15","dbSize":33000,"leader":3608752293884089161,"raftIndex":144,"raftTerm":3,"raftAppliedIndex":143,"dbSizeInUse":30000',
      143,
    ],
    [
      '3.5',
      '"version":"3.5.1","dbSize":33000,"leader":3608752293884089161,"raftIndex":144,"raftTerm":3,"raftAppliedIndex":144,"dbSizeInUse":30000,"isLearner":false',
      144,
    ],
  ])('are read as etcd %s tells its status', (_version, fields, applied) => {
    const header = '"header":{"cluster_id":1,"member_id":3608752293884089161,"revision":9,"raft_term":3}';
    const text = `[{"Endpoint":"https://127.0.0.1:2379","Status":{${header},${fields}}}]`;

    expect(parseStatuses(text)).toMatchObject([
      { id: '3214dd175f565349', leader: '3214dd175f565349', applied, errors: [] },
    ]);
  });

  it('tell a member that has never started from one that has', () => {
    expect(parseMembers(members)[2]).toEqual({
      id: 'c945f411aaa5111f',
      name: '',
      learner: true,
      clientUrls: [],
      peerUrls: ['https://127.61.0.13:2380'],
    });
  });

  it('describe who leads, who is silent and who has not started', () => {
    const described = describeMembers(parseMembers(members), parseStatuses(statuses).slice(1), 'does not answer');

    expect(described.map(({ name, leader, healthy, trouble }) => [name, leader, healthy, trouble])).toEqual([
      ['m1', false, false, 'does not answer'],
      ['m2', true, true, undefined],
      ['', false, false, 'has never started'],
    ]);
  });

  it('are no proof of health without a leader', () => {
    const [member] = describeMembers(parseMembers(members).slice(0, 1), parseStatuses(leaderless), 'silent');

    expect(member).toMatchObject({ leader: false, healthy: false, trouble: 'has no leader, etcdserver: no leader' });
  });
});

describe('what stands against a set of members', () => {
  const sound = describeMembers(parseMembers(members).slice(0, 2), parseStatuses(statuses), 'does not answer');

  it('is nothing when all are there and agree', () => {
    expect(memberProblems(sound, ['m1', 'm2'])).toEqual([]);
  });

  it.each([
    ['one that is missing', ['m1', 'm2', 'm3'], {}, 'm3 is no member'],
    ['one too many', ['m1'], {}, 'm2 is a member (id af3a8a60b3383da3)'],
  ])('is %s', (_what, wanted, options, problem) => {
    expect(memberProblems(sound, wanted, options)).toEqual([problem]);
  });

  it('is silence, unless that one is known to be away', () => {
    const half = describeMembers(
      parseMembers(members).slice(0, 2),
      parseStatuses(statuses).slice(1),
      'does not answer',
    );

    expect(memberProblems(half, ['m1', 'm2'])).toEqual(['m1 does not answer']);
    expect(memberProblems(half, ['m1', 'm2'], { away: ['m1'] })).toEqual([]);
  });

  it('is a learner, a second leader, or one far behind', () => {
    const [first, second] = sound;
    if (first === undefined || second === undefined) throw new Error('two members were described');

    expect(memberProblems([{ ...first, learner: true }, second], ['m1', 'm2'])).toEqual([
      'm1 is a learner, without a vote',
    ]);
    expect(memberProblems([{ ...first, follows: first.id }, second], ['m1', 'm2'])).toEqual([
      'they do not agree on a leader',
    ]);
    expect(memberProblems([first, { ...second, committed: 10_000, applied: 10_000 }], ['m1', 'm2'])).toEqual([
      'm1 is 9992 entries behind',
    ]);
  });

  it('is a half-joined machine, unless that is the one that leaves', () => {
    const all = describeMembers(parseMembers(members), parseStatuses(statuses), 'does not answer');
    const leaving = { name: 'm3', address: '127.61.0.13', port: 22, user: 'root', hostKeys: [], role: 'new' as const };

    expect(memberProblems(all, ['m1', 'm2'])).toEqual([
      'a member that has never started is in the way (id c945f411aaa5111f, https://127.61.0.13:2380)',
    ]);
    expect(memberProblems(all, ['m1', 'm2'], { leaving })).toEqual([]);
    expect(all.map((member) => isMemberOf(member, leaving))).toEqual([false, false, true]);
  });
});

const manifest = `apiVersion: v1
kind: Pod
spec:
  containers:
  - command:
    - etcd
    - --advertise-client-urls=https://10.0.0.11:2379
    - --data-dir=/sysvol/proton_data/cs_etcd_data
    - --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.11:2379
    - --listen-peer-urls=https://10.0.0.11:2380
    - --trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt
    name: etcd
    volumeMounts:
    - mountPath: /sysvol/proton_data/cs_etcd_data
      name: etcd-data
    - mountPath: /etc/kubernetes/pki/etcd
      name: etcd-certs
  volumes:
  - hostPath: {path: /etc/kubernetes/pki/etcd, type: DirectoryOrCreate}
    name: etcd-certs
  - hostPath: {path: /sysvol/proton_data/cs_etcd_data, type: DirectoryOrCreate}
    name: etcd-data
`;

describe('the manifest of a member', () => {
  it('says where its data, certificates and ports are', () => {
    expect(parseEtcdManifest(manifest)).toEqual({
      dataDirectory: '/sysvol/proton_data/cs_etcd_data',
      hostDataDirectory: '/sysvol/proton_data/cs_etcd_data',
      certificates: '/etc/kubernetes/pki/etcd',
      endpoint: 'https://127.0.0.1:2379',
      ports: [2379, 2380],
    });
  });

  it('may mount the data from elsewhere', () => {
    const elsewhere = manifest.replace('{path: /sysvol/proton_data/cs_etcd_data,', '{path: /data/etcd/,');

    expect(parseEtcdManifest(elsewhere)).toMatchObject({
      dataDirectory: '/sysvol/proton_data/cs_etcd_data',
      hostDataDirectory: '/data/etcd',
    });
  });

  it.each([
    ['without a data directory', manifest.replace(/.*--data-dir.*\n/, '')],
    ['of another program', manifest.replace('name: etcd\n', 'name: other\n')],
    [
      'with data inside the container',
      manifest.replace('    - mountPath: /sysvol/proton_data/cs_etcd_data\n      name: etcd-data\n', ''),
    ],
  ])('%s is refused', (_what, text) => {
    expect(() => parseEtcdManifest(text)).toThrow(/etcd\.yaml/);
  });
});

it('a table of sockets says which ports are listened on', () => {
  const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:094B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 25178 1 0000000000000000 100 0 0 10 0
   1: 0B004D0A:1A0B 0C004D0A:C350 01 00000000:00000000 00:00000000 00000000     0        0 25179 1 0000000000000000 100 0 0 10 0
   2: 00000000000000000000000000000000:280A 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1 0`;

  expect([...parseListening(table)]).toEqual([2379, 10_250]);
});
