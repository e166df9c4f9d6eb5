import { Command, InvalidArgumentError, Option } from 'commander';

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
      const { serveCodec } = await import('../codec-server.ts');
      await serveCodec(command.optsWithGlobals());
    });
}

function parseListen(text: string): { host: string; port: number } {
  const [, host = '', digits = ''] = /^\[?([^\]]+?)\]?:(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (host === '' || port > 65535) throw new InvalidArgumentError('HOST:PORT, e.g. 127.0.0.1:8234');
  return { host, port };
}
