import { createHash } from 'node:crypto';
import type { PodSocket } from './kubernetes-api.ts';

/** The server refused; the message is its own and holds no password. */
export class MysqlError extends Error {
  override readonly name = 'MysqlError';
}

interface Packet {
  sequence: number;
  body: Buffer;
}

/** Client capabilities: long password, connect with protocol 4.1, secure connection, plugin authentication. */
const capabilities = 0x00000001 | 0x00000200 | 0x00008000 | 0x00080000;

/**
 * One row of a query over a fresh connection of the MySQL protocol, as texts (null for NULL). Only what a probe needs: one user with
 * `mysql_native_password`, one statement, a small answer.
 */
export async function queryRow(
  socket: PodSocket,
  account: { user: string; password: string },
  statement: string,
): Promise<(string | null)[]> {
  const [greeting] = await readPackets(socket, (packets) => packets.length >= 1);
  if (greeting === undefined) throw new MysqlError('no greeting');
  refuseError(greeting);
  socket.write(frame(1, login(account, challengeOf(greeting.body))));
  let [answer] = await readPackets(socket, (packets) => packets.length >= 1);
  // The server asks for another plugin; the one it names must be the one we know.
  if (answer?.body[0] === 0xfe) {
    const end = answer.body.indexOf(0, 1);
    const plugin = answer.body.subarray(1, end).toString('latin1');
    if (plugin !== 'mysql_native_password') throw new MysqlError(`authentication by ${plugin} is not supported`);
    socket.write(frame(answer.sequence + 1, scramble(account.password, answer.body.subarray(end + 1, end + 21))));
    [answer] = await readPackets(socket, (packets) => packets.length >= 1);
  }
  if (answer === undefined) throw new MysqlError('no answer to the login');
  refuseError(answer);

  socket.write(frame(0, Buffer.concat([Buffer.from([0x03]), Buffer.from(statement)])));
  const packets = await readPackets(socket, (found) => found[0]?.body[0] === 0xff || found.filter(isEnd).length >= 2);
  const [first] = packets;
  if (first !== undefined) refuseError(first);
  const row = packets[packets.findIndex(isEnd) + 1];
  if (row === undefined || isEnd(row)) throw new MysqlError('the answer has no row');
  return texts(row.body);
}

function isEnd({ body }: Packet): boolean {
  return body[0] === 0xfe && body.length < 9;
}

function refuseError({ body }: Packet): void {
  if (body[0] !== 0xff) return;
  const text = body.subarray(3).toString('utf8');
  throw new MysqlError(text.startsWith('#') ? text.slice(6) : text);
}

async function readPackets(socket: PodSocket, isEnough: (packets: Packet[]) => boolean): Promise<Packet[]> {
  const bytes = await socket.read((received) => isEnough(split(received)));
  return split(bytes);
}

function split(bytes: Buffer): Packet[] {
  const packets: Packet[] = [];
  let at = 0;
  while (at + 4 <= bytes.length) {
    const length = bytes.readUIntLE(at, 3);
    if (at + 4 + length > bytes.length) break;
    packets.push({ sequence: bytes[at + 3] ?? 0, body: bytes.subarray(at + 4, at + 4 + length) });
    at += 4 + length;
  }
  return packets;
}

function frame(sequence: number, body: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head.writeUIntLE(body.length, 0, 3);
  head[3] = sequence & 0xff;
  return Buffer.concat([head, body]);
}

/** The 20 bytes the password is mixed with: 8 after version and thread id, 12 after capabilities and filler. */
function challengeOf(greeting: Buffer): Buffer {
  const version = greeting.indexOf(0, 1);
  const first = version + 5;
  const second = first + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10;
  return Buffer.concat([greeting.subarray(first, first + 8), greeting.subarray(second, second + 12)]);
}

function login({ user, password }: { user: string; password: string }, challenge: Buffer): Buffer {
  const head = Buffer.alloc(32);
  head.writeUInt32LE(capabilities, 0);
  head.writeUInt32LE(1 << 24, 4);
  head[8] = 45;
  const secret = scramble(password, challenge);
  return Buffer.concat([
    head,
    Buffer.from(`${user}\0`),
    Buffer.from([secret.length]),
    secret,
    Buffer.from('mysql_native_password\0'),
  ]);
}

function sha1(...parts: Buffer[]): Buffer {
  const hash = createHash('sha1');
  parts.forEach((part) => hash.update(part));
  return hash.digest();
}

function scramble(password: string, challenge: Buffer): Buffer {
  if (password === '') return Buffer.alloc(0);
  const once = sha1(Buffer.from(password));
  const mask = sha1(challenge, sha1(once));
  return Buffer.from(once.map((byte, index) => byte ^ (mask[index] ?? 0)));
}

function texts(body: Buffer): (string | null)[] {
  const values: (string | null)[] = [];
  let at = 0;
  while (at < body.length) {
    const marker = body[at] ?? 0;
    at += 1;
    if (marker === 0xfb) {
      values.push(null);
      continue;
    }
    let length = marker;
    if (marker === 0xfc) length = body.readUInt16LE(at);
    if (marker === 0xfd) length = body.readUIntLE(at, 3);
    at += marker === 0xfc ? 2 : marker === 0xfd ? 3 : 0;
    values.push(body.subarray(at, at + length).toString('utf8'));
    at += length;
  }
  return values;
}
