import { request as httpRequest, type IncomingMessage } from 'node:http';
import { type RequestOptions as HttpsOptions, request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import type { KubeConfig } from '@kubernetes/client-node';

export interface Call {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path and query. */
  resource: string;
  headers: Record<string, string>;
  body?: string;
}

export interface Limits {
  /** Milliseconds until the connection stands, certificate included. */
  connect: number;
  /** Milliseconds until the whole answer is there, connecting included. */
  total: number;
  /** Ends it early; its reason is the error. */
  signal?: AbortSignal;
  /** Whether the process may end while this goes on. */
  background?: boolean;
  /** Hears every sign of life: the connection stands, bytes arrive. */
  onProgress?: () => void;
}

export interface Answer {
  status: number;
  contentType: string;
  text: string;
}

/** `sent` is false only where nothing of the request can have reached the server. */
export type Outcome = { answer: Answer } | { error: unknown; sent: boolean };

/** No answer within a limit, with the code that the network itself would give. */
export function noAnswer(what: string): Error {
  return Object.assign(new Error(what), { code: 'ETIMEDOUT' });
}

const unzip = promisify(gunzip);

/**
 * One request to one server, on a connection of its own: a connection that is kept may be dead without anybody knowing. Not a byte of the
 * request leaves before the server's certificate was accepted, so whatever fails until then has changed nothing.
 */
export async function send(config: KubeConfig, server: string, call: Call, limits: Limits): Promise<Outcome> {
  const options: HttpsOptions = {};
  await config.applyToHTTPSOptions(options);
  // The client's own agent remembers certificates that may have been renewed in their files; only the way through a proxy needs it.
  if (config.getCurrentCluster()?.proxyUrl === undefined) options.agent = false;
  const url = new URL(`${server}${call.resource}`);
  const open = url.protocol === 'http:' ? httpRequest : httpsRequest;
  let sent = false;
  return new Promise<Outcome>((resolve) => {
    const request = open(url, {
      ...options,
      method: call.method,
      headers: {
        ...(options.headers as Record<string, string> | undefined),
        ...call.headers,
        'accept-encoding': 'gzip',
        ...(call.body !== undefined && { 'content-length': String(Buffer.byteLength(call.body)) }),
      },
    });
    const late = (limit: number, what: string): NodeJS.Timeout => {
      const timer = setTimeout(
        () => request.destroy(noAnswer(`${what} by ${url.host} within ${limit / 1000} s`)),
        limit,
      );
      return limits.background === true ? timer.unref() : timer;
    };
    const connecting = late(limits.connect, 'no connection accepted');
    const whole = late(limits.total, 'no answer given');
    const giveUp = (): void => void request.destroy(limits.signal?.reason as Error);
    const end = (outcome: Outcome): void => {
      clearTimeout(connecting);
      clearTimeout(whole);
      limits.signal?.removeEventListener('abort', giveUp);
      resolve(outcome);
    };
    limits.signal?.addEventListener('abort', giveUp, { once: true });
    if (limits.signal?.aborted === true) giveUp();
    request.on('error', (error) => end({ error, sent }));
    request.on('socket', (socket) => {
      if (limits.background === true) socket.unref();
      whenOpen(socket, url.protocol === 'https:', () => {
        clearTimeout(connecting);
        limits.onProgress?.();
        if (request.destroyed) return;
        sent = true;
        request.end(call.body);
      });
    });
    request.on('response', (response) => {
      readAnswer(response, limits.onProgress).then(
        (answer) => end({ answer }),
        (error: unknown) => end({ error, sent: true }),
      );
    });
  });
}

function whenOpen(socket: Socket, encrypted: boolean, go: () => void): void {
  if (!encrypted) {
    if (socket.connecting) socket.once('connect', go);
    else go();
    return;
  }
  // A socket from a proxy's agent may have its handshake behind it.
  if (socket instanceof TLSSocket && socket.authorized) go();
  else socket.once('secureConnect', go);
}

async function readAnswer(response: IncomingMessage, onProgress: (() => void) | undefined): Promise<Answer> {
  onProgress?.();
  const chunks: Buffer[] = [];
  // An answer that breaks off throws here.
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    onProgress?.();
  }
  const bytes = Buffer.concat(chunks);
  const plain = response.headers['content-encoding'] === 'gzip' ? await unzip(bytes) : bytes;
  return {
    status: response.statusCode ?? 0,
    contentType: response.headers['content-type'] ?? '',
    text: plain.toString('utf8'),
  };
}
