import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { Server } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createCodec } from '../../../src/codec/codec.ts';
import { createCodecServer } from '../../../src/codec/server.ts';

const ring = { active: 'a', keys: new Map([['a', Buffer.alloc(32, 1)]]) };
const ui = 'http://localhost:8233';
const token = 'a-token-that-nobody-guesses';

interface Wire {
  payloads: { metadata: Record<string, string>; data: string }[];
}

const plain: Wire = {
  payloads: [{ metadata: { encoding: base64('json/plain') }, data: base64('{"host":"old1"}') }],
};

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

async function listen(options: { token?: string } = {}): Promise<{ server: Server; url: string }> {
  const server = createCodecServer({ codec: createCodec(ring), origins: [ui], ...options });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

let open: Awaited<ReturnType<typeof listen>>;
let guarded: Awaited<ReturnType<typeof listen>>;
beforeAll(async () => {
  open = await listen();
  guarded = await listen({ token });
});
afterAll(() => {
  for (const { server } of [open, guarded]) server.close().closeAllConnections();
});

function post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers: { 'Content-Type': 'application/json', ...headers },
  });
}

describe('the codec server', () => {
  it('encodes and decodes as the protocol of remote codecs has it, below any prefix', async () => {
    const sealed = (await (await post(`${open.url}/encode`, plain)).json()) as Wire;
    const opened = await (await post(`${open.url}/some/namespace/decode`, sealed)).json();

    expect(sealed.payloads[0]?.metadata['encoding']).toBe(base64('binary/encrypted'));
    expect(opened).toEqual(plain);
  });

  it('lets the Web UI of the named origin in, before and with the request', async () => {
    const asked = await fetch(`${open.url}/decode`, {
      method: 'OPTIONS',
      headers: { Origin: ui, 'Access-Control-Request-Method': 'POST' },
    });
    const answered = await post(`${open.url}/decode`, plain, { Origin: ui, 'X-Namespace': 'default' });

    expect(asked.status).toBe(204);
    expect(asked.headers.get('access-control-allow-headers')).toMatch(/Authorization.*X-Namespace/);
    expect([asked, answered].map(({ headers }) => headers.get('access-control-allow-origin'))).toEqual([ui, ui]);
  });

  it.each(['http://evil.example', 'null', 'http://localhost:8233.evil.example'])(
    'turns the pages of %s away',
    async (origin) => {
      const answer = await post(`${open.url}/decode`, plain, { Origin: origin });

      expect(answer.status).toBe(403);
      expect(answer.headers.get('access-control-allow-origin')).toBeNull();
    },
  );

  it.each([
    ['without a token', {}, 401],
    ['with a wrong one', { Authorization: 'Bearer wrong' }, 401],
    ['with the token in another form', { Authorization: token }, 401],
    ['with the token', { Authorization: `Bearer ${token}` }, 200],
  ])('%s answers as it must', async (_name, headers, status) => {
    expect((await post(`${guarded.url}/decode`, plain, headers)).status).toBe(status);
  });

  it.each([
    ['/decode', '{', 400],
    ['/decode', '{"payloads":[{"data":"not base64!"}]}', 400],
    ['/elsewhere', '{}', 404],
    ['/decode', 'x'.repeat(16 * 1024 * 1024 + 1), 413],
  ])('refuses %s with a body it cannot take (%#)', async (path, body, status) => {
    expect((await post(`${open.url}${path}`, body)).status).toBe(status);
  });

  it('takes only POST', async () => {
    expect((await fetch(`${open.url}/decode`)).status).toBe(405);
  });

  it('names the key that is missing', async () => {
    const other = createCodec({ active: 'lost', keys: new Map([['lost', Buffer.alloc(32)]]) });
    const [sealed] = await other.encode([{ metadata: {}, data: new Uint8Array() }]);
    const wire = {
      payloads: [
        {
          metadata: Object.fromEntries(
            Object.entries(sealed!.metadata!).map(([name, value]) => [name, Buffer.from(value).toString('base64')]),
          ),
          data: Buffer.from(sealed!.data!).toString('base64'),
        },
      ],
    };
    const answer = await post(`${open.url}/decode`, wire);

    expect(answer.status).toBe(400);
    expect(await answer.text()).toContain('"lost\\"');
  });
});
