import { describe, expect, it } from 'vitest';
import { ApiError } from '../../../src/activities/kubernetes-api.ts';
import { CliError } from '../../../src/client/errors.ts';
import { explainPlatform, knownHostsFiles } from '../../../src/client/platform.ts';
import { HostKeyMismatch, HostRefused, HostUnreachable } from '../../../src/hosts/errors.ts';

const coded = (code: string): Error => Object.assign(new Error('fetch failed'), { code });

describe('explainPlatform', () => {
  it.each<[string, Error, string, RegExp]>([
    ['no permission', new ApiError(403, 'Forbidden', 'secrets is forbidden'), 'refused', /answers 403: secrets/],
    ['a broken API', new ApiError(500, undefined, 'etcd'), 'failure', /answers 500/],
    [
      'no answer',
      new Error('fetch failed', { cause: coded('ECONNREFUSED') }),
      'unreachable',
      /does not answer \(ECONN/,
    ],
    ['a wrong certificate', coded('DEPTH_ZERO_SELF_SIGNED_CERT'), 'unreachable', /is not trusted/],
    ['a machine that is away', new HostUnreachable('old1', 'timeout'), 'unreachable', /old1 cannot be reached/],
    ['a machine that refuses', new HostRefused('old1', 'root'), 'unreachable', /does not let user root in/],
    ['another host key', new HostKeyMismatch('old1', '10.0.0.1', 'SHA256:a', []), 'unreachable', /showed the host key/],
  ])('says of %s what happened, and that nothing was changed', (_, error, reason, text) => {
    const explained = explainPlatform(error, 'https://10.0.0.1:6443');

    expect(explained).toBeInstanceOf(CliError);
    expect(explained).toMatchObject({ reason, message: expect.stringMatching(text) as string });
    expect((explained as CliError).message).toContain('nothing was changed');
    expect((explained as CliError).next).toBeDefined();
  });

  it('leaves alone what nobody foresaw, and what is explained already', () => {
    const bug = new TypeError('undefined is not a function');
    const known = new CliError('usage', 'no');

    expect(explainPlatform(bug, 's')).toBe(bug);
    expect(explainPlatform(known, 's')).toBe(known);
  });
});

describe('knownHostsFiles', () => {
  it('is the named file alone, or those of ssh', () => {
    expect(knownHostsFiles({ FERRY_KNOWN_HOSTS: '/lab/known_hosts' })).toEqual(['/lab/known_hosts']);
    expect(knownHostsFiles({})).toHaveLength(2);
  });
});
