import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { Payload, PayloadCodec } from '@temporalio/common';
import { z } from 'zod';
import { CodecError } from './errors.ts';

/* Temporal's remote codec: POST /encode and /decode take and answer {"payloads": [{"metadata": {name: base64}, "data": base64}]}. */

export interface CodecServerOptions {
  codec: PayloadCodec;
  /** Origins of the Web UIs that may ask, e.g. http://localhost:8233. */
  origins: readonly string[];
  /** When given, a request has to bring it: `Authorization: Bearer TOKEN`. */
  token?: string;
}

/** Larger than any message that Temporal takes, base64 and all. */
const largestBody = 16 * 1024 * 1024;

const base64 = z.base64();
const bodySchema = z.object({
  payloads: z.array(z.object({ metadata: z.record(z.string(), base64).nullish(), data: base64.nullish() })).default([]),
});

class Refused extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** Not yet listening. */
export function createCodecServer(options: CodecServerOptions): Server {
  const server = createServer((request, response) => {
    void answer(options, request, response);
  });
  server.requestTimeout = 30_000;
  return server;
}

async function answer(options: CodecServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    allowOrigin(options, request, response);
    if (request.method === 'OPTIONS') {
      response.writeHead(204).end();
      return;
    }
    authorize(options, request);
    const work = operationOf(options.codec, request);
    const { payloads } = parseBody(await readBody(request));
    const worked = await work(payloads.map(fromWire));
    reply(response, 200, { payloads: worked.map(toWire) });
  } catch (error) {
    if (error instanceof Refused) reply(response, error.code, { message: error.message });
    // Codec errors are made to be read; anything else may quote what it stumbled over.
    else if (error instanceof CodecError) reply(response, 400, { message: error.message });
    else reply(response, 500, { message: 'the codec failed' });
  }
}

/**
 * A browser sends the origin of the page along. Pages of others are refused outright, also when they came by a name that was made to
 * point here; programs send none.
 */
function allowOrigin({ origins }: CodecServerOptions, request: IncomingMessage, response: ServerResponse): void {
  response.setHeader('Vary', 'Origin');
  const { origin } = request.headers;
  if (origin === undefined) return;
  if (!origins.includes(origin)) throw new Refused(403, `pages of ${origin} may not ask here (--origin)`);
  response.setHeader('Access-Control-Allow-Origin', origin);
  response.setHeader('Access-Control-Allow-Credentials', 'true');
  if (request.method !== 'OPTIONS') return;
  response.setHeader('Access-Control-Allow-Methods', 'POST, OPTIONS');
  response.setHeader('Access-Control-Allow-Headers', 'Authorization, Content-Type, X-Namespace');
  response.setHeader('Access-Control-Max-Age', '600');
  // Asked for when a page from elsewhere in the network asks a server on the reader's own machine.
  response.setHeader('Access-Control-Allow-Private-Network', 'true');
}

function authorize({ token }: CodecServerOptions, request: IncomingMessage): void {
  if (token === undefined) return;
  // Digests have one length, so that the comparison tells nothing about the token's.
  const given = digest(request.headers.authorization ?? '');
  if (!timingSafeEqual(given, digest(`Bearer ${token}`)))
    throw new Refused(401, 'the bearer token is missing or wrong');
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function operationOf(codec: PayloadCodec, request: IncomingMessage): PayloadCodec['encode'] {
  const { pathname } = new URL(request.url ?? '/', 'http://codec');
  // Endpoints with a prefix, such as one per namespace, end in the same words.
  const name = pathname.slice(pathname.lastIndexOf('/') + 1);
  if (name !== 'encode' && name !== 'decode') throw new Refused(404, 'there are /encode and /decode');
  if (request.method !== 'POST') throw new Refused(405, 'only POST');
  return (payloads) => codec[name](payloads);
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > largestBody) throw new Refused(413, `more than ${largestBody} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function parseBody(text: string): z.infer<typeof bodySchema> {
  try {
    return bodySchema.parse(JSON.parse(text));
  } catch {
    throw new Refused(400, 'the body is not {"payloads": [...]} with base64 values');
  }
}

type WirePayload = z.infer<typeof bodySchema>['payloads'][number];

function fromWire({ metadata, data }: WirePayload): Payload {
  const entries = Object.entries(metadata ?? {}).map(([name, value]) => [name, Buffer.from(value, 'base64')]);
  return {
    metadata: Object.fromEntries(entries) as Record<string, Uint8Array>,
    data: Buffer.from(data ?? '', 'base64'),
  };
}

function toWire({ metadata, data }: Payload): WirePayload {
  return {
    metadata: Object.fromEntries(
      Object.entries(metadata ?? {}).map(([name, value]) => [name, Buffer.from(value).toString('base64')]),
    ),
    data: Buffer.from(data ?? []).toString('base64'),
  };
}

function reply(response: ServerResponse, code: number, body: object): void {
  response.writeHead(code, {
    'Content-Type': 'application/json',
    'Cache-Control': 'no-store',
    ...(code === 413 ? { Connection: 'close' } : {}),
  });
  response.end(JSON.stringify(body));
}
