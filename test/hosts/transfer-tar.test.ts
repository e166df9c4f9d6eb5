import { setTimeout as sleep } from 'node:timers/promises';
import { ApplicationFailure } from '@temporalio/common';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ReplicateInput } from '../../src/plan/replicate.ts';
import { replicateInputSchema } from '../../src/plan/replicate.ts';
import { freshName, script } from './machines.ts';
import type { Mover } from './transfer-setup.ts';
import {
  attempt,
  bothTrees,
  movingProcesses,
  once,
  openMover,
  pass,
  prepare,
  sweep,
  traces,
} from './transfer-setup.ts';
import { oddTree } from './transfer-trees.ts';

const hide = 'if [ -e /usr/bin/rsync ]; then mv /usr/bin/rsync /usr/bin/rsync.hidden; fi';
const show = 'if [ -e /usr/bin/rsync.hidden ]; then mv /usr/bin/rsync.hidden /usr/bin/rsync; fi';

/** new3 belongs to this file alone: no other may miss its rsync. */
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
