import { once } from 'node:events';
import { createCodec } from '../codec/codec.ts';
import { readKeyRing, readPrivateFile } from '../codec/key-ring.ts';
import { createCodecServer } from '../codec/server.ts';
import type { GlobalOptions } from './connection.ts';
import { endSignal } from './end-signals.ts';
import { CliError } from './errors.ts';

interface CodecServerCommandOptions extends GlobalOptions {
  listen: { host: string; port: number };
  origin: string[];
  tokenFile?: string;
}

/** `ferry codec-server`. */
export async function serveCodec(options: CodecServerCommandOptions): Promise<void> {
  if (options.codecKeysFile === undefined) {
    throw new CliError(
      'usage',
      'a codec server needs the keys that it opens payloads with',
      'name the key ring: FERRY_CODEC_KEYS_FILE or --codec-keys-file',
    );
  }
  const { host, port } = options.listen;
  const isLocal = host === 'localhost' || host === '::1' || host.startsWith('127.');
  if (!isLocal && options.tokenFile === undefined) {
    throw new CliError(
      'usage',
      `on ${host} everybody in the network could read the payloads`,
      'name a token: --token-file FILE; or listen on 127.0.0.1',
    );
  }
  const token = options.tokenFile === undefined ? undefined : readToken(options.tokenFile);
  const server = createCodecServer({
    codec: createCodec(readKeyRing(options.codecKeysFile)),
    origins: options.origin.map((origin) => origin.replace(/\/$/, '')),
    ...(token === undefined ? {} : { token }),
  });
  server.listen(port, host);
  await once(server, 'listening').catch((error: unknown) => {
    const why = error instanceof Error ? error.message : String(error);
    throw new CliError(
      'failure',
      `the codec server cannot listen: ${why}`,
      'ferry codec-server --listen HOST:PORT',
      error,
    );
  });
  const address = server.address();
  const actual = typeof address === 'object' && address !== null ? address.port : port;
  if (options.quiet !== true) process.stderr.write(`Codec server at http://${host}:${actual}, /encode and /decode\n`);
  await endSignal();
  server.close();
  server.closeAllConnections();
}

function readToken(file: string): string {
  const token = readPrivateFile(file, 'the token of the codec server').trim();
  if (token.length >= 16) return token;
  throw new CliError('usage', `the token in ${file} is shorter than 16 characters`, `openssl rand -hex 32 > ${file}`);
}
