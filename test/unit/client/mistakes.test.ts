import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { utils } from 'ssh2';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { stringify } from 'yaml';
import { explain } from '../../../src/client/explain.ts';
import { readIdentity } from '../../../src/client/identity.ts';
import { main } from '../../../src/client/main.ts';
import { samplePlan } from '../plan/samples.ts';

const directory = mkdtempSync(join(tmpdir(), 'ferry-mistakes-'));
const inside = (name: string): string => join(directory, name);
const taken = createServer();

beforeAll(async () => {
  writeFileSync(inside('plain'), utils.generateKeyPairSync('ed25519').private);
  const encrypted = utils.generateKeyPairSync('ed25519', { passphrase: 'secret', cipher: 'aes256-ctr', rounds: 1 });
  writeFileSync(inside('encrypted'), encrypted.private);
  writeFileSync(inside('public'), encrypted.public);
  writeFileSync(inside('broken'), '-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n');
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
});

afterAll(() => {
  taken.close();
  rmSync(directory, { recursive: true, force: true });
});

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  process.exitCode = undefined;
});

/** One command line as people type it. */
async function ferry(
  args: readonly string[],
  kubeconfig = inside('no-kubeconfig'),
): Promise<{ code: number; stderr: string }> {
  vi.stubEnv('KUBECONFIG', kubeconfig);
  let stderr = '';
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
  const code = await main(args);
  return { code, stderr };
}

describe('a mistake on the command line', () => {
  const worker = ['worker', '--ssh-identity', inside('plain')];
  const port = (): number => (taken.address() as AddressInfo).port;

  it.each<[string, () => string[], number, RegExp]>([
    ['a directory as plan', () => ['check', directory], 2, /is a directory; nothing was done\nNext: .*path of a file/],
    ['a directory to seal', () => ['plan', '--seal', directory], 2, /is a directory/],
    ['a file as directory', () => ['start', inside('plain/plan.yaml')], 1, /a part of the path is no directory/],
    ['no such key ring', () => ['status', '--codec-keys-file', inside('nowhere')], 4, /the keys of the payloads/],
    ['no such plan', () => ['check', inside('nowhere')], 4, /no such file/],
    ['metrics nowhere', () => [...worker, '--metrics-address', 'nonsense'], 2, /an IP address and a port/],
    ['metrics at a name', () => [...worker, '--metrics-address', 'localhost:9464'], 2, /such as 127\.0\.0\.1:9464/],
    ['metrics at a high port', () => [...worker, '--metrics-address', '127.0.0.1:99999'], 2, /and a port/],
    ['metrics at a taken port', () => [...worker, '--metrics-address', `127.0.0.1:${port()}`], 1, /EADDRINUSE/],
    ['activities that are no number', () => [...worker, '--max-activities', 'abc'], 2, /a whole number, 1 or more/],
    ['no activities', () => [...worker, '--max-activities', '0'], 2, /a whole number, 1 or more/],
    ['an interval that is no number', () => ['watch', '--interval', 'abc'], 2, /a number of seconds/],
    ['a kubeconfig that is a directory', () => [...worker, '--kubeconfig', directory], 2, /kubeconfig cannot be used/],
    ['a directory as key', () => ['worker', '--ssh-identity', directory], 2, /is a directory/],
    ['a key that is not there', () => ['worker', '--ssh-identity', inside('nowhere')], 4, /no such private key/],
    ['a public key', () => ['worker', '--ssh-identity', inside('public')], 2, /is a public key/],
    ['a broken key', () => ['worker', '--ssh-identity', inside('broken')], 2, /no private key that ssh can use/],
    ['a kubeconfig that is not there', () => [...worker, '--kubeconfig', inside('x')], 4, /no such kubeconfig/],
    ['a plan that is none', () => ['start', inside('plain')], 2, /nothing was done[\s\S]*Next: correct it/],
    [
      'a value that is none',
      () => ['tune', '--limit', 'fast'],
      2,
      /ferry:.*whole number[\s\S]*Next: ferry tune --help/,
    ],
    ['a word that is no command', () => ['plann'], 2, /Did you mean[\s\S]*Nothing was done\.\nNext: ferry --help/],
    [
      'a gate that is nearly one',
      () => ['approve', 'open-downtim'],
      2,
      /choices are .*\n\(Did you mean open-downtime\?\)/,
    ],
    ['a schema that is nearly one', () => ['schema', 'aprove'], 2, /Did you mean approve\?\)[\s\S]*Next: ferry schema/],
    ['a schema like none', () => ['schema', 'foo'], 2, /Allowed choices are plan, copy, [^(]*\nNothing was done/],
    ['an encrypted key', () => ['worker', '--ssh-identity', inside('encrypted')], 2, /FERRY_SSH_PASSPHRASE/],
  ])('%s is told without a stack trace', async (_, args, expected, text) => {
    const { code, stderr } = await ferry(args());

    expect(stderr).toMatch(text);
    expect(stderr).not.toMatch(/^ {4}at /m);
    expect(stderr).not.toContain('should not have happened');
    expect(code).toBe(expected);
  });

  it.each(['EACCES', 'ENOTDIR', 'EROFS', 'ENOSPC', 'EADDRINUSE'])(
    '%s is explained, with and without a path',
    (code) => {
      const message = `${code}: what the system says`;
      const bare = explain(Object.assign(new Error(message), { code }));
      const named = explain(Object.assign(new Error(message), { code, path: '/some/file' }));

      expect(bare).toMatchObject({ reason: 'failure', message: expect.stringContaining(message) as string });
      expect(named).toMatchObject({ reason: 'failure', message: expect.stringMatching(/^\/some\/file: /) as string });
    },
  );
});

