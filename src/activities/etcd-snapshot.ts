import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { z } from 'zod';
import type { HostConnection, Hosts } from '../hosts/contract.ts';
import type { Host, Plan } from '../plan/plan.ts';
import { createSealer } from './backup-cipher.ts';
import type { Evidence } from './contract.ts';
import { complaint, type Etcdctl } from './etcd-command.ts';
import { observeMembers } from './etcd-members.ts';
import { needsHuman, onHost, transient } from './failures.ts';
import { parseFields, runScript, tryScript } from './host-script.ts';
import { sha256 } from './platform-secrets.ts';
import { activityScope } from './polling.ts';
import { backupDirectory, loadKey } from './secrets.ts';
import { sshCommand } from './shell-words.ts';

export interface SnapshotDeps {
  hosts: Hosts;
  backup: Plan['backup'];
}

interface SnapshotInput {
  migration: string;
  via: Host[];
  backup: Partial<Plan['backup']>;
  again?: true;
}

type Snapshot = Evidence & {
  host: string;
  file: string;
  bytes: number;
  digest: string;
  revision: number;
  keys: number;
};

const untouched = 'the members of etcd and what is stored there; a snapshot only reads it';

/** `etcdutl snapshot status -w json`, and the same of older etcdctl. */
const statusSchema = z.object({ revision: z.int(), totalKey: z.int(), totalSize: z.int() });

export async function snapshotEtcd(deps: SnapshotDeps, input: SnapshotInput): Promise<Snapshot> {
  // Each of the two by itself: a plan that names a directory does not turn the worker's encryption off.
  const directory = input.backup.directory ?? deps.backup.directory;
  const keyFile = input.backup.keyFile ?? deps.backup.keyFile;
  const key = keyFile === undefined ? undefined : await loadKey(keyFile);
  const { members, asked } = await observeMembers(deps.hosts, input.via);
  const { connection } = asked;
  const { name: host } = connection.host;
  const member = members.find(({ name }) => name === host);
  if (member?.healthy !== true) {
    throw transient({
      what: `No snapshot of etcd can be taken on ${host}`,
      cause: member === undefined ? 'it is no member' : `its member ${member.trouble ?? 'is not healthy'}`,
      untouched,
      next: 'it is tried again by itself; if it stays so, repair this member',
    });
  }
  return onHost(host, untouched, async () => {
    const target = await backupDirectory(connection, directory, input.migration, input.again);
    // Inside its container the tool sees only the data directory.
    const base = asked.inContainer ? asked.setup.hostDataDirectory : target;
    const folder = `ferry-snapshot-${sha256(activityScope().token)
      .replace(/^sha256:/, '')
      .slice(0, 12)}`;
    const work = `${base}/${folder}`;
    await openFolder(connection, work, member.bytes ?? 0, target);
    try {
      const seen = asked.inContainer ? `${asked.setup.dataDirectory}/${folder}` : work;
      const { bytes, revision, keys, digest } = await take(asked, work, seen);
      const name = `etcd-${new Date().toISOString().replaceAll(/[:.]/g, '')}.db${key === undefined ? '' : '.aes'}`;
      const file = `${target}/${name}`;
      if (key === undefined) await keep(connection, `${work}/snapshot.db`, file, digest);
      else await keepSealed(connection, `${work}/snapshot.db`, file, { bytes, digest, key });
      return {
        changed: true,
        proof: `snapshot of etcd at revision ${revision}, ${keys} keys, ${bytes} bytes, in ${file} on ${host}, mode 0600, ${key === undefined ? 'as it is' : 'encrypted (AES-256-GCM)'}; checked by etcd's own tool and against the digest in it`,
        host,
        file,
        bytes,
        digest,
        revision,
        keys,
      };
    } finally {
      await connection.run(['rm', '-rf', '--', work], { timeout: 120_000 });
    }
  });
}

/** $1 folder, $2 bytes of the database, $3 where the snapshot goes. Twice the size: etcd's tool checks a copy, since older ones change what they check. */
const folderScript = `
rm -rf -- "$1" && mkdir -m 0700 -- "$1" || return 1
for d in "$1" "$3"; do
  free=$(df --output=avail --block-size=1 -- "$d" | tail -n 1 | tr -d ' ') || return 1
  if [ "$free" -lt $(($2 * 2 + 268435456)) ]; then echo "short=$d has $free bytes free, and the database has $2"; rmdir -- "$1"; return 0; fi
done`;

async function openFolder(connection: HostConnection, work: string, bytes: number, target: string): Promise<void> {
  const text = await runScript(connection, 'making room for a snapshot', folderScript, [work, `${bytes}`, target]);
  const short = parseFields(text).get('short');
  if (short === undefined) return;
  throw needsHuman({
    what: `There is no room for a snapshot of etcd on ${connection.host.name}`,
    cause: short,
    untouched,
    next: `make room there (${sshCommand(connection.host.name, ['df', '-h', posix.dirname(work), target])}), then: ferry resume`,
  });
}

/** $1 the snapshot: whether the SHA-256 that etcd appended to it fits. */
const appendedScript = `
size=$(wc -c <"$1") || return 1
[ $((size % 512)) -eq 32 ] || { echo 'state=no digest at its end'; return 0; }
written=$(tail -c 32 -- "$1" | od -An -tx1 -v | tr -d ' \\n')
found=$(head -c $((size - 32)) -- "$1" | sha256sum | cut -d ' ' -f 1)
if [ "$written" = "$found" ]; then echo 'state=fits'; else echo 'state=another digest at its end'; fi
echo "bytes=$size"
echo "digest=$(sha256sum <"$1" | cut -d ' ' -f 1)"`;

