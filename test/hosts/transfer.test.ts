import { setTimeout as sleep } from 'node:timers/promises';
import { ActivityCancellationDetails, CancelledFailure } from '@temporalio/common';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { freshName, script } from './machines.ts';
import type { ReplicateInput, ReplicateRequest } from '../../src/plan/replicate.ts';
import { replicateInputSchema } from '../../src/plan/replicate.ts';
import type { Mover } from './transfer-setup.ts';
import {
  attempt,
  believeAll,
  bothTrees,
  claimOf,
  keyOf,
  movingProcesses,
  once,
  openMover,
  pass,
  prepare,
  sweep,
  keptLists,
  traces,
} from './transfer-setup.ts';
import { mappedWrite, mappedWriter, oddTree } from './transfer-trees.ts';

describe('a transfer between two machines', () => {
  let mover: Mover;

  beforeAll(async () => {
    mover = await openMover();
  });
  const requests: ReplicateInput[] = [];
  async function freshRequest(prefix: string, options: Partial<ReplicateRequest> = {}): Promise<ReplicateInput> {
    const request = await mover.request(freshName(prefix), options);
    requests.push(request);
    return request;
  }
  afterEach(async () => {
    for (const request of requests.splice(0)) await sweep(mover, request);
  });
  afterAll(async () => {
    await mover.close();
  });

  it('copies every oddity, passes again, proves it and leaves no key behind', async () => {
    const { activities, source } = mover;
    const request = await freshRequest('odd');
    const tree = request.transfer.source.path;
    await script(source, oddTree(tree));

    const { choice, bytes, files } = await prepare(mover, request);
    const first = attempt();
    const live = await first.run(() => activities.runPass(pass(request, choice, 1, { expectedBytes: bytes })));
    await script(
      source,
      String.raw`cd '${tree}'; echo changed >>plain; rm -f many/7 links/two; mv random renamed; mkdir many/new
rmdir empty; echo file >empty; rm nothing; mkdir nothing; chmod 700 deep; setfattr -x user.colour attributes; setfacl -b acl`,
    );
    const final = await once(() =>
      activities.runPass(pass(request, choice, 2, { mode: 'final', expectedBytes: bytes })),
    );
    const verification = await once(() => activities.verifyTransfer({ request, choice }));
    const [left, right] = await bothTrees(mover, request);

    expect(right).toEqual(left);
    expect(verification.differences).toEqual([]);
    expect(verification).toMatchObject({
      equal: true,
      kind: 'full',
      entries: left.filter((line) => line.startsWith('entry ')).length,
    });
    expect(verification.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(files).toBeGreaterThan(300);
    expect(live).toMatchObject({ vanished: false, files });
    expect(live.literalBytes).toBeGreaterThanOrEqual(3_000_000);
    expect(final.deleted).toBeGreaterThanOrEqual(2);
    // A file that is all hole is left to this pass where tar carried the first one.
    expect(final.literalBytes).toBeLessThan(4_000_000 + 16 * 1024 ** 2);
    expect(first.heartbeats.length).toBeGreaterThan(0);

    await once(() => activities.finishTransfer({ request, verified: verification.digest ?? '' }));
    expect(await traces(mover, request)).toBe('');
    expect(await keptLists(mover, request)).toBe('');
  });

  it('misses neither a rewrite within one second nor a restored time nor a write through a mapping', async () => {
    const { activities, source } = mover;
    const request = await freshRequest('stale');
    const tree = request.transfer.source.path;
    const plain = `${tree}-plain`;
    const mapper = `/run/${request.transfer.id}`;
    await script(
      source,
      `mkdir -p '${tree}' && cd '${tree}'; echo one >second; touch -d '@1700000000.1' second; echo one >restored
touch -d '@1600000000.5' restored; head -c 300000 /dev/zero >mapped; ${mappedWriter('mapped', mapper)}`,
    );
    const change = async (generation: number): Promise<string> =>
      script(
        source,
        `cd '${tree}'; echo ${generation}wo >second; touch -d '@1700000000.${generation}' second; echo ${generation}wo >restored
touch -d '@1600000000.5' restored; ${mappedWrite(mapper, generation)}`,
      );
    const stale = `cd '${tree}'; for f in *; do cmp -s "$f" '${plain}'/"$f" || echo "$f"; done`;

    // What everybody types: it misses all three, unless somebody else flushes the file system just then, as copies side by side do.
    const typed = `rsync -aHAXS --numeric-ids --delete '${tree}/' '${plain}/'`;
    let generation = 1;
    let missed = '';
    for (let tries = 0; tries < 3 && missed !== 'mapped\nrestored\nsecond\n'; tries += 1) {
      await change((generation += 1));
      await script(source, typed);
      await change((generation += 1));
      await script(source, typed);
      missed = await script(source, stale);
    }

    const { choice } = await prepare(mover, request);
    await once(() => activities.runPass(pass(request, choice, 1)));
    await change((generation += 1));
    const second = await once(() => activities.runPass(pass(request, choice, 2)));
    await change((generation += 1));
    await once(() => activities.runPass(pass(request, choice, 3, { mode: 'final' })));
    const [left, right] = await bothTrees(mover, request);
    await script(source, `touch '${mapper}/end'; rm -rf '${plain}'`);

    expect(missed).toBe('mapped\nrestored\nsecond\n');
    expect(second.doubtful).toBe(3);
    expect(choice.nanoseconds).toBe(true);
    expect(right).toEqual(left);
  });

  it('misses no change behind a name that rsync takes for a comment, nor in a directory that took the place of another', async () => {
    const { activities, source } = mover;
    const request = await freshRequest('comments');
    const tree = request.transfer.source.path;
    // The redo log of MySQL 8 lies in #innodb_redo. Same sizes, same times to the nanosecond: only content can tell.
    const names = ["'#innodb_redo/#ib_redo1'", "';semicolon'", "'-dash'", "' space'", 'data/f', 'data.new/f'].join(' ');
    const write = (text: string): string =>
      `cd '${tree}'; for f in ${names}; do echo ${text} "$f" | head -c 12 >"./$f"; touch -d '2020-01-01 00:00:00.5' "./$f"; done`;
    await script(
      source,
      `mkdir -p '${tree}' && cd '${tree}' && mkdir '#innodb_redo' data data.new busy; ${write('one')}
echo large >busy/large`,
    );
    const { choice } = await prepare(mover, request);
    await once(() => activities.runPass(pass(request, choice, 1)));
    // What is older than the clocks' slack is no longer in doubt by itself.
    await believeAll(mover, request.transfer.id);
    await sleep(2000);
    // A server that starts on what was restored makes files of its own; one that goes on does so all the time.
    await script(source, `cd '${tree}'; mv data data.old; mv data.new data; : >data/pid; : >busy/pid`);
    const swapped = await once(() => activities.runPass(pass(request, choice, 2)));
    const [leftThen, rightThen] = await bothTrees(mover, request);
    await script(source, write('two').replaceAll('data.new/f', 'data.old/f'));
    const final = await once(() => activities.runPass(pass(request, choice, 3, { mode: 'final' })));
    const [left, right] = await bothTrees(mover, request);

    expect(rightThen).toEqual(leftThen);
    // data/f, data.old/f and the two that are new: nothing else in the directory that is busy.
    expect(swapped.doubtful).toBe(4);
    expect(final.doubtful).toBeGreaterThanOrEqual(6);
    expect(right).toEqual(left);
  });

  it('is equal where a file has another name outside of the tree', async () => {
    const { activities, source } = mover;
    const request = await freshRequest('outside');
    const tree = request.transfer.source.path;
    await script(
      source,
      `mkdir -p '${tree}'; echo a >'${tree}/a'; ln '${tree}/a' '${tree}-outside'; echo b >'${tree}/b'`,
    );
    const { choice } = await prepare(mover, request);
    await once(() => activities.runPass(pass(request, choice, 1, { mode: 'final' })));
    const verification = await once(() => activities.verifyTransfer({ request, choice }));
    await script(source, `rm '${tree}-outside'`);

    expect(choice.inplace).toBe(true);
    expect(verification).toMatchObject({ equal: true, differences: [] });
  });

  it('believes nothing of a destination that restarted since it was flushed', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('power');
    const tree = request.transfer.source.path;
    await script(source, `mkdir -p '${tree}' && cd '${tree}'; head -c 300000 /dev/urandom >pages; echo a >a`);
    const { choice } = await prepare(mover, request);
    await once(() => activities.runPass(pass(request, choice, 1)));
    // A power cut: size and time are in the journal, the pages are gone.
    await script(
      destination,
      `cd '${tree}'; touch -r pages /run/time; dd if=/dev/zero of=pages bs=4096 count=3 conv=notrunc status=none; touch -r /run/time pages`,
    );
    await believeAll(mover, request.transfer.id);
    const believed = await once(() => activities.runPass(pass(request, choice, 2)));
    const [before, stale] = await bothTrees(mover, request);
    // The machines of the lab are one to the kernel, and have one boot id.
    const flushed = `${await claimOf(destination, request.transfer.id)}/flushed`;
    await script(destination, `echo another >'${flushed}'`);
    await believeAll(mover, request.transfer.id);
    await once(() => activities.runPass(pass(request, choice, 3, { mode: 'final' })));
    const [left, right] = await bothTrees(mover, request);

    expect(believed.doubtful).toBe(0);
    expect(stale).not.toEqual(before);
    expect(right).toEqual(left);
    expect(await script(destination, `cat '${flushed}'`)).toBe(
      await script(destination, 'cat /proc/sys/kernel/random/boot_id'),
    );
  });

  it('makes what lies above a destination as everybody does, and leaves it so', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('above');
    const tree = request.transfer.source.path;
    const path = `/srv/${request.transfer.id}-sysvol/redis/0`;
    request.transfer.destination.path = path;
    await script(source, `mkdir -p '${tree}'; chmod 750 '${tree}'; echo a >'${tree}/a'`);
    const { choice } = await prepare(mover, request);
    const modes = async (): Promise<string> => script(destination, `cd '${path}'; stat -c %a . .. ../..`);
    const before = await modes();
    await once(() => activities.runPass(pass(request, choice, 1, { mode: 'final' })));
    const after = await modes();
    await script(destination, `rm -r '/srv/${request.transfer.id}-sysvol'`);

    expect(before).toBe('700\n755\n755\n');
    expect(after).toBe('750\n755\n755\n');
  });

  it('fills a fresh file system, where lost+found is all that there is', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('fresh');
    const tree = request.transfer.source.path;
    await script(source, `mkdir -p '${tree}'; echo a >'${tree}/a'`);
    await script(destination, `mkdir -p '${tree}/lost+found'; chmod 700 '${tree}/lost+found'`);
    const { choice } = await prepare(mover, request);
    await once(() => activities.runPass(pass(request, choice, 1, { mode: 'final' })));
    const verification = await once(() => activities.verifyTransfer({ request, choice }));
    const there = await script(destination, `ls -A '${tree}'`);
    await script(destination, `mkdir -p '${tree}-used/lost+found/#12'`);
    const used = { ...request.transfer, id: freshName('used'), destination: { host: 'new1', path: `${tree}-used` } };

    expect(verification).toMatchObject({ equal: true, differences: [] });
    expect(there).toBe('a\n');
    await expect(prepare(mover, { ...request, transfer: used })).rejects.toMatchObject({
      message: /not empty.*lost\+found/,
    });
    await script(destination, `rm -r '${tree}-used'`);
  });

  it('gets a new gate where another version of the worker left one', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('upgraded');
    const tree = request.transfer.source.path;
    await script(source, `mkdir -p '${tree}'; echo a >'${tree}/a'`);
    const { choice } = await prepare(mover, request);
    await once(() => activities.runPass(pass(request, choice, 1)));
    const gate = `/var/lib/ferry/transfers/${await keyOf(source, request.transfer.id)}/gate`;
    await script(destination, `printf '#!/bin/sh\necho ferry: refused: an old gate >&2\nexit 98\n' >'${gate}'`);
    await script(source, `echo b >'${tree}/b'`);
    await once(() => activities.runPass(pass(request, choice, 2, { mode: 'final' })));
    const [left, right] = await bothTrees(mover, request);

    expect(right).toEqual(left);
  });

  it('keeps names apart that shared one file when the last pass looked', async () => {
    const { activities, source } = mover;
    const request = await freshRequest('links');
    const tree = request.transfer.source.path;
    await script(source, `mkdir -p '${tree}' && cd '${tree}'; head -c 200000 /dev/urandom >one`);
    const { choice } = await prepare(mover, request);
    await script(source, `cd '${tree}'; ln one three; ln one two`);
    await once(() => activities.runPass(pass(request, choice, 1)));
    await script(source, `cd '${tree}'; for f in one three; do head -c 200000 /dev/urandom >new; mv new $f; done`);

    const { explanation } = await once(() => activities.runPass(pass(request, choice, 2, { mode: 'final' })));
    const [left, right] = await bothTrees(mover, request);

    expect(choice.inplace).toBe(true);
    expect(explanation).toContain('not written in place: files at the destination have several names');
    expect(right).toEqual(left);
  });

  it('goes on under a dead worker, is taken over by a retry, and lets nobody else write', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('writer');
    const { path } = request.transfer.source;
    await script(source, `mkdir -p '${path}'; head -c 12000000 /dev/urandom >'${path}/large'`);
    const { choice, bytes } = await prepare(mover, request);
    const input = pass(request, choice, 1, { limitKiBps: 1000, expectedBytes: bytes });
    const first = attempt('the-pass');
    const dying = first.run(() => activities.runPass(input));
    await expect.poll(() => first.heartbeats.some((beat) => Number(beat['bytes']) > 0), { timeout: 20_000 }).toBe(true);
    const directory = `/var/lib/ferry/transfers/${await keyOf(source, request.transfer.id)}`;
    const before = await movingProcesses(destination, request);

    first.environment.cancel('WORKER_SHUTDOWN', new ActivityCancellationDetails({ workerShutdown: true }));
    await expect(dying).rejects.toThrow();
    const intruder = await source.run(
      ['rsync', '-a', '-e', `ssh -F ${directory}/ssh_config`, '/etc/hostname', 'ferry:data/'],
      { timeout: 30_000 },
    );
    const shell = await source.run(['ssh', '-F', `${directory}/ssh_config`, 'ferry', 'touch /srv/inside']);
    const elsewhere = await source.run(
      ['rsync', '-a', '-e', `ssh -F ${directory}/ssh_config`, '/etc/hostname', 'ferry:/srv/'],
      { timeout: 30_000 },
    );
    const another = await openMover();
    const report = await attempt('the-pass').run(() => another.activities.runPass(input));
    const after = await script(destination, `ls /srv/inside 2>/dev/null || :; ls '${path}'`);
    const left = await movingProcesses(destination, request);
    await another.close();

    expect(before.trim().split('\n').length).toBeGreaterThanOrEqual(1);
    expect(intruder.stderr).toContain('ferry: busy');
    expect(shell.stderr).toContain('ferry: refused');
    expect(elsewhere.stderr).toContain('ferry: refused');
    // One pass from the first worker's start to the second worker's end.
    expect(report.seconds).toBeGreaterThan(8);
    expect(report.literalBytes).toBe(12_000_000);
    expect(after).toBe('large\n');
    expect(left).toBe('');
  });

  it('ends on both machines within ten seconds when it is cancelled, and goes on from there', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('cancel');
    const { path } = request.transfer.source;
    await script(source, `mkdir -p '${path}'; head -c 30000000 /dev/urandom >'${path}/large'; echo small >'${path}/a'`);
    const { choice } = await prepare(mover, request);
    const first = attempt();
    const copy = first.run(() => activities.runPass(pass(request, choice, 1, { limitKiBps: 1000 })));
    await expect.poll(() => first.heartbeats.some((beat) => Number(beat['bytes']) > 0), { timeout: 20_000 }).toBe(true);

    const begin = Date.now();
    first.environment.cancel('CANCELLED', new ActivityCancellationDetails({ cancelRequested: true }));
    await expect(copy).rejects.toThrow(CancelledFailure);

    expect(Date.now() - begin).toBeLessThan(10_000);
    expect([await movingProcesses(source, request), await movingProcesses(destination, request)]).toEqual(['', '']);
    expect(
      await script(
        destination,
        `grep -l '"${request.transfer.id}"' /var/lib/ferry/destinations/*/marker.json | xargs grep state`,
      ),
    ).toContain('incomplete');
    await prepare(mover, request);
    await once(() => activities.runPass(pass(request, choice, 2)));
    const verification = await once(() => activities.verifyTransfer({ request, choice }));
    expect(verification.equal).toBe(true);
  });

  it('names a flipped bit, an owner, an extra directory, a lost attribute and a lost file', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('verify');
    const { path } = request.transfer.source;
    await script(
      source,
      `mkdir -p '${path}/d' && cd '${path}'; head -c 5000000 /dev/urandom >bits; for f in owner attribute mode time gone same d/$'odd\\nname'; do echo $f >"$f"; done
setfattr -n user.a -v 1 attribute; ln -s same link; echo l >l1; ln l1 l2`,
    );
    const { choice } = await prepare(mover, request);
    await once(() => activities.runPass(pass(request, choice, 1)));
    await script(
      destination,
      String.raw`cd '${path}'; stat -c %y bits >/run/time
perl -e 'open(my $f, "+<", "bits") or die; sysseek($f, 3456789, 0); sysread($f, my $c, 1); sysseek($f, 3456789, 0); syswrite($f, chr(ord($c) ^ 4))'
touch -d "$(cat /run/time)" bits; stat -c %y . >/run/time; chown 77 owner; mkdir extra; setfattr -x user.a attribute; chmod 600 mode; touch -d 2001-01-01 time; rm gone
ln -sfn other link; cp -p l1 l3; mv l3 l2; echo X >$'d/odd\nname'; touch -d "$(cat /run/time)" .`,
    );

    const verification = await once(() => activities.verifyTransfer({ request, choice }));
    const found = new Map(verification.differences.map(({ path: name, what }) => [name, what]));

    expect(verification.equal).toBe(false);
    expect(verification.digest).toBeUndefined();
    expect(found.get('bits')).toBe('content differs');
    expect(found.get('owner')).toBe('owner 0 became 77');
    expect(found.get('extra')).toBe('extra at the destination');
    expect(found.get('attribute')).toBe('attributes user.a=31 became -');
    expect(found.get('mode')).toBe('mode 644 became 600');
    expect(found.get('time')).toMatch(/^mtime .* became 978307200/);
    expect(found.get('gone')).toBe('missing at the destination');
    expect(found.get('link')).toMatch(/size or target same became other/);
    expect(found.get('l2')).toMatch(/hard links l1 became -/);
    expect(found.get(String.raw`d/odd\x0aname`)).toContain('content differs');
    expect([...found.keys()]).not.toContain('same');
    expect(verification.differing).toBe(verification.differences.length);

    // The way out: one pass that compares all content heals everything.
    await once(() => activities.runPass(pass(request, choice, 2, { mode: 'final', content: 'all' })));
    expect((await once(() => activities.verifyTransfer({ request, choice }))).differences).toEqual([]);
  });

  it('copies from one directory of a machine into another', async () => {
    const { activities, source } = mover;
    const request = await freshRequest('local');
    const local = replicateInputSchema.parse({
      ...request,
      destination: request.source,
      transfer: { ...request.transfer, destination: { host: 'old1', path: `${request.transfer.source.path}-other` } },
    });
    requests.push(local);
    await script(source, oddTree(request.transfer.source.path));

    const { choice } = await prepare(mover, local);
    await once(() => activities.runPass(pass(local, choice, 1)));
    const verification = await once(() => activities.verifyTransfer({ request: local, choice }));

    expect(verification.differences).toEqual([]);
    expect(verification.equal).toBe(true);
  });

  it('copies from and to directories behind symlinks of somebody else, which rsync 3.5 does not follow', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('behind', { allowedRoots: ['/srv'] });
    const { path } = request.transfer.source;
    const lead = `mkdir -p '${path}-real' && ln -s '${path}-real' '${path}' && chown -h 1234:1234 '${path}'`;
    for (const machine of [source, destination]) await script(machine, lead);
    await script(source, `echo a >'${path}/a'; ln '${path}/a' '${path}/b'`);

    const { choice } = await prepare(mover, request);
    await once(() => activities.runPass(pass(request, choice, 1)));
    await once(() => activities.proveQuiet({ request }));
    await once(() => activities.runPass(pass(request, choice, 2, { mode: 'final' })));
    const verification = await once(() => activities.verifyTransfer({ request, choice }));
    const [left, right] = await bothTrees(mover, request);
    const there = await script(destination, `stat -c %F '${path}'; ls '${path}-real'; rm -rf '${path}-real'`);
    await script(source, `rm -rf '${path}-real'`);

    expect(verification.differences).toEqual([]);
    expect(right).toEqual(left);
    expect(there).toBe('symbolic link\na\nb\n');
  });

  it('refuses what would destroy or mislead, with reason and way out', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('guard');
    const { path } = request.transfer.source;
    await script(source, `mkdir -p '${path}/inner'; echo x >'${path}/x'`);
    await script(destination, `mkdir -p '${path}'; echo precious >'${path}/precious'`);
    const to = (destinationPath: string): Promise<unknown> =>
      prepare(mover, {
        ...request,
        allowedRoots: ['/srv', '/usr'],
        transfer: { ...request.transfer, destination: { host: 'new1', path: destinationPath } },
      });
    const within = (destinationPath: string): Promise<unknown> =>
      prepare(mover, {
        ...request,
        destination: request.source,
        transfer: { ...request.transfer, destination: { host: 'old1', path: destinationPath } },
      });

    await expect(prepare(mover, request)).rejects.toMatchObject({ type: 'NeedsHuman', message: /not empty.*precious/ });
    await expect(to('/usr/local')).rejects.toMatchObject({ type: 'Permanent', message: /belongs to the system/ });
    await script(destination, `ln -sfn /etc '${path}-link'`);
    await expect(to(`${path}-link/x`)).rejects.toMatchObject({ type: 'Permanent', message: /belongs to the system/ });
    await expect(within(path)).rejects.toMatchObject({ type: 'Permanent', message: /same directory/ });
    await expect(within(`${path}/inner`)).rejects.toMatchObject({ type: 'Permanent', message: /inside the other/ });
    await script(source, `mkdir '${path}-bind'; mount --bind '${path}/inner' '${path}-bind'`);
    await expect(within(`${path}-bind`)).rejects.toMatchObject({ type: 'Permanent', message: /inside the other/ });
    await script(source, `umount '${path}-bind'; rmdir '${path}-bind'`);
    expect(await script(destination, `cat '${path}/precious'; rm '${path}-link'; ls '${path}'`)).toBe(
      'precious\nprecious\n',
    );
    expect(await script(source, `ls '${path}'`)).toBe('inner\nx\n');

    await script(
      destination,
      `rm '${path}/precious'; cd '${path}'; setsid sleep 60 >/dev/null 2>&1 <'${path}' & echo $! >/run/holder`,
    );
    await expect(prepare(mover, request)).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: /is in use.*sleep \(pid/,
    });
    await script(destination, 'kill $(cat /run/holder)');
    const { choice } = await prepare(mover, request);
    await once(() => activities.runPass(pass(request, choice, 1)));
    const stranger = { ...request, migration: 'stranger' };
    await expect(prepare(mover, stranger)).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: /belongs to another transfer/,
    });
  });

  it('ends what its own earlier try left writing, instead of calling the destination in use', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('orphan');
    const { path } = request.transfer.destination;
    await script(source, `mkdir -p '${path}'; echo a >'${path}/a'`);
    await prepare(mover, request);
    const claim = await claimOf(destination, request.transfer.id);
    await script(
      destination,
      `setsid flock '${claim}/lock' sleep 60 >>'${path}/half' 2>/dev/null </dev/null &
for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2; flock -n '${claim}/lock' true || break; done; ! flock -n '${claim}/lock' true`,
    );
    const { choice } = await prepare(mover, request);
    await once(() => activities.runPass(pass(request, choice, 1, { mode: 'final' })));
    const [left, right] = await bothTrees(mover, request);

    expect(right).toEqual(left);
  });

  it('refuses the last pass while somebody can write, and names him', async () => {
    const { activities, source } = mover;
    const request = await freshRequest('quiet');
    const { path } = request.transfer.source;
    const mapper = `/run/${request.transfer.id}`;
    await script(
      source,
      `mkdir -p '${path}' && cd '${path}'; head -c 100000 /dev/zero >mapped; ${mappedWriter('mapped', mapper)}`,
    );
    const proof = (): Promise<unknown> => once(() => activities.proveQuiet({ request }));

    await expect(proof()).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: /perl \(pid \d+.*has mapped mapped for writing/,
    });
    await script(
      source,
      `touch '${mapper}/end'; setsid sleep 60 >>'${path}/log' 2>/dev/null </dev/null & echo $! >/run/holder`,
    );
    await expect(proof()).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: /sleep \(pid \d+.*has log open for writing/,
    });
    await script(source, `kill $(cat /run/holder); echo '1 1 * * * root rm ${path}/x' >/etc/cron.d/ferry-quiet`);
    await expect(proof()).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: /cron table \/etc\/cron.d\/ferry-quiet/,
    });
    await script(source, 'rm /etc/cron.d/ferry-quiet');
    expect(await proof()).toMatchObject({ changed: false });
  });

  it('does not spend the limit on holes', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('holes', { limitKiBps: 8000 });
    const { path } = request.transfer.source;
    await script(
      source,
      `mkdir -p '${path}' && cd '${path}'; truncate -s 1G sparse; for at in 0 300 700; do head -c 1M /dev/urandom | dd of=sparse bs=1M seek=$at conv=notrunc status=none; done`,
    );
    // The machines have zstd; what the oldest ones have does it as well.
    const { choice, bytes } = await prepare(mover, request);
    const old = { ...choice, compress: 'zlib' as const };
    const zeros = bytes / (8000 * 1024);

    const first = await once(() => activities.runPass(pass(request, choice, 1, { limitKiBps: 8000 })));
    await script(destination, `rm -rf '${path}'/*`);
    const second = await once(() => activities.runPass(pass(request, old, 2, { limitKiBps: 8000 })));
    const allocated = `du -sm '${path}' | cut -f1`;

    expect(zeros).toBeGreaterThan(130);
    for (const report of [first, second]) {
      expect(report.seconds).toBeLessThan(zeros / 2);
      expect(report.wireBytes).toBeLessThan(40_000_000);
    }
    expect(Number(await script(destination, allocated))).toBeLessThan(10);
    expect(await script(destination, `sha256sum <'${path}/sparse'`)).toBe(
      await script(source, `sha256sum <'${path}/sparse'`),
    );
  });

  it('names the machine and the cure when its file system refuses, and goes on when it no longer does', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('read-only');
    const { path } = request.transfer.source;
    await script(destination, `mkdir -p '${path}'; mount -t tmpfs -o size=40m tmpfs '${path}'`);
    try {
      await script(source, `mkdir -p '${path}/d'; echo a >'${path}/d/a'`);
      const { choice } = await prepare(mover, request);
      await script(destination, `mount -o remount,ro '${path}'`);
      await expect(once(() => activities.runPass(pass(request, choice, 1)))).rejects.toMatchObject({
        type: 'NeedsHuman',
        message:
          /: on new1 the file system is read-only; rsync ended with \d+ .*Read-only file system.*Next: .*\(ssh new1\)/,
      });
      await script(destination, `mount -o remount,rw '${path}'`);
      await once(() => activities.runPass(pass(request, choice, 2)));
      expect(await once(() => activities.verifyTransfer({ request, choice }))).toMatchObject({ equal: true });
    } finally {
      await script(destination, `umount -l '${path}'`);
    }
  });

  it('asks for room before it starts, and says so when the disk fills up under it', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('full');
    const { path } = request.transfer.source;
    await script(destination, `mkdir -p '${path}'; mount -t tmpfs -o size=40m tmpfs '${path}'`);
    try {
      await script(source, `mkdir -p '${path}'; head -c 50000000 /dev/urandom >'${path}/large'`);
      await expect(prepare(mover, request)).rejects.toMatchObject({
        type: 'NeedsHuman',
        message: /too little space: .* MiB are needed, 40.0 MiB are free/,
      });
      await script(source, `truncate -s 5000000 '${path}/large'`);
      const { choice, bytes } = await prepare(mover, request);
      await script(source, `head -c 50000000 /dev/urandom >'${path}/grown'`);
      await expect(
        once(() => activities.runPass(pass(request, choice, 1, { expectedBytes: bytes }))),
      ).rejects.toMatchObject({
        type: 'NeedsHuman',
        message:
          /no space at new1:.* are free, \d+(?:\.\d)? MiB and \d entr(?:y|ies) of 52(?:\.\d)? MiB are still to come.*No space left on device/,
      });
      await script(source, `rm '${path}/grown'`);
      await once(() => activities.runPass(pass(request, choice, 2)));
      expect(await once(() => activities.verifyTransfer({ request, choice }))).toMatchObject({ equal: true });
    } finally {
      await script(destination, `umount -l '${path}'`);
    }
  });
});
