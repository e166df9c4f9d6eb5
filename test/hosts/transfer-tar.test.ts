import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { ApplicationFailure } from '@temporalio/common';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { checkRsync } from '../../src/activities/preflight-rsync.ts';
import type { World } from '../../src/activities/preflight-world.ts';
import { namesOf } from '../../src/activities/transfer-names.ts';
import { layProgram, packProgram, programDirectory } from '../../src/activities/transfer-program.ts';
import type { ReplicateInput } from '../../src/plan/replicate.ts';
import { replicateInputSchema } from '../../src/plan/replicate.ts';
import { alone, freshName, script } from './machines.ts';
import type { Mover } from './transfer-setup.ts';
import {
  attempt,
  bothTrees,
  keyOf,
  movingProcesses,
  once,
  openMover,
  pass,
  prepare,
  sweep,
  traces,
} from './transfer-setup.ts';
import { oddTree } from './transfer-trees.ts';

/** With the libraries that nothing but rsync needs: a machine without it has none of them either. */
const hidden = '/usr/bin/rsync /usr/lib/*/libpopt.so.0 /usr/lib/*/libxxhash.so.0';
const hide = `for f in ${hidden}; do if [ -e "$f" ]; then mv "$f" "$f.hidden"; fi; done`;
const show = `for f in $(printf '%s.hidden ' ${hidden}); do if [ -e "$f" ]; then mv "$f" "\${f%.hidden}"; fi; done`;

/** No other test may miss the rsync of new3. */
let release: () => Promise<void>;
beforeAll(async () => {
  release = await alone('new3');
});
afterAll(async () => release());

