import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { Client } from 'ssh2';
import { HostUnreachable } from './errors.ts';

export interface KnownHost {
  /** Patterns as written: names, `[name]:port`, wildcards, `!negated`, or one hashed entry `|1|salt|hash`. */
  patterns: string[];
  /** `ssh-ed25519 AAAA…` */
  key: string;
  revoked: boolean;
}

/** Lines of a known_hosts file; certificate authorities, comments and lines that cannot be understood are left out. */
export function parseKnownHosts(text: string): KnownHost[] {
  const entries: KnownHost[] = [];
  for (const line of text.split('\n')) {
    const words = line.trim().split(/\s+/);
    const marker = words[0]?.startsWith('@') === true ? words.shift() : undefined;
    const [patterns, type, base64] = words;
    if (patterns === undefined || patterns === '' || patterns.startsWith('#') || marker === '@cert-authority') continue;
    if (type === undefined || base64 === undefined || !isKey(type, base64)) continue;
    entries.push({ patterns: patterns.split(','), key: `${type} ${base64}`, revoked: marker === '@revoked' });
  }
  return entries;
}

/** Keys known for any of the names (host names or addresses) at a port, revoked ones left out, in the order of the file. */
export function lookUpHostKeys(entries: readonly KnownHost[], names: readonly string[], port = 22): string[] {
  const wanted = names.map((name) => (port === 22 ? name.toLowerCase() : `[${name.toLowerCase()}]:${port}`));
  const matching = entries.filter((entry) => wanted.some((name) => matches(entry.patterns, name)));
  const revoked = new Set(matching.filter((entry) => entry.revoked).map((entry) => entry.key));
  return [...new Set(matching.map((entry) => entry.key))].filter((key) => !revoked.has(key));
}

function matches(patterns: readonly string[], name: string): boolean {
  const negated = patterns.filter((pattern) => pattern.startsWith('!')).map((pattern) => pattern.slice(1));
  if (negated.some((pattern) => matchesPattern(pattern, name))) return false;
  return patterns.some((pattern) => !pattern.startsWith('!') && matchesPattern(pattern, name));
}

function matchesPattern(pattern: string, name: string): boolean {
  if (pattern.startsWith('|1|')) {
    const [, , salt, hash] = pattern.split('|');
    if (salt === undefined || hash === undefined) return false;
    const expected = createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest();
    const actual = Buffer.from(hash, 'base64');
    return actual.length === expected.length && timingSafeEqual(actual, expected);
  }
  const expression = pattern
    .toLowerCase()
    .replaceAll(/[.+^${}()|[\]\\]/g, String.raw`\$&`)
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${expression}$`).test(name);
}

function isKey(type: string, base64: string): boolean {
  if (!/^(ssh-|ecdsa-)[-a-z0-9@.]+$/.test(type) || !/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) return false;
  return keyType(Buffer.from(base64, 'base64')) === type;
}

/** Type that a public key blob states of itself, or undefined. */
export function keyType(blob: Buffer): string | undefined {
  if (blob.length < 4) return undefined;
  const length = blob.readUInt32BE(0);
  return length <= blob.length - 4 ? blob.subarray(4, 4 + length).toString('latin1') : undefined;
}

/** `SHA256:…` as ssh prints it, of a key `type base64`. */
export function fingerprint(key: string): string {
  const blob = Buffer.from(key.split(' ')[1] ?? '', 'base64');
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

/** Signature algorithms to offer so that the machine shows a key of this type. */
export function algorithmsOf(type: string): string[] {
  return type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type];
}

const scannedTypes = ['ssh-ed25519', 'ecdsa-sha2-nistp256', 'ssh-rsa'];

/**
 * The host keys that a machine shows now, `type base64`, without logging in. Somebody must compare them: they prove nothing yet.
 * Throws HostUnreachable.
 */
export async function fetchHostKeys(address: string, port = 22, timeout = 10_000): Promise<string[]> {
  const keys: string[] = [];
  let failure: Error | undefined;
  for (const type of scannedTypes) {
    try {
      const key = await fetchHostKey(address, port, type, timeout);
      if (key !== undefined) keys.push(key);
    } catch (error) {
      failure = error instanceof Error ? error : new Error(String(error));
      break;
    }
  }
  if (keys.length === 0)
    throw new HostUnreachable(address, failure?.message ?? 'it showed no host key', { cause: failure });
  return keys;
}

async function fetchHostKey(address: string, port: number, type: string, timeout: number): Promise<string | undefined> {
  const client = new Client();
  return new Promise((resolve, reject) => {
    let key: string | undefined;
    client.on('error', (error) => {
      // A machine without a key of this type ends the handshake; only a missing answer is a failure.
      if (key !== undefined || error.level === 'handshake' || error.level === 'protocol') resolve(key);
      else reject(error);
    });
    client.on('close', () => resolve(key));
    client.connect({
      host: address,
      port,
      username: 'ferry',
      readyTimeout: timeout,
      algorithms: { serverHostKey: algorithmsOf(type) as never },
      hostVerifier: (blob: Buffer) => {
        key = `${keyType(blob) ?? type} ${blob.toString('base64')}`;
        return false;
      },
    });
  }).finally(() => client.destroy()) as Promise<string | undefined>;
}
