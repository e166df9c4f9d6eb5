import { randomBytes } from 'node:crypto';
import type { Payload } from '@temporalio/common';
import { defaultPayloadConverter } from '@temporalio/common';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createCodec, isSealed } from '../../../src/codec/codec.ts';
import type { KeyRing } from '../../../src/codec/key-ring.ts';

function ringOf(active: string, ids: readonly string[] = [active], keys = new Map<string, Buffer>()): KeyRing {
  for (const id of ids) if (!keys.has(id)) keys.set(id, randomBytes(32));
  return { active, keys: new Map(ids.map((id) => [id, keys.get(id)!])) };
}

const keys = new Map<string, Buffer>();
const old = ringOf('2026-01', ['2026-01'], keys);
const both = ringOf('2026-07', ['2026-01', '2026-07'], keys);
const young = ringOf('2026-07', ['2026-07'], keys);

async function seal(ring: KeyRing, value: unknown): Promise<Payload> {
  const [sealed] = await createCodec(ring).encode([defaultPayloadConverter.toPayload(value)]);
  return sealed!;
}

async function read(ring: KeyRing | undefined, payload: Payload): Promise<unknown> {
  const [opened] = await createCodec(ring).decode([payload]);
  return defaultPayloadConverter.fromPayload(opened!);
}

/** With one bit of the bytes turned. */
function flipped(bytes: Uint8Array, bit: number): Uint8Array {
  const changed = Uint8Array.from(bytes);
  const at = Math.floor(bit / 8) % bytes.length;
  changed[at] = changed[at]! ^ (1 << (bit % 8));
  return changed;
}

describe('the codec', () => {
  it('gives back whatever was sealed, metadata and all', async () => {
    const bytes = fc.uint8Array({ maxLength: 300 });
    const payload = fc.record({ metadata: fc.dictionary(fc.string(), bytes, { maxKeys: 5 }), data: bytes });
    await fc.assert(
      fc.asyncProperty(fc.array(payload, { maxLength: 4 }), async (payloads) => {
        const codec = createCodec(both);
        const sealed = await codec.encode(payloads);
        const opened = await codec.decode(sealed);

        expect(sealed.every(isSealed)).toBe(true);
        expect(opened.map(({ data }) => [...data!])).toEqual(payloads.map(({ data }) => [...data]));
        expect(
          opened.map(({ metadata }) => Object.entries(metadata!).map(([name, value]) => [name, ...value])),
        ).toEqual(payloads.map(({ metadata }) => Object.entries(metadata).map(([name, value]) => [name, ...value])));
      }),
      { numRuns: 50 },
    );
  });

  it('shows nothing of the content and never the same bytes twice', async () => {
    const text = 'very-telling-host-name';
    const [first, second] = [await seal(old, text), await seal(old, text)];

    expect(Buffer.from(first.data!).includes(text)).toBe(false);
    expect(Buffer.from(first.data!).equals(Buffer.from(second.data!))).toBe(false);
    expect(Buffer.from(first.metadata!['encryption-key-id']!).toString()).toBe('2026-01');
  });

  it('refuses a payload of which any bit was turned', async () => {
    const sealed = await seal(old, { host: 'new1' });
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: sealed.data!.length * 8 - 1 }), async (bit) => {
        const changed = { ...sealed, data: flipped(sealed.data!, bit) };
        await expect(read(old, changed)).rejects.toThrow('does not open');
      }),
      { numRuns: 60 },
    );
  });

  it.each([0, 11, 12, 27, 28])('refuses a payload cut off after %i bytes', async (length) => {
    const sealed = await seal(old, { host: 'new1' });
    await expect(read(old, { ...sealed, data: sealed.data!.subarray(0, length) })).rejects.toThrow('does not open');
  });

  it('refuses a payload that names another key than the one it was sealed with, even if the keys are the same', async () => {
    const same = randomBytes(32);
    const ring: KeyRing = {
      active: 'a',
      keys: new Map([
        ['a', same],
        ['b', same],
      ]),
    };
    const sealed = await seal(ring, 1);
    const renamed = { ...sealed, metadata: { ...sealed.metadata, 'encryption-key-id': Buffer.from('b') } };

    await expect(read(ring, renamed)).rejects.toThrow('does not open');
  });

  it.each([
    ['before the rotation reads its own', old, old, true],
    ['with both keys reads the old', old, both, true],
    ['with both keys reads the new', both, both, true],
    ['after it reads the new', both, young, true],
    ['that lost the old key cannot read the old', old, young, false],
    ['that does not have the new key yet cannot read the new', both, old, false],
  ] as const)('a ring %s', async (_name, writer, reader, works) => {
    const sealed = await seal(writer, 'hello');

    if (works) await expect(read(reader, sealed)).resolves.toBe('hello');
    else await expect(read(reader, sealed)).rejects.toThrow(`"${writer.active}", which is not in the key ring`);
  });

  it('tells a wrong key of the right name, and no key in what it says', async () => {
    const other = ringOf('2026-01');
    const error = await read(other, await seal(old, 'hello')).catch(String);

    expect(error).toContain('"2026-01"');
    expect(error).not.toContain(other.keys.get('2026-01')!.toString('base64'));
  });

  it('passes plain payloads as they are, with a ring and without', async () => {
    const plain = defaultPayloadConverter.toPayload('plain');

    expect(await createCodec(old).decode([plain])).toEqual([plain]);
    expect(await createCodec().encode([plain])).toEqual([plain]);
  });

  it('without a ring says which key is missing and where to name it', async () => {
    await expect(read(undefined, await seal(old, 1))).rejects.toThrow(
      /"2026-01", and no keys were given.*FERRY_CODEC_KEYS_FILE/,
    );
  });

  it('refuses what another program encrypted', async () => {
    const foreign = { metadata: { encoding: Buffer.from('binary/encrypted') }, data: randomBytes(40) };
    await expect(read(old, foreign)).rejects.toThrow('another program');
  });
});