describe('a transfer to a machine without rsync', () => {
  let mover: Mover;
  const requests: ReplicateInput[] = [];

  beforeAll(async () => {
    mover = await openMover('old1', 'new3');
    await script(mover.destination, hide);
  });
  afterEach(async () => {
    for (const request of requests.splice(0)) await sweep(mover, request);
  });
  afterAll(async () => {
    await script(mover.destination, show);
    await mover.close();
  });

  async function freshRequest(prefix: string): Promise<ReplicateInput> {
    const request = await mover.request(freshName(prefix));
    requests.push(request);
    return request;
  }

  it('copies every oddity by tar and proves it', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('tar');
    const { path } = request.transfer.source;
    await script(source, `${oddTree(path)}; rm socket links/fifo`);

    const { choice, files } = await prepare(mover, request);
    const live = await once(() => activities.runPass(pass(request, choice, 1)));
    await script(
      source,
      `cd '${path}'; echo changed >>plain; rm -f many/7; mv random renamed; rmdir empty; echo x >empty`,
    );
    await script(destination, `cd '${path}'; echo stranger >extra; setfattr -n user.stray -v 1 plain; chmod 777 deep`);
    await once(() => activities.runPass(pass(request, choice, 2, { mode: 'final' })));
    const verification = await once(() => activities.verifyTransfer({ request, choice }));
    const [left, right] = await bothTrees(mover, request);

    expect(choice.tool).toBe('tar');
    expect(choice.reasons.join()).toContain('no rsync on the destination');
    expect(live).toMatchObject({ files, vanished: false, matchedBytes: 0 });
    expect(right).toEqual(left);
    expect(verification.differences).toEqual([]);
    await once(() => activities.finishTransfer({ request, verified: verification.digest ?? '' }));
    expect(await traces(mover, request)).toBe('');
  });

  it('keeps its limit, tells how far it is, and begins again after a cut', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('tar-cut');
    const { path } = request.transfer.source;
    await script(source, `mkdir -p '${path}'; head -c 20M /dev/urandom >'${path}/large'; echo a >'${path}/a'`);
    const { choice, bytes } = await prepare(mover, request);
    const input = pass(request, choice, 1, { limitKiBps: 3000, expectedBytes: bytes });
    const first = attempt('cut');

    const copy = first.run(() => activities.runPass(input));
    const outcome = copy.catch((error: unknown) => error);
    await expect
      .poll(() => first.heartbeats.some((beat) => Number(beat['bytes']) > 3e6), { timeout: 30_000 })
      .toBe(true);
    await script(destination, 'pkill -KILL -x tar');
    const failure = await outcome;
    const begin = Date.now();
    const report = await attempt('cut').run(() => activities.runPass(input));
    const [left, right] = await bothTrees(mover, request);

    expect(failure).toBeInstanceOf(ApplicationFailure);
    expect(failure).toMatchObject({ type: 'Transient' });
    expect(Date.now() - begin).toBeGreaterThan(5000);
    expect(report.literalBytes).toBeGreaterThan(20_000_000);
    expect(right).toEqual(left);
  });

  it('lets one writer in at a time, and ends it when it is cancelled', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('tar-one');
    const { path } = request.transfer.source;
    await script(source, `mkdir -p '${path}'; head -c 20M /dev/urandom >'${path}/large'`);
    const { choice } = await prepare(mover, request);
    const first = attempt();
    const copy = first.run(() => activities.runPass(pass(request, choice, 1, { limitKiBps: 1000 })));
    const outcome = copy.catch((error: unknown) => error);
    await expect.poll(async () => script(destination, 'pgrep -x tar || :'), { timeout: 30_000 }).not.toBe('');
    const config = (await script(source, `echo /var/lib/ferry/transfers/*${request.transfer.id}*/ssh_config`)).trim();

    const intruder = await source.run(['ssh', '-F', config, 'ferry', 'ferry-tar'], { timeout: 30_000 });
    first.environment.cancel('CANCELLED');
    await outcome;
    await sleep(200);

    expect(intruder.stderr).toContain('ferry: busy');
    expect([await movingProcesses(source, request), await movingProcesses(destination, request)]).toEqual(['', '']);
  });

  it('refuses what tar would lose', async () => {
    const request = await freshRequest('tar-socket');
    const { path } = request.transfer.source;
    await script(
      mover.source,
      `mkdir -p '${path}' && cd '${path}' && perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => "socket", Listen => 1) or die'`,
    );

    await expect(prepare(mover, { ...request, mode: 'final' })).rejects.toMatchObject({
      type: 'Permanent',
      message: /1 sockets, .* which tar cannot carry/,
    });
  });

  it('is refused before anything is written where nothing could prove it', async () => {
    const request = await freshRequest('no-perl');
    const { path } = request.transfer.source;
    await script(mover.source, `mkdir -p '${path}'; echo a >'${path}/a'`);
    await script(mover.destination, 'mv /usr/bin/perl /usr/bin/perl.hidden');
    try {
      await expect(prepare(mover, request)).rejects.toMatchObject({
        type: 'Permanent',
        message: /no perl with its module POSIX on the destination, and without it no copy can be proved/,
      });
    } finally {
      await script(mover.destination, 'mv /usr/bin/perl.hidden /usr/bin/perl');
    }
    expect(await script(mover.destination, `ls -d '${path}' 2>/dev/null || :`)).toBe('');
  });

  it('stands against no migration, and the check of a plan says what it costs', async () => {
    const { transfer, ...ends } = await freshRequest('check');
    const observed = { bytes: 200_000_000_000, files: 1000, freeBytes: 1e12 };
    const world = (change: object): World =>
      ({
        plan: { transfers: [{ ...transfer, observed }], ...change },
        connect: async (name: string) => mover.hosts.connect(name === 'new3' ? ends.destination : ends.source),
        workerBootId: () => Promise.resolve(undefined),
      }) as unknown as World;

    const price = await checkRsync(world({}));
    const lent = await checkRsync(world({ bringRsync: {} }));

    expect(price.failures).toEqual([]);
    expect(price.warnings?.join()).toMatch(
      new RegExp(
        `^new3 has no rsync: ${transfer.id} goes through tar, whole in every pass: 186 GiB in the window, about 33.4 min`,
      ),
    );
    expect(lent).toMatchObject({ failures: [], warnings: [] });
    expect(lent.proof).toMatch(/of the worker, lent to new3 for each copy$/);
  });

  it('copies within one machine that has no rsync', async () => {
    const { activities, destination } = mover;
    const request = await freshRequest('tar-local');
    const { path } = request.transfer.destination;
    const local = replicateInputSchema.parse({
      ...request,
      source: request.destination,
      transfer: {
        ...request.transfer,
        source: { host: 'new3', path },
        destination: { host: 'new3', path: `${path}-other's` },
      },
    });
    await script(destination, `mkdir -p '${path}/d'; cd '${path}'; echo a >d/a; ln d/a b; echo 'c d' >'c d'`);

    const { choice } = await prepare(mover, local);
    await once(() => activities.runPass(pass(local, choice, 1)));
    await once(() => activities.runPass(pass(local, choice, 2, { mode: 'final' })));
    const verification = await once(() => activities.verifyTransfer({ request: local, choice }));
    await once(() => activities.finishTransfer({ request: local, verified: verification.digest ?? '' }));
    await script(destination, `rm -rf "${path}-other's"`);

    expect(verification).toMatchObject({ equal: true, differences: [] });
  });
});

