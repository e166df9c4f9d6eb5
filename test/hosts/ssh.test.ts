import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { HostAddress, HostConnection, Hosts } from '../../src/hosts/contract.ts';
import { CommandTimedOut, HostKeyMismatch, HostRefused, HostUnreachable } from '../../src/hosts/errors.ts';
import { fetchHostKeys } from '../../src/hosts/known-hosts.ts';
import { createHosts } from '../../src/hosts/ssh.ts';
import { freshName, labHosts, machine } from './machines.ts';
import { generateKeyPairSync } from 'node:crypto';

describe('a connection to a machine', () => {
  let hosts: Hosts;
  let address: HostAddress;
  let old1: HostConnection;

  beforeAll(async () => {
    hosts = await labHosts();
    address = await machine('old1');
    old1 = await hosts.connect(address);
  });
  afterAll(async () => {
    await hosts.close();
  });

  it('answers output, errors and exit code of a command', async () => {
    const result = await old1.run(['sh', '-c', 'cat; echo "$1" >&2; exit 7', 'sh', "it's $HOME"], { input: 'in\n' });

    expect(result).toEqual({ code: 7, signal: null, stdout: 'in\n', stderr: "it's $HOME\n" });
  });

  it('tells the signal that ended a command', async () => {
    const result = await old1.run(['sh', '-c', 'kill -9 $$']);

    expect(result).toMatchObject({ code: null, signal: 'SIGKILL' });
  });

  it('passes environment and directory', async () => {
    const result = await old1.run(['sh', '-c', 'echo "$A:$PWD"'], { env: { A: 'x y' }, cwd: '/usr' });

    expect(result.stdout).toBe('x y:/usr\n');
  });

  it('keeps the beginning and the end of long output', async () => {
    const result = await old1.run(['sh', '-c', 'echo first; yes | head -c 3000000; echo last'], { maxOutput: 1000 });

    expect(result.stdout.length).toBe(1000);
    expect(result.stdout.startsWith('first\n')).toBe(true);
    expect(result.stdout.endsWith('last\n')).toBe(true);
  });

  it('ends the whole process group when the time is over', async () => {
    const mark = freshName('sleeper');

    await expect(
      old1.run(
        ['sh', '-c', 'sh -c "exec -a $0 sleep 1000" "$1" & bash -c "exec -a $0 sleep 1000" "$1"; :', 'sh', mark],
        {
          timeout: 500,
        },
      ),
    ).rejects.toThrow(CommandTimedOut);

    const left = await old1.run(['pgrep', '-fc', `^${mark} 1000`]);
    expect(left.stdout.trim()).toBe('0');
  });

  it('ends a group that ignores TERM', async () => {
    await expect(
      old1.run(['bash', '-c', 'trap "" TERM; exec -a stubborn-ferry sleep 1001'], { timeout: 300 }),
    ).rejects.toThrow(CommandTimedOut);

    const left = await old1.run(['pgrep', '-fc', '^stubborn-ferry 1001']);
    expect(left.stdout.trim()).toBe('0');
  });

  it('ends the command when the caller gives up', async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('no longer wanted')), 300);

    await expect(old1.run(['sleep', '1002'], { signal: controller.signal })).rejects.toThrow('no longer wanted');

    expect((await old1.run(['pgrep', '-fc', '^sleep 1002'])).stdout.trim()).toBe('0');
  });

  it('writes files whole, with their mode, and reads them back', async () => {
    const path = `/root/${freshName('file')} with 'quotes'`;
    const content = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 256));

    await old1.writeFile(path, content, 0o640);

    expect(await old1.readFile(path)).toEqual(content);
    expect((await old1.run(['stat', '-c', '%a', path])).stdout).toBe('640\n');
    expect((await old1.run(['sh', '-c', 'ls "$1".* 2>/dev/null; rm -f -- "$1"', 'sh', path])).stdout).toBe('');
    expect(await old1.readFile(path)).toBeUndefined();
  });

  it('runs more commands at once than one connection carries', async () => {
    const results = await Promise.all(
      Array.from({ length: 40 }, async (_, index) => old1.run(['sh', '-c', 'sleep 0.2; echo "$1"', 'sh', `${index}`])),
    );

    expect(results.map((result) => result.stdout)).toEqual(Array.from({ length: 40 }, (_, index) => `${index}\n`));
  });

  it('refuses a machine that shows another key than the pinned ones', async () => {
    const other = {
      ...address,
      hostKeys: [`ssh-ed25519 ${Buffer.from('\0\0\0\x0bssh-ed25519wrong').toString('base64')}`],
    };

    await expect(hosts.connect(other)).rejects.toThrow(HostKeyMismatch);
  });

  it('tells a refused login from a machine that is away', async () => {
    const stranger = createHosts({
      privateKey: generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({
        type: 'pkcs1',
        format: 'pem',
      }),
    });

    await expect(stranger.connect(address)).rejects.toThrow(HostRefused);
    await expect(hosts.connect({ ...address, name: 'gone', address: '10.77.0.199' })).rejects.toThrow(HostUnreachable);
    await stranger.close();
  });

  it('connects again after the connection was lost', async () => {
    await expect(old1.run(['sh', '-c', 'kill -9 $PPID; sleep 5'])).rejects.toThrow(HostUnreachable);

    expect((await old1.run(['echo', 'back'])).stdout).toBe('back\n');
  });

  it('sees the keys that a machine shows', async () => {
    expect(await fetchHostKeys(address.address)).toEqual(address.hostKeys);
  });
});
