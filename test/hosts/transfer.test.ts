import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { freshName, script } from './machines.ts';
import type { ReplicateInput, ReplicateRequest } from '../../src/plan/replicate.ts';
import type { Mover } from './transfer-setup.ts';
import { attempt, bothTrees, once, openMover, pass, prepare, sweep, traces } from './transfer-setup.ts';
import { oddTree } from './transfer-trees.ts';

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
    expect(verification).toMatchObject({ equal: true, kind: 'full', entries: left.length });
    expect(verification.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(files).toBeGreaterThan(300);
    expect(live).toMatchObject({ vanished: false, files });
    expect(live.literalBytes).toBeGreaterThanOrEqual(3_000_000);
    expect(final.deleted).toBeGreaterThanOrEqual(2);
    expect(final.literalBytes).toBeLessThan(4_000_000);
    expect(first.heartbeats.length).toBeGreaterThan(0);

    await once(() => activities.finishTransfer({ request, verified: verification.digest ?? '' }));
    expect(await traces(mover, request)).toBe('');
  });
});