describe('a transfer that lends rsync to a machine without', () => {
  let mover: Mover;
  const requests: ReplicateInput[] = [];

  beforeAll(async () => {
    mover = await openMover('old1', 'new3');
    await script(mover.destination, hide);
  });
  afterEach(async () => {
    for (const request of requests.splice(0)) await sweep(mover, request);
  });
  afterAll(async () => {
    await script(mover.destination, show);
    await mover.close();
  });

  async function freshRequest(prefix: string, bringRsync: ReplicateInput['bringRsync'] = {}): Promise<ReplicateInput> {
    const request = await mover.request(freshName(prefix), { bringRsync });
    requests.push(request);
    return request;
  }

  it('copies every oddity to it, goes on when it was swept in between, and takes it away at the end', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('lent');
    const { path } = request.transfer.source;
    await script(source, oddTree(path));

    const { choice } = await prepare(mover, { ...request, mode: 'final' });
    const program = `/var/lib/ferry/transfers/${await keyOf(source, request.transfer.id)}/program`;
    const modes = await script(destination, `stat -c '%a %U' '${program}' '${program}/rsync' | sort -u`);
    await once(() => activities.runPass(pass(request, choice, 1)));
    await script(source, `cd '${path}'; echo changed >>plain; rm -f many/7; mv random renamed`);
    await script(destination, `rm -rf '${program}'`);
    const second = await once(() => activities.runPass(pass(request, choice, 2, { mode: 'final' })));
    const verification = await once(() => activities.verifyTransfer({ request, choice }));
    const [left, right] = await bothTrees(mover, request);
    const there = await script(destination, `ls '${program}'; command -v rsync || :`);

    expect(choice).toMatchObject({ tool: 'rsync', brought: ['destination'] });
    expect(choice.reasons.join()).toMatch(
      /rsync 3\.\d+\.\d+ of the worker's machine lent to new3 until the end of the transfer: it has none/,
    );
    expect(modes).toBe('700 root\n');
    expect(right).toEqual(left);
    expect(second.explanation).toContain('lent to new3');
    // A file that is all hole is left to this pass where tar carried the first one.
    expect(second.literalBytes).toBeLessThan(4_000_000 + 16 * 1024 ** 2);
    expect(verification.differences).toEqual([]);
    expect(there).toContain('rsync\n');
    expect(there).not.toContain('/');
    await once(() => activities.finishTransfer({ request, verified: verification.digest ?? '' }));
    expect(await traces(mover, request)).toBe('');
    expect(await script(destination, `ls '${program}' 2>/dev/null || :`)).toBe('');
  });

  it('goes to a machine whose own rsync is too old or lacks something', async () => {
    const { activities, source, destination } = mover;
    const request = await freshRequest('lent-instead');
    const { path } = request.transfer.source;
    await script(
      source,
      `mkdir -p '${path}' && cd '${path}'; echo a >a; setfacl -m u:54321:rw a; setfattr -n user.b -v c a`,
    );
    const old = (version: string): string =>
      `printf '#!/bin/sh\\necho "${version}"\\n' >/usr/local/bin/rsync; chmod 755 /usr/local/bin/rsync; hash -r`;
    const outcomes: unknown[] = [];
    try {
      for (const version of [
        'rsync  version 2.6.9  protocol version 29',
        'rsync  version 3.1.2  protocol version 31 Capabilities: hardlinks, no ACLs, xattrs',
      ]) {
        await script(destination, old(version));
        await expect(prepare(mover, { ...request, bringRsync: undefined })).rejects.toMatchObject({
          type: 'Permanent',
          message: /(?:too old|built without).*bringRsync/,
        });
        const { choice } = await prepare(mover, request);
        await once(() => activities.runPass(pass(request, choice, 1)));
        await once(() => activities.runPass(pass(request, choice, 2, { mode: 'final' })));
        const { equal } = await once(() => activities.verifyTransfer({ request, choice }));
        const [left, right] = await bothTrees(mover, request);
        expect(right).toEqual(left);
        outcomes.push([choice.tool, choice.brought, equal, choice.reasons.join().match(/it has rsync.*?ACLs/)?.[0]]);
      }
    } finally {
      await script(destination, 'rm -f /usr/local/bin/rsync');
    }

    expect(outcomes).toEqual([
      ['rsync', ['destination'], true, 'it has rsync 2.6.9, which is too old to carry ACLs'],
      ['rsync', ['destination'], true, 'it has rsync 3.1.2, which was built without ACLs'],
    ]);
  });

  it('goes where the source has none, and within one machine', async () => {
    const { activities, destination } = mover;
    const request = await freshRequest('lent-source');
    const { path } = request.transfer.destination;
    await script(
      destination,
      `mkdir -p '${path}/d'; cd '${path}'; echo a >d/a; ln d/a b; head -c 300000 /dev/urandom >c`,
    );
    const back = replicateInputSchema.parse({
      ...request,
      source: request.destination,
      destination: request.source,
      transfer: { ...request.transfer, source: { host: 'new3', path }, destination: { host: 'old1', path } },
    });
    const local = replicateInputSchema.parse({
      ...back,
      destination: request.destination,
      transfer: { ...back.transfer, destination: { host: 'new3', path: `${path}-other` } },
    });

    const outcomes: unknown[] = [];
    for (const each of [back, local]) {
      const { choice } = await prepare(mover, each);
      await once(() => activities.runPass(pass(each, choice, 1)));
      await once(() => activities.runPass(pass(each, choice, 2, { mode: 'final' })));
      const { equal, digest = '' } = await once(() => activities.verifyTransfer({ request: each, choice }));
      await once(() => activities.finishTransfer({ request: each, verified: digest }));
      outcomes.push([choice.tool, choice.brought, equal, await traces(mover, each)]);
    }
    await script(destination, `rm -rf '${path}-other'`);

    expect(outcomes).toEqual([
      ['rsync', ['source'], true, ''],
      ['rsync', ['source'], true, ''],
    ]);
  });

  it('is not misled by a program that is none, is built for another machine or does not run there', async () => {
    const { destination, activities, source } = mover;
    const request = await freshRequest('lent-none', { program: '/bin/true' });
    const { path } = request.transfer.source;
    await script(source, `mkdir -p '${path}'; echo a >'${path}/a'`);
    const names = namesOf(request);
    const real = await packProgram();
    const content = Buffer.from('#!/bin/sh\necho no such luck >&2; exit 5\n');
    const sums = Buffer.from(`${createHash('sha256').update(content).digest('hex')}  rsync\n`);
    const broken = {
      ...real,
      files: [
        { name: 'rsync', content, mode: 0o700 },
        { name: 'sums', content: sums, mode: 0o600 },
      ],
      sumsDigest: createHash('sha256').update(sums).digest('hex'),
    };

    await expect(prepare(mover, request)).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: /no rsync can be brought along .*\/bin\/true is no rsync/,
    });
    expect(await layProgram(destination, names, { ...real, machine: 'aarch64' })).toEqual({
      why: 'it is built for aarch64, the machine is x86_64',
    });
    expect(await layProgram(destination, names, broken)).toEqual({ why: 'it does not run there: no such luck' });
    expect(await script(destination, `ls '${programDirectory(names)}' 2>/dev/null || :`)).toBe('');
    await once(() => activities.finishTransfer({ request }));
  });
});
