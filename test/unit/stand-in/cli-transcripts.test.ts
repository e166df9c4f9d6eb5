import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import {
  closedPort,
  makeCertificate,
  serveHttps,
  serveSilence,
  writeKubeconfig,
  type Listening,
} from './fake-kubernetes.ts';
import { recorded } from './fixtures.ts';

interface Transcript {
  name: string;
  command: string;
  exit: number;
  stdout: string;
  stderr: string;
  kube_api: string;
  file?: string | null;
  stdin?: string;
  recorded_config: string | null;
  dot_proton_cli_yaml?: { before: string | null; after: string | null };
  environment?: string;
}

const { cases, documents } = recorded<{ cases: Transcript[]; documents: Record<string, string> }>(
  'cli-transcripts.json',
);

const main = fileURLToPath(new URL('../../../lab/stand-ins/proton-cli/main.ts', import.meta.url));
const network = new URL('network.ts', import.meta.url).href;
const scratch = mkdtempSync(join(tmpdir(), 'stand-in-'));
const certificate = makeCertificate(scratch);
afterAll(() => rmSync(scratch, { recursive: true }));

/** Time limits of 3, 10 and 30 s are waited for ten times faster. */
const fast = 0.1;

function document(name: string): string {
  const found = documents[name];
  if (found === undefined) throw new Error(`no document ${name}`);
  return found;
}

/** The few objects that are asked for. */
function serve(config: string | null, delay: number): Promise<Listening> {
  return serveHttps(certificate, ({ url = '' }, response) => {
    const [, , , , namespace, kind, name] = url.split('/');
    const answer = (status: number, body: object): void => {
      const send = (): void => {
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(JSON.stringify(body));
      };
      if (delay > 0) setTimeout(send, delay);
      else send();
    };
    if (kind === undefined) {
      const isThere = ['proton', 'default', 'resource'].includes(namespace ?? '');
      answer(isThere ? 200 : 404, isThere ? {} : { message: `namespaces "${namespace}" not found` });
    } else if (namespace === 'proton' && name === 'proton-cli-config' && config !== null) {
      answer(200, { data: { ClusterConfiguration: Buffer.from(document(config)).toString('base64') } });
    } else answer(404, { message: `secrets "${name}" not found` });
  });
}

function api({ kube_api: state, recorded_config: config }: Transcript): Promise<Listening> | undefined {
  switch (state) {
    case 'reachable':
      return serve(config, 0);
    case 'answers 5 s late':
      return serve(config, 5000 * fast);
    case 'connection refused':
    // the test's own network lets nothing through to it
    case 'address does not answer':
    case 'packets dropped':
      return closedPort();
    case 'accepts the connection and never answers':
      return serveSilence();
    default:
      return undefined;
  }
}

interface Outcome {
  exit: number | null;
  stdout: string;
  stderr: string;
  dotfile: string | null;
}

async function run(given: Transcript): Promise<Outcome> {
  const directory = mkdtempSync(join(scratch, 'case-'));
  const [home, cwd] = [join(directory, 'home'), join(directory, 'cwd')];
  mkdirSync(join(home, '.kube'), { recursive: true });
  mkdirSync(cwd);
  if (given.name !== 'apply-no-service-package') mkdirSync(join(cwd, 'service-package', 'charts'), { recursive: true });
  if (typeof given.file === 'string') writeFileSync(join(cwd, 'config.yaml'), document(given.file));
  const dotfile = join(home, '.proton-cli.yaml');
  const before = given.dot_proton_cli_yaml?.before;
  if (typeof before === 'string') writeFileSync(dotfile, before);
  const server = await api(given);
  if (server !== undefined) writeKubeconfig(join(home, '.kube', 'config'), server.port, certificate);
  const isDropped = ['address does not answer', 'packets dropped'].includes(given.kube_api);
  const isTimed = isDropped || /late|never/.test(given.kube_api);
  const environment: Record<string, string> = {
    PATH: process.env['PATH'] ?? '',
    ...(given.environment === 'HOME not set' ? {} : { HOME: home }),
    ...(given.environment?.startsWith('KUBECONFIG') === true ? { KUBECONFIG: join(directory, 'kubeconfig') } : {}),
    ...(isDropped ? { TEST_DROPPED_PORT: String(server?.port) } : {}),
    ...(isTimed ? { TEST_TIME_SCALE: String(fast) } : {}),
  };
  const good = given.environment?.startsWith('KUBECONFIG') === true ? await serve(given.recorded_config, 0) : undefined;
  if (good !== undefined) writeKubeconfig(join(directory, 'kubeconfig'), good.port, certificate);
  const input = join(directory, 'stdin');
  writeFileSync(input, given.stdin === undefined ? '' : document(given.stdin));
  const descriptor = openSync(input, 'r');
  // a value may be empty: `apply -f `
  const [, ...words] = given.command.split(' ');
  const argv = given.command === 'proton-cli ' ? [] : words;
  const child = spawn(process.execPath, ['--import', network, main, ...argv], {
    cwd,
    env: environment,
    stdio: [descriptor, 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const exit = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  closeSync(descriptor);
  server?.close();
  good?.close();
  const said = { exit, stdout, stderr: stderr.replaceAll(cwd, '<cwd>') };
  return { ...said, dotfile: existsSync(dotfile) ? readFileSync(dotfile, 'utf8') : null };
}

/**
 * Times differ per run, and so does which node the firewall names; ports are the test's own. What the platform's HTTP client and
 * agents log at level debug, and the addresses of a crash, are not held against the stand-in.
 */
function normal(text: string): string {
  return text
    .replace(/^time=.* level=debug .* file= *(?!apply\.go)\S+\.go:\d+ .*\n/gm, '')
    .replace(/^time=\S+/gm, 'time=T')
    .replace(/10\.0\.0\.1[1-6](?=:9202)/g, '10.0.0.NN')
    .replace(/(proton-cs\.lb\.aishu\.cn|127\.0\.0\.1):\d+/g, '$1:PORT')
    .replace(/^(\[signal SIGSEGV: segmentation violation).*\]$/gm, '$1]')
    .replace(/^\[stack trace left out\]\n/gm, '');
}

/** Every recorded transcript; none is out of scope. */
describe('transcripts of the command line', () => {
  it('are all there', () => {
    expect(cases).toHaveLength(73);
  });

  it.concurrent.each(cases)(
    '$name',
    async (given) => {
      const outcome = await run(given);
      expect({ ...outcome, stderr: normal(outcome.stderr) }).toEqual({
        exit: given.exit,
        stdout: given.stdout,
        stderr: normal(given.stderr),
        dotfile: given.dot_proton_cli_yaml === undefined ? outcome.dotfile : given.dot_proton_cli_yaml.after,
      });
    },
    60_000,
  );
});