/** Saves into a folder that tool and host see each by its own path, and checks it. */
async function take(
  asked: Etcdctl,
  work: string,
  seen: string,
): Promise<{ bytes: number; revision: number; keys: number; digest: string }> {
  const { connection } = asked;
  const saved = await asked.run(['snapshot', 'save', `${seen}/snapshot.db`], { timeout: 400_000 });
  if (saved.code !== 0) throw unusable(connection, complaint(saved));
  await runScript(
    connection,
    'copying the snapshot',
    'cp --reflink=auto -- "$1" "$2"',
    [`${work}/snapshot.db`, `${work}/check.db`],
    { timeout: 300_000 },
  );
  const checked = await asked.runOnFiles(['snapshot', 'status', `${seen}/check.db`, '--write-out', 'json'], {
    timeout: 300_000,
  });
  if (checked.code !== 0) throw unusable(connection, complaint(checked));
  const { revision, totalKey } = statusSchema.parse(JSON.parse(checked.stdout));
  const fields = parseFields(
    await runScript(connection, 'checking the snapshot', appendedScript, [`${work}/snapshot.db`], { timeout: 300_000 }),
  );
  if (fields.get('state') !== 'fits') throw unusable(connection, fields.get('state') ?? 'its digest could not be read');
  if (revision < 1 || totalKey < 1) throw unusable(connection, 'it holds no keys');
  return {
    bytes: Number(fields.get('bytes')),
    revision,
    keys: totalKey,
    digest: `sha256:${fields.get('digest') ?? ''}`,
  };
}

function unusable(connection: HostConnection, cause: string): Error {
  return transient({
    what: `The snapshot of etcd on ${connection.host.name} is not usable`,
    cause,
    untouched,
    next: 'it is taken again by itself; if it stays so, look at the disk of this machine and the log of its etcd',
  });
}

/** $1 from, $2 to, $3 SHA-256. */
const keepScript = `
umask 077
mv -T -- "$1" "$2.part" && chmod 0600 "$2.part" && sync "$2.part" || return 1
[ "$(sha256sum <"$2.part" | cut -d ' ' -f 1)" = "$3" ] || return 3
mv -T -- "$2.part" "$2"`;

async function keep(connection: HostConnection, from: string, to: string, digest: string): Promise<void> {
  const args = [from, to, digest.replace(/^sha256:/, '')];
  const result = await tryScript(connection, keepScript, args, { timeout: 300_000 });
  if (result.code === 0) return;
  throw unusable(connection, result.code === 3 ? 'it does not read back as it was written' : complaint(result));
}

/** Bytes that go through the worker at a time: the key is here, and the snapshot may have gigabytes. */
const part = 4 * 1024 * 1024;

async function keepSealed(
  connection: HostConnection,
  from: string,
  to: string,
  { bytes, digest, key }: { bytes: number; digest: string; key: Buffer },
): Promise<void> {
  const sealer = createSealer(key, posix.basename(to));
  const file = `${to}.part`;
  const plain = createHash('sha256');
  const sealed = createHash('sha256');
  const append = async (content: Buffer): Promise<void> => {
    await runScriptWith(connection, 'umask 077; cat >>"$1"', [file], content);
  };
  await connection.writeFile(file, sealer.head, 0o600);
  for (let offset = 0; offset < bytes; offset += part) {
    const chunks: Buffer[] = [];
    const read = ['dd', `if=${from}`, `bs=${part}`, `skip=${offset / part}`, 'count=1', 'status=none'];
    await connection.run(read, { timeout: 120_000, maxOutput: 0, onStdout: (chunk) => chunks.push(chunk) });
    const content = Buffer.concat(chunks);
    plain.update(content);
    const piece = sealer.seal(content);
    sealed.update(piece);
    await append(piece);
    activityScope().heartbeat({
      waiting: `snapshot of etcd is encrypted: ${offset + content.length} of ${bytes} bytes`,
    });
  }
  const { offset, tag } = sealer.end();
  await runScriptWith(connection, 'dd of="$1" bs=1 seek="$2" conv=notrunc,fsync status=none', [file, `${offset}`], tag);
  const head = Buffer.from(sealer.head);
  tag.copy(head, offset);
  const script = `
[ "$(head -c "$2" -- "$1" | sha256sum | cut -d ' ' -f 1)" = "$3" ] || return 3
[ "$(tail -c +$(($2 + 1)) -- "$1" | sha256sum | cut -d ' ' -f 1)" = "$4" ] || return 3
mv -T -- "$1" "$5"`;
  const headDigest = createHash('sha256').update(head).digest('hex');
  const args = [file, `${head.length}`, headDigest, sealed.digest('hex'), to];
  const result = await tryScript(connection, script, args, { timeout: 300_000 });
  if (`sha256:${plain.digest('hex')}` === digest && result.code === 0) return;
  throw unusable(connection, 'encrypted, it does not read back as it was written');
}

/** Content goes through stdin, so the script cannot. */
async function runScriptWith(
  connection: HostConnection,
  script: string,
  args: readonly string[],
  input: Buffer,
): Promise<void> {
  const result = await connection.run(['sh', '-c', script, 'sh', ...args], { input, timeout: 120_000 });
  if (result.code !== 0) throw unusable(connection, complaint(result));
}
