import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CopyChoice, Verification } from '../../src/activities/transfer-contract.ts';
import { createTransferActivities } from '../../src/activities/transfer.ts';
import { createJobs } from '../../src/hosts/jobs.ts';
import type { ReplicateInput } from '../../src/plan/replicate.ts';
import { freshName, script } from './machines.ts';
import type { Mover } from './transfer-setup.ts';
import { once, openMover, pass, prepare, sweep } from './transfer-setup.ts';

/** What happens to the destination behind everybody's back, where it is looked for, and what is said of it. */
interface Damage {
  name: string;
  act: string;
  path: string;
  what: RegExp;
  /** Others that differ by it. */
  also?: string[];
  /** rsync leaves alone what shares a file at the destination only: all must be parted first. */
  isLeft?: boolean;
  /** A look at the inodes alone does not find it. */
  isContent?: boolean;
  /** Nor does a sample of a large file. */
  isDeep?: boolean;
}

/** Changes one bit and nothing else that the inode says but the time of the change itself. */
const flip = (file: string, at: number): string =>
  `t=$(stat -c %y '${file}'); perl -e 'open(my $f, "+<", $ARGV[0]) or die; sysseek($f, $ARGV[1], 0); sysread($f, my $c, 1) or die; sysseek($f, $ARGV[1], 0); syswrite($f, chr(ord($c) ^ 4))' '${file}' ${at}; touch -d "$t" '${file}'`;
/** For changes that move the time of the directory. */
const quietly = (act: string): string => `t=$(stat -c %y .); ${act}; touch -d "$t" .`;

const damages: Damage[] = [
  {
    name: 'a bit of a small file',
    act: flip('small', 3000),
    path: 'small',
    what: /^content differs$/,
    isContent: true,
  },
  {
    name: 'a bit inside a large file',
    act: flip('large', 2_500_000),
    path: 'large',
    what: /^content differs$/,
    isContent: true,
    isDeep: true,
  },
  {
    name: 'the first bit of a large file',
    act: flip('large', 0),
    path: 'large',
    what: /^content differs$/,
    isContent: true,
  },
  {
    name: 'a hole that became data',
    act: flip('holes', 1_500_000),
    path: 'holes',
    what: /^content differs$/,
    isContent: true,
    isDeep: true,
  },
  { name: 'an owner', act: 'chown 77 small', path: 'small', what: /^owner 0 became 77$/ },
  { name: 'a group', act: 'chgrp 78 small', path: 'small', what: /^group 0 became 78$/ },
  { name: 'a mode', act: 'chmod 4644 small', path: 'small', what: /^mode 644 became 4644$/ },
  {
    name: 'a nanosecond',
    act: "touch -d '@1700000000.123456788' small",
    path: 'small',
    what: /^mtime 1700000000\.1234567890 became 1700000000\.1234567880$/,
  },
  { name: 'a nanosecond of a directory', act: "touch -d '@1700000000.123456788' dir", path: 'dir', what: /^mtime / },
  { name: 'a nanosecond of a symlink', act: "touch -h -d '@1700000000.123456788' link", path: 'link', what: /^mtime / },
  {
    name: 'an empty directory too many',
    act: quietly('mkdir extra'),
    path: 'extra',
    what: /^extra at the destination$/,
  },
  { name: 'a file too few', act: quietly('rm small'), path: 'small', what: /^missing at the destination$/ },
  {
    name: 'a file that became a directory',
    act: quietly('rm empty; mkdir -m 644 empty; touch -d @1700000000.123456789 empty'),
    path: 'empty',
    what: /type f became d/,
  },
  {
    name: 'a target of a symlink',
    act: quietly('ln -sfn other link; touch -h -d @1700000000.123456789 link'),
    path: 'link',
    what: /^size or target same became other$/,
  },
  {
    name: 'a lost attribute',
    act: 'setfattr -x user.a attributed',
    path: 'attributed',
    what: /^attributes user\.a=31 became -$/,
  },
  {
    name: 'another value of an attribute',
    act: 'setfattr -n user.a -v 2 attributed',
    path: 'attributed',
    what: /^attributes user\.a=31 became user\.a=32$/,
  },
  { name: 'a lost ACL', act: 'setfacl -b listed; chmod 644 listed', path: 'listed', what: /attributes/ },
  { name: 'one right of an ACL', act: 'setfacl -m u:54321:r listed', path: 'listed', what: /attributes/ },
  { name: 'a lost default ACL', act: 'setfacl -k inherits', path: 'inherits', what: /attributes/ },
  {
    name: 'a lost capability',
    act: 'setfattr -x security.capability able',
    path: 'able',
    what: /^attributes security\.capability=\w+ became -$/,
  },
  {
    name: 'a group of names that was split',
    act: quietly('cp -p one new; mv new two'),
    path: 'one',
    what: /^hard links one became -$/,
    also: ['two'],
  },
  {
    name: 'names that share a file which did not',
    act: quietly('rm twin; ln small twin'),
    path: 'small',
    what: /^hard links - became small$/,
    also: ['twin'],
    isLeft: true,
  },
  {
    name: 'a device',
    act: quietly('rm null; mknod -m 644 null c 1 5; touch -d @1700000000.123456789 null'),
    path: 'null',
    what: /^size or target device \d+ became device \d+$/,
  },
];

