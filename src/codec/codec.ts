import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import type { Payload, PayloadCodec } from '@temporalio/common';
import { CodecError } from './errors.ts';
import type { KeyRing } from './key-ring.ts';

/*
 * A sealed payload has the encoding `binary/encrypted`, as other codecs of Temporal have it, and names cipher and key in its metadata.
 * Its data: 12 bytes nonce, 16 bytes tag, ciphertext (AES-256-GCM). Sealed is the whole payload with its own metadata:
 * 4 bytes length of the metadata, the metadata as JSON with values in base64, the data. The readable metadata is authenticated along.
 */
const encoding = 'binary/encrypted';
const cipherName = 'ferry-aes-256-gcm-1';
const nonceBytes = 12;
const tagBytes = 16;

/**
 * Seals payloads with the active key of the ring and opens them with any of its keys. What is not sealed passes as it is, so that a
 * history that began in plain text goes on. Without a ring nothing is sealed, and what is sealed is refused with the way to a key.
 */
export function createCodec(ring?: KeyRing): PayloadCodec {
  return {
    encode: (payloads) =>
      settled(() => payloads.map((payload) => (ring === undefined ? payload : seal(payload, ring)))),
    decode: (payloads) => settled(() => payloads.map((payload) => (isSealed(payload) ? open(payload, ring) : payload))),
  };
}

/** A throw inside of it is a rejection, as for any other codec. */
async function settled<T>(work: () => T): Promise<T> {
  return Promise.resolve().then(work);
}

export function isSealed(payload: Payload): boolean {
  return text(payload, 'encoding') === encoding;
}

function seal(payload: Payload, ring: KeyRing): Payload {
  const key = ring.keys.get(ring.active);
  if (key === undefined) throw new CodecError(`the active key ${ring.active} is not in the ring`, 'add it to the ring');
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(bound(ring.active));
  const body = Buffer.concat([cipher.update(pack(payload)), cipher.final()]);
  return {
    metadata: {
      encoding: Buffer.from(encoding),
      'encryption-cipher': Buffer.from(cipherName),
      'encryption-key-id': Buffer.from(ring.active),
    },
    data: Buffer.concat([nonce, cipher.getAuthTag(), body]),
  };
}

function open(payload: Payload, ring: KeyRing | undefined): Payload {
  const cipher = text(payload, 'encryption-cipher');
  if (cipher !== cipherName) {
    throw new CodecError(
      `a payload was encrypted by another program (cipher ${JSON.stringify(cipher ?? '')})`,
      "use this program's own task queue and codec",
    );
  }
  const id = text(payload, 'encryption-key-id') ?? '';
  const key = ring?.keys.get(id);
  if (key === undefined) {
    throw new CodecError(
      ring === undefined
        ? `a payload is encrypted with key ${JSON.stringify(id)}, and no keys were given`
        : `a payload is encrypted with key ${JSON.stringify(id)}, which is not in the key ring (it has ${[...ring.keys.keys()].join(', ')})`,
      ring === undefined
        ? 'name the key ring: FERRY_CODEC_KEYS_FILE or --codec-keys-file'
        : `add key ${JSON.stringify(id)} to the key ring again; it can go only when no history needs it any more`,
    );
  }
  const data = Buffer.from(payload.data ?? []);
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, data.subarray(0, nonceBytes), { authTagLength: tagBytes })
      .setAAD(bound(id))
      .setAuthTag(data.subarray(nonceBytes, nonceBytes + tagBytes));
    return unpack(Buffer.concat([decipher.update(data.subarray(nonceBytes + tagBytes)), decipher.final()]));
  } catch (error) {
    throw new CodecError(
      `a payload that names key ${JSON.stringify(id)} does not open with it: it was changed, or the key of that name is another one`,
      `compare key ${JSON.stringify(id)} with the key ring of whoever wrote it; if it is the same, the history was tampered with`,
      error,
    );
  }
}

/** What stands readable beside the ciphertext and must be what it was: another key id or cipher does not open. */
function bound(id: string): Buffer {
  return Buffer.from(JSON.stringify([encoding, cipherName, id]));
}

function pack({ metadata, data }: Payload): Buffer {
  const header = Buffer.from(
    JSON.stringify(
      Object.fromEntries(
        Object.entries(metadata ?? {}).map(([name, value]) => [name, Buffer.from(value).toString('base64')]),
      ),
    ),
  );
  const length = Buffer.alloc(4);
  length.writeUInt32BE(header.length);
  return Buffer.concat([length, header, data ?? Buffer.alloc(0)]);
}

function unpack(packed: Buffer): Payload {
  const end = 4 + packed.readUInt32BE(0);
  const header = JSON.parse(packed.subarray(4, end).toString()) as Record<string, string>;
  const metadata = Object.entries(header).map(([name, value]) => [name, bytes(Buffer.from(value, 'base64'))]);
  return { metadata: Object.fromEntries(metadata) as Record<string, Uint8Array>, data: bytes(packed.subarray(end)) };
}

/** Plain bytes of their own: the workflow sandbox and the converters take no view of a shared pool. */
function bytes(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer);
}

function text(payload: Payload, name: string): string | undefined {
  const value = payload.metadata?.[name];
  return value ? Buffer.from(value).toString() : undefined;
}
