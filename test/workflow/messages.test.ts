import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createNotifyActivities } from '../../src/activities/notify.ts';
import { readHistory } from '../../src/client/report-history.ts';
import { reportOf } from '../../src/client/report-of.ts';
import type { Harness } from './harness.ts';
import { approveAll, startHarness } from './harness.ts';
import { planOf } from './plans.ts';
import { createWorld } from './world.ts';

/** A webhook behind a gateway that is down, until it is repaired. */
let isDown = true;
const received: string[] = [];
const webhook = createServer((request: IncomingMessage, response: ServerResponse) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    if (!isDown) received.push((JSON.parse(Buffer.concat(chunks).toString()) as { event: string }).event);
    response.writeHead(isDown ? 503 : 200).end();
  });
});

let harness: Harness;
beforeAll(async () => {
  await new Promise<void>((resolve) => webhook.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(webhook.address() as AddressInfo).port}/`;
  harness = await startHarness('development', {
    activities: createNotifyActivities({ targets: () => Promise.resolve({ kind: 'json', url }) }),
  });
});
afterAll(async () => {
  await harness.stop();
  webhook.closeAllConnections();
  webhook.close();
});

describe('a webhook that is down', () => {
  it('keeps no migration from ending, and still gets the last message', { timeout: 180_000 }, async () => {
    const plan = planOf('unheard');
    createWorld(plan);
    const handle = await harness.start(plan);
    await approveAll(handle);
    const approvedAt = Date.now();
    const { status } = await handle.result();
    const seconds = (Date.now() - approvedAt) / 1000;
    const { client } = harness.environment;
    const reportNow = async (): Promise<ReturnType<typeof reportOf>> =>
      reportOf(await readHistory(client, handle.workflowId), new Date().toISOString());
    const early = await reportNow();

    expect(status.state).toBe('completed');
    // Its own tries take minutes.
    expect(seconds).toBeLessThan(60);
    expect(early.notifications.map(({ event, delivered }) => [event, delivered])).toEqual([
      ['gate', []],
      ['gate', []],
      ['gate', []],
      ['finished', []],
      ['finished', []],
    ]);
    expect(early.notifications.slice(0, 3).map(({ failed }) => failed[0]?.why)).toEqual(
      Array.from({ length: 3 }, () => expect.stringMatching(/HTTP 503.*given up: the migration had ended/) as string),
    );
    expect(early.notifications[3]?.failed).toEqual([{ target: 'pager', why: 'HTTP 503, 4 tries' }]);
    expect(early.notifications[4]?.failed).toEqual([{ target: 'pager', why: 'still being tried' }]);

    isDown = false;
    await client.workflow.getHandle(`${handle.workflowId}/last-message`).result();
    const late = await reportNow();

    expect(received).toEqual(['finished']);
    expect(late.notifications.at(-1)).toMatchObject({ event: 'finished', delivered: ['pager'], failed: [] });
  });
});
