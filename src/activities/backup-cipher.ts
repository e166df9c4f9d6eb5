import type { DecipherGCM } from 'node:crypto';
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';

/*
 * Format of an encrypted backup file: 8 bytes `FERRYGCM`, 12 bytes nonce, 16 bytes tag, ciphertext (AES-256-GCM). The file's name is
 * authenticated along, so that one file cannot be passed off as another.
 */
const magic = Buffer.from('FERRYGCM');
export const headLength = 36;

/** A 32-byte key from a file: raw, or as 64 hexadecimal digits or base64 in one line. Throws when it is none of these. */
export async function readKey(file: string): Promise<Buffer> {
  const content = await readFile(file);
  if (content.length === 32) return content;
  const text = content.toString('latin1').trim();
  const key = /^[0-9a-f]{64}$/i.test(text) ? Buffer.from(text, 'hex') : Buffer.from(text, 'base64');
  if (key.length !== 32) throw new Error(`${file} holds no 32-byte key (raw, hexadecimal or base64)`);
  return key;
}

export function encrypt(content: Buffer, key: Buffer, fileName: string): Buffer {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(fileName));
  const body = Buffer.concat([cipher.update(content), cipher.final()]);
  return Buffer.concat([magic, nonce, cipher.getAuthTag(), body]);
}

/** The same for content that does not fit into memory: the head goes first, without the tag, which comes with the end. */
export function createSealer(key: Buffer, fileName: string): Sealer {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(fileName));
  return {
    head: Buffer.concat([magic, nonce, Buffer.alloc(16)]),
    seal: (part) => cipher.update(part),
    end: () => {
      cipher.final();
      return { offset: 20, tag: cipher.getAuthTag() };
    },
  };
}

export interface Sealer {
  head: Buffer;
  seal(part: Buffer): Buffer;
  /** What belongs where in the head. */
  end(): { offset: number; tag: Buffer };
}

/** Throws when key, name or content do not belong together. */
export function decrypt(sealed: Buffer, key: Buffer, fileName: string): Buffer {
  const opener = createOpener(sealed.subarray(0, headLength), key, fileName);
  return Buffer.concat([opener.update(sealed.subarray(headLength)), opener.final()]);
}

/** The same for content that does not fit into memory: what comes out before its end has not proved itself. */
export function createOpener(head: Buffer, key: Buffer, fileName: string): DecipherGCM {
  if (!head.subarray(0, 8).equals(magic)) throw new Error(`${fileName} is not an encrypted backup`);
  return createDecipheriv('aes-256-gcm', key, head.subarray(8, 20))
    .setAAD(Buffer.from(fileName))
    .setAuthTag(head.subarray(20, headLength));
}
