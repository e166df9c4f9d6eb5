import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ActivityCancellationDetails } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  briefPauses,
  createNotifyActivities,
  environmentTargets,
  messageBody,
  type NotifyKind,
  notifyPauses,
  parseTarget,
} from '../../../src/activities/notify.ts';
import { policies } from '../../../src/workflows/policies.ts';

interface Seen {
  body: unknown;
  type: string | undefined;
}

let server: Server;
let url: string;
let seen: Seen[];
let answers: { status: number; body: string }[];

beforeEach(async () => {
  seen = [];
  answers = [];
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      seen.push({ body: JSON.parse(Buffer.concat(chunks).toString()), type: request.headers['content-type'] });
      const answer = answers.shift() ?? { status: 200, body: '{}' };
      if (answer.status === 0) return;
      response.writeHead(answer.status, answer.status === 302 ? { location: '/other' } : {}).end(answer.body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?token=s3cret`;
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

const input = {
  targets: ['team'],
  event: 'gate' as const,
  cluster: 'demo',
  workflowId: 'migrate-demo',
  text: 'projected downtime 12 min',
  gate: 'open-downtime' as const,
  command: 'ferry approve open-downtime',
};
const text =
  'Migration of demo waits for a decision (open-downtime)\nprojected downtime 12 min\nferry approve open-downtime';

function activities(kind: NotifyKind, timeout = 1000): ReturnType<typeof createNotifyActivities> {
  return createNotifyActivities({
    targets: (name) => Promise.resolve(name === 'team' ? { kind, url } : undefined),
    timeout,
    pauses: [10, 10],
  });
}

describe('notifications', () => {
  it.each<{ kind: NotifyKind; body: object }>([
    { kind: 'slack', body: { text } },
    { kind: 'dingtalk', body: { msgtype: 'text', text: { content: text } } },
    { kind: 'wecom', body: { msgtype: 'text', text: { content: text } } },
    { kind: 'feishu', body: { msg_type: 'text', content: { text } } },
    {
      kind: 'json',
      body: {
        event: 'gate',
        cluster: 'demo',
        workflowId: 'migrate-demo',
        text: 'projected downtime 12 min',
        gate: 'open-downtime',
        command: 'ferry approve open-downtime',
      },
    },
  ])('arrive in the shape of $kind', async ({ kind, body }) => {
    const result = await activities(kind).notify(input);

    expect(result).toEqual({ delivered: ['team'], failed: [] });
    expect(seen).toEqual([{ body, type: 'application/json' }]);
    expect(messageBody(kind, input)).toEqual(body);
  });

  it('are tried again after a server error, and only then', async () => {
    answers = [
      { status: 503, body: '' },
      { status: 200, body: '{}' },
    ];

    expect(await activities('slack').notify(input)).toEqual({ delivered: ['team'], failed: [] });
    expect(seen).toHaveLength(2);
  });

  it('are tried more than three times, with pauses up to minutes', async () => {
    answers = notifyPauses.map(() => ({ status: 503, body: '' }));

    const { notify } = createNotifyActivities({
      targets: () => Promise.resolve({ kind: 'slack', url }),
      pauses: notifyPauses.map(() => 1),
    });

    expect(await notify(input)).toEqual({ delivered: ['team'], failed: [] });
    expect(seen).toHaveLength(notifyPauses.length + 1);
    expect(seen.length).toBeGreaterThan(3);
    expect(Math.max(...notifyPauses)).toBeGreaterThanOrEqual(60_000);
    // The policy gives one try the time for all of it, each request at its longest.
    const longest = notifyPauses.reduce((sum, pause) => sum + pause + 5000, 5000);
    expect(longest).toBeLessThan(Number(/^(\d+)m$/.exec(policies.notify.startToClose)?.[1]) * 60_000);
  });

  it('have half a minute when somebody waits', { timeout: 30_000 }, async () => {
    answers = briefPauses.map(() => ({ status: 503, body: '' }));
    const { notify } = createNotifyActivities({ targets: () => Promise.resolve({ kind: 'json', url }) });

    expect(await notify({ ...input, brief: true })).toEqual({ delivered: ['team'], failed: [] });
    // Each request at its longest, too.
    expect(briefPauses.reduce((sum, pause) => sum + pause + 5000, 5000)).toBeLessThanOrEqual(30_000);
    expect(seen.at(-1)?.body).not.toHaveProperty('brief');
  });

  it('are not sent twice to whom a lost worker had reached', async () => {
    const environment = new MockActivityEnvironment({ heartbeatDetails: { delivered: ['team'] } });
    const { notify } = activities('slack');

    const result = await environment.run(notify, { ...input, targets: ['team', 'nobody'] });

    expect(result).toMatchObject({ delivered: ['team'], failed: [{ target: 'nobody' }] });
    expect(seen).toEqual([]);
  });

  it('are given up for another worker when this one ends', async () => {
    answers = [{ status: 503, body: '' }];
    const { notify } = createNotifyActivities({
      targets: () => Promise.resolve({ kind: 'slack', url }),
      pauses: [60_000],
    });
    const environment = new MockActivityEnvironment();
    const running = environment.run(notify, input);
    await expect.poll(() => seen.length).toBe(1);
    environment.cancel('WORKER_SHUTDOWN', new ActivityCancellationDetails({ workerShutdown: true }));

    await expect(running).rejects.toThrow();
  });

  it('say whom they did not reach when the migration ends', async () => {
    answers = [{ status: 503, body: '' }];
    const { notify } = createNotifyActivities({
      targets: () => Promise.resolve({ kind: 'slack', url }),
      pauses: [60_000],
    });
    const environment = new MockActivityEnvironment();
    const running = environment.run(notify, input);
    await expect.poll(() => seen.length).toBe(1);
    environment.cancel('CANCELLED', new ActivityCancellationDetails({ cancelRequested: true }));

    expect(await running).toEqual({
      delivered: [],
      failed: [{ target: 'team', why: 'HTTP 503, then given up: the migration had ended' }],
    });
  });

  it.each<{ kind: NotifyKind; answer: { status: number; body: string }; why: string; requests: number }>([
    { kind: 'slack', answer: { status: 404, body: 'no_team' }, why: 'HTTP 404', requests: 1 },
    {
      kind: 'dingtalk',
      answer: { status: 200, body: '{"errcode":310000}' },
      why: 'refused with code 310000',
      requests: 1,
    },
    { kind: 'feishu', answer: { status: 200, body: '{"code":19001}' }, why: 'refused with code 19001', requests: 1 },
    { kind: 'slack', answer: { status: 302, body: '' }, why: 'the request failed, 3 tries', requests: 1 },
  ])('refused by $kind with $answer.status are told, never thrown', async ({ kind, answer, why, requests }) => {
    answers = [answer, answer, answer];

    const result = await activities(kind).notify(input);

    expect(result).toEqual({ delivered: [], failed: [{ target: 'team', why }] });
    expect(seen.length).toBeGreaterThanOrEqual(requests);
  });

  it('that get no answer are told without the address', async () => {
    answers = [0, 0, 0].map((status) => ({ status, body: '' }));

    const result = await activities('json', 50).notify(input);

    expect(result).toEqual({ delivered: [], failed: [{ target: 'team', why: 'no answer within 50 ms, 3 tries' }] });
    expect(JSON.stringify(result)).not.toContain('s3cret');
  });

  it('to a refused port are told without the address', async () => {
    await new Promise((resolve) => server.close(resolve));

    const result = await activities('json').notify(input);

    expect(result).toEqual({ delivered: [], failed: [{ target: 'team', why: 'ECONNREFUSED, 3 tries' }] });
  });

  it('to a target nobody configured are told', async () => {
    const result = await activities('json').notify({ ...input, targets: ['team', 'nobody'] });

    expect(result.delivered).toEqual(['team']);
    expect(result.failed).toEqual([
      { target: 'nobody', why: 'the worker knows no address for it (FERRY_NOTIFY_<NAME>)' },
    ]);
  });

  it('find their addresses in the environment', async () => {
    const lookup = environmentTargets({ FERRY_NOTIFY_ON_CALL: 'slack:https://example.org/x' });

    expect(await lookup('on-call')).toEqual({ kind: 'slack', url: 'https://example.org/x' });
    expect(await lookup('other')).toBeUndefined();
  });

  it.each(['https://example.org', 'smoke:https://example.org', 'slack:ftp://example.org', 'slack:'])(
    'refuse the address %s without repeating it',
    (value) => {
      expect(() => parseTarget(value)).toThrow(/^must be kind:url, kind one of json, slack, dingtalk, feishu, wecom$/);
    },
  );
});
