import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseKeyRing, readKeyRing, readPrivateFile } from '../../../src/codec/key-ring.ts';

const directory = mkdtempSync(join(tmpdir(), 'ferry-ring-'));
afterAll(() => rmSync(directory, { recursive: true }));

const key = Buffer.alloc(32, 7).toString('base64');
const short = Buffer.alloc(31, 7).toString('base64');

function fileOf(mode: number, text = `{"active":"a","keys":{"a":"${key}"}}`): string {
  const file = join(directory, `ring-${mode.toString(8)}.json`);
  writeFileSync(file, text);
  chmodSync(file, mode);
  return file;
}

describe('a key ring file', () => {
  it.each([
    ['JSON', `{"active":"a","keys":{"a":"${key}"}}`],
    ['YAML', `active: a\nkeys:\n  a: ${key}\n`],
  ])('may be %s', (_name, text) => {
    expect(parseKeyRing(text, 'ring').keys.get('a')?.length).toBe(32);
  });

  it.each([
    ['a key of 31 bytes', `{"active":"a","keys":{"a":"${short}"}}`, 'keys.a: not 32 bytes'],
    ['a key that is not base64', `{"active":"a","keys":{"a":"${key.slice(0, -2)}!="}}`, 'keys.a: not 32 bytes'],
    ['an active key that is not there', `{"active":"b","keys":{"a":"${key}"}}`, 'active names "b"'],
    ['no active key', `{"keys":{"a":"${key}"}}`, 'active'],
    ['a strange id', `{"active":"a b","keys":{"a b":"${key}"}}`, 'not an id of at most 64'],
    ['an unknown field', `{"active":"a","keys":{"a":"${key}"},"also":1}`, 'also'],
    ['broken YAML', `active: a\nkeys: {a: ${key}`, 'neither JSON nor YAML'],
    ['a bare key', key, 'the file'],
    ['nothing', '', 'the file'],
  ])('with %s is refused, and no key stands in the message', (_name, text, message) => {
    const read = (): unknown => parseKeyRing(text, 'ring.json');

    expect(read).toThrow(message);
    expect(read).not.toThrow(key.slice(0, 12));
    expect(read).not.toThrow(short.slice(0, 12));
  });

  it.each([0o600, 0o400])('of mode %o is read', (mode) => {
    expect(readKeyRing(fileOf(mode)).active).toBe('a');
  });

  it.each([0o640, 0o604, 0o660, 0o644, 0o601])('of mode %o is refused with the command that helps', (mode) => {
    expect(() => readKeyRing(fileOf(mode))).toThrow(/others may read it .*chmod 600/);
  });

  it('is taken with the group right that shows the ACL of a systemd credential, and with no more', () => {
    const env = { CREDENTIALS_DIRECTORY: directory };

    expect(readPrivateFile(fileOf(0o440), 'keys', env)).toContain('active');
    expect(() => readPrivateFile(fileOf(0o444), 'keys', env)).toThrow('others may read it');
    expect(() => readPrivateFile(fileOf(0o440), 'keys', {})).toThrow('others may read it');
  });

  it('that does not exist is named', () => {
    expect(() => readKeyRing(join(directory, 'none'))).toThrow(/none, .*ENOENT/);
  });
});
