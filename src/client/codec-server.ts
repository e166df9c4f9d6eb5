import { once } from 'node:events';
import { Command, InvalidArgumentError, Option } from 'commander';
import { createCodec } from '../codec/codec.ts';
import { readKeyRing, readPrivateFile } from '../codec/key-ring.ts';
import { createCodecServer } from '../codec/server.ts';
import type { GlobalOptions } from './connection.ts';
import { CliError } from './errors.ts';

interface CodecServerCommandOptions extends GlobalOptions {
  listen: { host: string; port: number };
  origin: string[];
  tokenFile?: string;
}

export function codecServerCommand(): Command {
  return new Command('codec-server')
    .description('lets the Web UI and the temporal CLI read encrypted payloads, for whoever may ask it')
    .addOption(
      new Option('--listen <host:port>', 'where to listen')
        .argParser(parseListen)
        .default(parseListen('127.0.0.1:8234'), '127.0.0.1:8234'),
    )
    .addOption(
      new Option('--origin <url...>', 'origin of a Web UI that may ask').default(
        ['http://localhost:8233', 'http://127.0.0.1:8233'],
        'those of ferry dev and of the compose file',
      ),
    )
    .addOption(
      new Option('--token-file <file>', 'file with a token that a request has to bring as its bearer token').env(
        'FERRY_CODEC_TOKEN_FILE',
      ),
    )
    .addHelpText(
      'after',
      `
Payloads are encrypted when worker and CLI have a key ring (--codec-keys-file or FERRY_CODEC_KEYS_FILE); this server opens them with the
same ring. In the Web UI set the codec endpoint (the glasses at the top) to its address. Beyond the own machine it wants a token, and a
proxy with TLS in front of it.

Examples:
  $ ferry codec-server --codec-keys-file ~/.config/ferry/codec-keys.json
  $ temporal workflow show --workflow-id migrate-site-a --codec-endpoint http://127.0.0.1:8234
  $ ferry codec-server --origin https://temporal.example.com --token-file codec-token`,
    )
    .action(async (_options, command: Command) => {
      await serve(command.optsWithGlobals<CodecServerCommandOptions>());
    });
}

function parseListen(text: string): { host: string; port: number } {
  const [, host = '', digits = ''] = /^\[?([^\]]+?)\]?:(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (host === '' || port > 65535) throw new InvalidArgumentError('HOST:PORT, e.g. 127.0.0.1:8234');
  return { host, port };
}

async function serve(options: CodecServerCommandOptions): Promise<void> {
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
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
  server.close();
  server.closeAllConnections();
}

function readToken(file: string): string {
  const token = readPrivateFile(file, 'the token of the codec server').trim();
  if (token.length >= 16) return token;
  throw new CliError('usage', `the token in ${file} is shorter than 16 characters`, `openssl rand -hex 32 > ${file}`);
}
