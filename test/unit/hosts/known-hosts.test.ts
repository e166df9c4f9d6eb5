import { createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { fingerprint, lookUpHostKeys, parseKnownHosts } from '../../../src/hosts/known-hosts.ts';

function key(type: string, fill: number): string {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(type.length);
  return `${type} ${Buffer.concat([head, Buffer.from(type), Buffer.alloc(32, fill)]).toString('base64')}`;
}
const first = key('ssh-ed25519', 1);
const second = key('ssh-ed25519', 2);
const rsa = key('ssh-rsa', 3);

function hashed(name: string): string {
  const salt = Buffer.alloc(20, 7);
  return `|1|${salt.toString('base64')}|${createHmac('sha1', salt).update(name).digest('base64')}`;
}

describe('known hosts', () => {
  it.each([
    ['by name', `old1,10.0.0.1 ${first}`, ['old1'], 22, [first]],
    ['by address', `old1,10.0.0.1 ${first} a comment`, ['10.0.0.1'], 22, [first]],
    ['in any case of letters', `OLD1 ${first}`, ['Old1'], 22, [first]],
    ['several keys in order', `old1 ${rsa}\nold1 ${first}`, ['old1'], 22, [rsa, first]],
    ['once', `old1 ${first}\n10.0.0.1 ${first}`, ['old1', '10.0.0.1'], 22, [first]],
    ['hashed', `${hashed('old1')} ${first}`, ['old1'], 22, [first]],
    ['at another port', `[old1]:2222 ${first}\nold1 ${second}`, ['old1'], 2222, [first]],
    ['with wildcards', `*.lab ${first}\nold? ${second}`, ['old1'], 22, [second]],
    ['not where negated', `*,!old1 ${first}`, ['old1'], 22, []],
    ['not when revoked', `old1 ${first}\n@revoked old1 ${first}`, ['old1'], 22, []],
    ['not an authority', `@cert-authority old1 ${first}`, ['old1'], 22, []],
    ['not a comment', `# old1 ${first}\n\n`, ['old1'], 22, []],
    ['not a key that lies about its type', `old1 ssh-rsa ${first.split(' ')[1] ?? ''}`, ['old1'], 22, []],
    ['not by a part of the name', `old1 ${first}`, ['old'], 22, []],
    ['not by a dot as wildcard', `a.b ${first}`, ['axb'], 22, []],
  ])('finds %s', (_title, text, names, port, expected) => {
    expect(lookUpHostKeys(parseKnownHosts(text), names, port)).toEqual(expected);
  });

  it('prints fingerprints as ssh does', () => {
    expect(fingerprint('ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f')).toMatch(
      /^SHA256:[A-Za-z0-9+/]{43}$/,
    );
  });
});