describe('a verification finds and names', () => {
  let mover: Mover;
  let request: ReplicateInput;
  let choice: CopyChoice;

  beforeAll(async () => {
    mover = await openMover();
    request = await mover.request(freshName('damage'));
    const { path } = request.transfer.source;
    await script(
      mover.source,
      `mkdir -p '${path}' && cd '${path}'; head -c 5000000 /dev/urandom >large; head -c 9000 /dev/urandom >small; cp small twin
truncate -s 3000000 holes; mkdir dir inherits; : >empty; ln -s same link; echo a >attributed; setfattr -n user.a -v 1 attributed
echo l >listed; setfacl -m u:54321:rw listed; setfacl -m d:u:54321:rwx inherits; echo h >one; ln one two; mknod -m 644 null c 1 3
echo c >able; setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 able; chmod 644 small twin empty
touch -h -d @1700000000.123456789 large small twin dir empty link attributed listed inherits one null able holes .`,
    );
    ({ choice } = await prepare(mover, request));
    await once(() => mover.activities.runPass(pass(request, choice, 1)));
  });
  afterAll(async () => {
    await sweep(mover, request);
    await mover.close();
  });

  async function verify(kind: Verification['kind']): Promise<Verification> {
    return once(() => mover.activities.verifyTransfer({ request: { ...request, verify: kind }, choice }));
  }

  it.each(damages)(
    '$name',
    async ({ act, path, what, also = [], isContent = false, isDeep = false, isLeft = false }) => {
      const { path: tree } = request.transfer.destination;
      await script(mover.destination, `cd '${tree}'; ${act}`);

      const full = await verify('full');
      const sampled = await verify('sampled');
      const metadata = await verify('metadata');
      const heal = pass(request, choice, 2, { mode: 'final', content: 'all' });
      await once(() => mover.activities.runPass(heal));
      if (isLeft) {
        expect((await verify('full')).differences).toEqual(full.differences);
        await once(() => mover.activities.runPass({ ...heal, partLinks: true }));
      }
      const healed = await verify('full');

      expect(full).toMatchObject({ equal: false, differing: 1 + also.length });
      expect(full.differences.map((difference) => difference.path)).toEqual([path, ...also]);
      expect(full.digest).toBeUndefined();
      expect(full.differences[0]?.what).toMatch(what);
      if (!isDeep) expect(sampled.differences).toEqual(full.differences);
      expect(metadata.differences).toEqual(isContent ? [] : full.differences);
      expect(metadata.equal).toBe(isContent);
      // One pass that compares all content is the way out of each.
      expect(healed.differences).toEqual([]);
      expect(healed.digest).toMatch(/^sha256:/);
    },
  );

  it('nothing where a hole became zeros, which read alike, and tells that the room is gone', async () => {
    const { path } = request.transfer.destination;
    await script(
      mover.destination,
      `cd '${path}'; truncate -s 40M wide; touch -d @1700000000.123456789 wide . ; dd if=/dev/zero of=wide bs=1M count=40 conv=notrunc,fsync status=none; touch -d @1700000000.123456789 wide .`,
    );
    await script(
      mover.source,
      `cd '${request.transfer.source.path}'; truncate -s 40M wide; touch -d @1700000000.123456789 wide .`,
    );

    const full = await verify('full');

    expect(full).toMatchObject({ equal: true, differences: [] });
    expect(full.proof).toMatch(
      /root digest \w+ on both; the destination occupies 4\d(?:\.\d)? MiB, the source \d+(?:\.\d)? MiB$/,
    );
  });

  it('all by the digest that is faster here, whatever else the machines have to do', async () => {
    const busy = await script(
      mover.source,
      `for i in 1 2 3 4; do setsid sh -c 'while :; do :; done' >/dev/null 2>&1 & echo $!; done`,
    );
    const chosen: string[] = [];
    try {
      for (let round = 0; round < 6; round += 1) {
        // A worker that has tried nothing yet.
        const worker = createTransferActivities({ hosts: mover.hosts, jobs: createJobs() });
        const prepared = await once(() => worker.prepareTransfer({ request, mode: 'live' }));
        chosen.push(prepared.choice.digest);
      }
    } finally {
      await script(mover.source, `kill ${busy.trim().split('\n').join(' ')}`);
    }

    expect(new Set(chosen).size).toBe(1);
  });
});
