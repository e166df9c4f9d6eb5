import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { createSealer } from '../../../src/activities/backup-cipher.ts';
import { openBackup } from '../../../src/client/open-backup.ts';

const directory = mkdtempSync(join(tmpdir(), 'ferry-open-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const key = randomBytes(32);
const keyFile = join(directory, 'backup.key');
writeFileSync(keyFile, key);
const content = randomBytes(5 * 1024 * 1024 + 7);
const digestOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
let sealed: string;
let plain: string;
let counter = 0;

/** As the snapshot of etcd is sealed: part after part, the tag at the end. */
beforeEach(() => {
  counter += 1;
  const name = `etcd-${counter}.db.aes`;
  sealed = join(directory, name);
  plain = join(directory, `etcd-${counter}.db`);
  const sealer = createSealer(key, name);
  const parts = [content.subarray(0, 4_000_000), content.subarray(4_000_000)].map((part) => sealer.seal(part));
  const head = Buffer.from(sealer.head);
  const { offset, tag } = sealer.end();
  tag.copy(head, offset);
  writeFileSync(sealed, Buffer.concat([head, ...parts]));
});

describe('an encrypted file of a backup', () => {
  it('opens beside itself, readable by its owner alone', async () => {
    expect(await openBackup(sealed, keyFile)).toBe(plain);
    expect(digestOf(readFileSync(plain))).toBe(digestOf(content));
    expect(statSync(plain).mode & 0o777).toBe(0o600);
  });

  it.each([
    ['one byte is another', () => writeFileSync(sealed, readFileSync(sealed).fill(1, 100, 101))],
    ['its end is missing', () => writeFileSync(sealed, readFileSync(sealed).subarray(0, -100))],
    ['it is no file of a backup', () => writeFileSync(sealed, 'something else')],
    ['the key is another', () => writeFileSync(keyFile, randomBytes(32))],
    [
      'it has another name',
      () => {
        renameSync(sealed, join(directory, 'other.db.aes'));
        sealed = join(directory, 'other.db.aes');
        plain = join(directory, 'other.db');
      },
    ],
  ])('leaves nothing behind where %s', async (_what, spoil) => {
    spoil();

    await expect(openBackup(sealed, keyFile)).rejects.toThrow(/does not open: .* nothing was written/);
    writeFileSync(keyFile, key);

    expect(existsSync(plain)).toBe(false);
    expect(existsSync(`${plain}.part`)).toBe(false);
  });

  it('overwrites nothing, and asks for the key that it needs', async () => {
    await expect(openBackup(sealed, undefined)).rejects.toMatchObject({ reason: 'usage' });
    await expect(openBackup(keyFile, keyFile)).rejects.toThrow(/is not encrypted/);
    writeFileSync(plain, 'mine');
    await expect(openBackup(sealed, keyFile)).rejects.toThrow(/exists already/);
    expect(readFileSync(plain, 'utf8')).toBe('mine');
  });
});