describe('a worker with means that cannot be used', () => {
  const kubeconfig = JSON.stringify({
    ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'a' },
    clusters: [{ name: 'a', cluster: { server: 'https://127.0.0.1:1' } }],
    contexts: [{ name: 'a', context: { cluster: 'a', user: 'a' } }],
    users: [{ name: 'a', user: {} }],
  });
  const worker = ['worker', '--ssh-identity', inside('plain'), '--address', '127.0.0.1:1'];

  beforeAll(() => {
    writeFileSync(inside('kubeconfig'), kubeconfig);
    writeFileSync(inside('open-kubeconfig'), kubeconfig.replace('https:', 'http:'));
    writeFileSync(inside('short-key'), 'x');
  });

  it.each<[string, string[], number, RegExp]>([
    ['no key for the backup', ['--backup-key-file', inside('nowhere')], 4, /the key of the backup[\s\S]*openssl rand/],
    ['a short key for the backup', ['--backup-key-file', inside('short-key')], 2, /no 32-byte key/],
    ['a server without TLS', ['--kubeconfig', inside('open-kubeconfig')], 2, /a server without TLS/],
  ])('%s is told before it runs', async (_, more, expected, text) => {
    const { code, stderr } = await ferry([...worker, '--kubeconfig', inside('kubeconfig'), ...more]);

    expect(stderr).toMatch(text);
    expect(code).toBe(expected);
  });

  it('is told of a target without its address', async () => {
    vi.stubEnv('FERRY_NOTIFY_ON_CALL', 'slak:https://hooks.example.com/s3cret');
    const { code, stderr } = await ferry([...worker, '--kubeconfig', inside('kubeconfig')]);

    expect(stderr).toContain('FERRY_NOTIFY_ON_CALL cannot be used: must be kind:url');
    expect(stderr).not.toContain('s3cret');
    expect(code).toBe(2);
  });
});

describe('a machine without any kubeconfig', () => {
  it.each([['diff', 'plan.yaml'], ['worker', '--ssh-identity', inside('plain')], ['break-glass']])(
    'ferry %s says so',
    async (...args) => {
      writeFileSync(inside('plan.yaml'), stringify(samplePlan()));
      vi.stubEnv('HOME', directory);
      const { code, stderr } = await ferry(
        args.map((word) => (word === 'plan.yaml' ? inside(word) : word)),
        '',
      );

      expect(stderr).toContain('ferry: there is no kubeconfig: KUBECONFIG is not set');
      expect(code).toBe(4);
    },
  );

  it('copies directories all the same', async () => {
    vi.stubEnv('HOME', directory);
    const words = ['worker', '--copies-only', '--ssh-identity', inside('plain'), '--address', '127.0.0.1:1'];
    const { code, stderr } = await ferry(words, '');

    expect(stderr).toContain('ferry: Temporal does not answer at 127.0.0.1:1');
    expect(code).toBe(6);
  });
});

describe('readIdentity', () => {
  it('opens an encrypted key with its passphrase, and says when it is the wrong one', () => {
    const file = inside('encrypted');

    expect(readIdentity(file, { FERRY_SSH_PASSPHRASE: 'secret' })).toMatchObject({ file, passphrase: 'secret' });
    expect(() => readIdentity(file, { FERRY_SSH_PASSPHRASE: 'wrong' })).toThrow(/FERRY_SSH_PASSPHRASE does not open/);
    expect(readIdentity(inside('plain'), {}).passphrase).toBeUndefined();
  });
});
