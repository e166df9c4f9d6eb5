import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { decrypt, encrypt, readKey } from '../../../src/activities/backup-cipher.ts';

describe('encrypted backups', () => {
  const key = randomBytes(32);
  const content = Buffer.from('password: s3cret\n');

  it('come back with key and name', () => {
    const sealed = encrypt(content, key, 'a.aes');

    expect(sealed.includes('s3cret')).toBe(false);
    expect(decrypt(sealed, key, 'a.aes')).toEqual(content);
  });

  it.each([
    { what: 'another key', open: (sealed: Buffer) => decrypt(sealed, randomBytes(32), 'a.aes') },
    { what: 'another name', open: (sealed: Buffer) => decrypt(sealed, key, 'b.aes') },
    {
      what: 'a changed byte',
      open: (sealed: Buffer) => {
        sealed[sealed.length - 1] = (sealed.at(-1) ?? 0) ^ 1;
        return decrypt(sealed, key, 'a.aes');
      },
    },
    { what: 'a file that is none', open: () => decrypt(content, key, 'a.aes') },
  ])('are refused with $what', ({ open }) => {
    const sealed = encrypt(content, key, 'a.aes');

    expect(() => open(sealed)).toThrow();
  });

  it.each([
    { form: 'raw', bytes: key },
    { form: 'hexadecimal', bytes: Buffer.from(`${key.toString('hex')}\n`) },
    { form: 'base64', bytes: Buffer.from(`${key.toString('base64')}\n`) },
  ])('take a $form key', async ({ bytes }) => {
    const directory = await mkdtemp(join(tmpdir(), 'key-'));
    await writeFile(join(directory, 'key'), bytes);

    const read = await readKey(join(directory, 'key'));

    expect(read).toEqual(key);
    await rm(directory, { recursive: true });
  });
});
