import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ReplicateInput } from '../../src/plan/replicate.ts';
import { alone, freshName, script } from './machines.ts';
import type { Mover } from './transfer-setup.ts';
import { bothTrees, once, openMover, pass, prepare, sweep, traces } from './transfer-setup.ts';

const settings = '/etc/ssh/sshd_config';
const count = 8;

describe('many transfers at once to an sshd that admits few', () => {
  let mover: Mover;
  const releases: (() => Promise<void>)[] = [];
  const requests: ReplicateInput[] = [];

  beforeAll(async () => {
    for (const name of ['new3', 'old3']) releases.push(await alone(name));
    mover = await openMover('old3', 'new3');
    // Stricter than any distribution, so that eight are a crowd.
    await script(
      mover.destination,
      `cp -p ${settings} ${settings}.before; sed -i '1i MaxStartups 2:70:4\\nMaxSessions 3' ${settings}; systemctl reload ssh`,
    );
  });
  afterAll(async () => {
    await script(mover.destination, `mv -f ${settings}.before ${settings}; systemctl reload ssh`);
    for (const request of requests) await sweep(mover, request);
    await mover.close();
    for (const release of releases) await release();
  });

  it('all come through, and leave nothing', async () => {
    const asked = await script(mover.destination, `sshd -T | grep -E '^(maxstartups|maxsessions) '`);
    expect(asked.trim().split('\n').toSorted()).toEqual(['maxsessions 3', 'maxstartups 2:70:4']);
    for (let number = 0; number < count; number += 1) {
      const request = await mover.request(freshName('crowd'));
      requests.push(request);
      const { path } = request.transfer.source;
      await script(mover.source, `mkdir -p '${path}'; for i in 1 2 3; do echo "${number} $i" >'${path}'/$i; done`);
    }

    await Promise.all(
      requests.map(async (request) => {
        const { choice } = await prepare(mover, request);
        const report = await once(() => mover.activities.runPass(pass(request, choice, 1)));
        expect(report.filesTransferred).toBe(3);
        await once(() => mover.activities.finishTransfer({ request }));
      }),
    );

    for (const request of requests) {
      const [left, right] = await bothTrees(mover, request);
      expect(right).toEqual(left);
      expect(await traces(mover, request)).toBe('');
    }
  });
});
