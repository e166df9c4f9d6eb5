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
  signed,
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
    expect(seen).toEqual([{ body, type: 'application/json; charset=utf-8' }]);
    expect(messageBody(kind, input)).toEqual(body);
  });

  it('keep what Slack would read as marks', () => {
    const body = messageBody('slack', { ...input, text: 'set <NAME> & <!channel>' });

    expect(body).toEqual({
      text: text.replace('projected downtime 12 min', 'set &lt;NAME&gt; &amp; &lt;!channel&gt;'),
    });
  });

  it.each<{ kind: NotifyKind; most: number }>([
    { kind: 'wecom', most: 2048 },
    { kind: 'dingtalk', most: 20_000 },
    { kind: 'feishu', most: 20_000 },
    { kind: 'slack', most: 40_000 },
  ])('are cut to what $kind takes, but not the command', ({ kind, most }) => {
    const [first = '', command = ''] = [text.split('\n')[0], text.split('\n')[2]];
    const said = JSON.parse(JSON.stringify(messageBody(kind, { ...input, text: '空间不足<'.repeat(20_000) }))) as {
      text?: string | { content: string };
      content?: { text: string };
    };
    const content = typeof said.text === 'string' ? said.text : (said.text?.content ?? said.content?.text ?? '');

    expect(Buffer.byteLength(content)).toBeLessThanOrEqual(most);
    expect(Buffer.byteLength(content)).toBeGreaterThan(most / 4);
    expect(content.startsWith(`${first}\n空间`)).toBe(true);
    expect(content.endsWith(`…\n${command}`)).toBe(true);
    expect(content).not.toContain('\ufffd');
  });

  it.each<{ kind: NotifyKind; answer: string }>([
    { kind: 'dingtalk', answer: '{"errcode":130101,"errmsg":"send too fast"}' },
    { kind: 'wecom', answer: '{"errcode":45009,"errmsg":"api freq out of limit"}' },
    { kind: 'feishu', answer: '{"code":11232,"msg":"frequency limited"}' },
  ])('are tried again when $kind had too many in this minute', async ({ kind, answer }) => {
    answers = [{ status: 200, body: answer }];

    expect(await activities(kind).notify(input)).toEqual({ delivered: ['team'], failed: [] });
    expect(seen).toHaveLength(2);
  });

  it('are signed as DingTalk and Feishu demand it', () => {
    const key = 'SECabc';
    const now = 1_700_000_000_123;
    const [ding, feishu] = [
      signed({ kind: 'dingtalk', url: 'https://example.org/robot/send?access_token=t', signingKey: key }, {}, now),
      signed({ kind: 'feishu', url: 'https://example.org/hook/t', signingKey: key }, { msg_type: 'text' }, now),
    ];
    const { searchParams } = new URL(ding.url);

    // Computed with openssl dgst -sha256 -hmac.
    expect(searchParams.get('access_token')).toBe('t');
    expect(searchParams.get('timestamp')).toBe('1700000000123');
    expect(searchParams.get('sign')).toBe('IqXBU/aLfwMA3S/tDcfRmHx5vWHw9Y1aOgFLBr1Ti9w=');
    expect(feishu).toEqual({
      url: 'https://example.org/hook/t',
      body: { timestamp: '1700000000', sign: 'XprR1de+0SSBnwWyU/4k6x2TL+Q2SJlM5NNEdAv7MWg=', msg_type: 'text' },
    });
  });

  it('take the key that signs from behind the address, where it means something', () => {
    const dingtalk = parseTarget('dingtalk:https://example.org/x?access_token=t#SECabc\n');

    expect(dingtalk).toEqual({ kind: 'dingtalk', url: 'https://example.org/x?access_token=t', signingKey: 'SECabc' });
    expect(() => parseTarget('slack:https://example.org/x#SECabc')).toThrow(/signs messages to dingtalk and feishu/);
    expect(() => parseTarget('feishu:https://example.org/x#')).toThrow(/signs messages/);
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
