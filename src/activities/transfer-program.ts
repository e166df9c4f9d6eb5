import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, constants, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import type { HostConnection } from '../hosts/contract.ts';
import type { ReplicateInput } from '../plan/replicate.ts';
import { errorText, needsHuman } from './failures.ts';
import { parseFields, runScript, tryScript } from './host-script.ts';
import type { RsyncFacts, TreeFacts } from './rsync-options.ts';
import { CopyRefused, oldestRsync, parseRsyncVersion, whyUseless } from './rsync-options.ts';
import type { TransferNames } from './transfer-names.ts';
import type { EndProbe } from './transfer-probe.ts';

const run = promisify(execFile);

interface ProgramFile {
  name: string;
  content: Buffer;
  mode: number;
}

/** rsync of the worker's machine with everything that it needs to run on another one: libraries and their loader. */
export interface Program {
  facts: RsyncFacts;
  /** What `uname -m` says where it runs. */
  machine: string;
  /** The file `sums` vouches for all others. */
  files: ProgramFile[];
  sumsDigest: string;
}

/** Directory of a brought program on a machine. It goes with the directory of the transfer: at its end, on abort, when it is swept. */
export function programDirectory(names: Pick<TransferNames, 'directory'>): string {
  return `${names.directory}/program`;
}

const untouched = 'source and destination are as they were';

/** The rsync that a request allows to be brought, or undefined when it allows none. */
export async function programOf(request: ReplicateInput): Promise<Program | undefined> {
  if (request.bringRsync === undefined) return undefined;
  try {
    return await packProgram(request.bringRsync.program);
  } catch (error) {
    throw needsHuman({
      what: `no rsync can be brought along for ${request.transfer.id}`,
      cause: errorText(error),
      untouched,
      next: "install rsync on the worker's machine or name a program in bringRsync; without bringRsync the copy goes through tar",
    });
  }
}

/** Reads rsync of this machine, by its path or as the shell finds it. */
export async function packProgram(path?: string): Promise<Program> {
  const program = path ?? (await found('rsync'));
  const content = await readFile(program);
  const machine = machineOf(content);
  if (machine === undefined) throw new TypeError(`${program} is no program of Linux`);
  const facts = parseRsyncVersion((await run(program, ['--version'], { timeout: 30_000 })).stdout);
  if (facts === undefined) throw new TypeError(`${program} is no rsync`);
  const files = await filesOf(program, content);
  const sums = Buffer.from(files.map((file) => `${sha256(file.content)}  ${file.name}\n`).join(''));
  return {
    facts,
    machine,
    files: [...files, { name: 'sums', content: sums, mode: 0o600 }],
    sumsDigest: sha256(sums),
  };
}

function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

async function found(name: string): Promise<string> {
  for (const directory of (process.env['PATH'] ?? '').split(':').concat('/usr/bin', '/usr/local/bin')) {
    const file = join(directory, name);
    if (
      await access(file, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return file;
  }
  throw new TypeError(`there is no ${name} on the worker's machine`);
}

/**
 * Loader and libraries travel as well: the other machine may have others, older ones or none. The loader bears the name of the program,
 * so that lists of processes show it.
 */
async function filesOf(program: string, content: Buffer): Promise<ProgramFile[]> {
  const listed = await run('ldd', [program], { timeout: 30_000, env: { PATH: process.env['PATH'], LC_ALL: 'C' } }).then(
    ({ stdout }) => stdout,
    () => '',
  );
  const { loader, libraries } = parseLibraries(listed);
  if (loader === undefined) return [{ name: 'rsync', content, mode: 0o700 }];
  const wrapper = '#!/bin/sh\nd=${0%/*}\nexec "$d/lib/rsync" --library-path "$d/lib" "$d/lib/rsync.program" "$@"\n';
  return [
    { name: 'rsync', content: Buffer.from(wrapper), mode: 0o700 },
    { name: 'lib/rsync', content: await readFile(loader), mode: 0o700 },
    { name: 'lib/rsync.program', content, mode: 0o700 },
    ...(await Promise.all(
      libraries.map(async ({ name, file }) => ({ name: `lib/${name}`, content: await readFile(file), mode: 0o600 })),
    )),
  ];
}

/** What `ldd` says. No loader: the program is static. */
export function parseLibraries(text: string): { loader?: string; libraries: { name: string; file: string }[] } {
  let loader: string | undefined;
  const libraries: { name: string; file: string }[] = [];
  for (const line of text.split('\n')) {
    const missing = /^\s*(\S+) => not found/.exec(line);
    if (missing !== null) throw new TypeError(`the library ${missing[1] ?? ''} is missing on the worker's machine`);
    const named = /^\s*([\w.+-]+) => (\/\S+) \(0x/.exec(line);
    const plain = /^\s*(\/\S+) \(0x/.exec(line);
    if (named !== null) libraries.push({ name: named[1] ?? '', file: named[2] ?? '' });
    else if (plain !== null) loader = plain[1];
  }
  if (loader === undefined) return { libraries: [] };
  // Some libraries ask for the loader by its own name.
  return { loader, libraries: [...libraries, { name: basename(loader), file: loader }] };
}

const machines: Record<number, string> = {
  22: 's390x',
  62: 'x86_64',
  183: 'aarch64',
  243: 'riscv64',
  258: 'loongarch64',
};

/** Machine that an ELF program is built for. */
function machineOf(content: Buffer): string | undefined {
  if (content.length < 20 || content.readUInt32BE(0) !== 0x7f454c46) return undefined;
  const isLittle = content[5] === 1;
  const code = isLittle ? content.readUInt16LE(18) : content.readUInt16BE(18);
  if (code === 21) return isLittle ? 'ppc64le' : 'ppc64';
  return machines[code] ?? `machine ${code}`;
}

const lookScript = String.raw`
echo "machine=$(uname -m)"
cd -- "$1" 2>/dev/null && [ "$(sha256sum <sums 2>/dev/null | cut -d' ' -f1)" = "$2" ] && sha256sum -c --quiet sums >/dev/null 2>&1 && echo whole=yes
:
`;

/**
 * Sees that the program is on a machine, whole, and runs there. Answers what it can do, or why it is of no use there; then nothing of
 * it stays.
 */
export async function layProgram(
  connection: HostConnection,
  names: TransferNames,
  program: Program,
): Promise<{ facts: RsyncFacts } | { why: string }> {
  const directory = programDirectory(names);
  const look = async (): Promise<Map<string, string>> =>
    parseFields(await runScript(connection, 'looking for the program', lookScript, [directory, program.sumsDigest]));
  const before = await look();
  const machine = before.get('machine') ?? '';
  if (machine !== program.machine) return { why: `it is built for ${program.machine}, the machine is ${machine}` };
  if (before.get('whole') !== 'yes') {
    const clean = 'umask 077; rm -rf -- "$1" && mkdir -p -- "$1/lib"';
    await runScript(connection, 'making room for the program', clean, [directory]);
    for (const file of program.files) {
      await connection.writeFile(`${directory}/${file.name}`, file.content, file.mode);
    }
    if ((await look()).get('whole') !== 'yes') {
      await removeProgram(connection, names);
      throw new TypeError(`rsync did not arrive whole on ${connection.host.name}`);
    }
  }
  const result = await tryScript(connection, 'exec "$1/rsync" --version', [directory], { timeout: 30_000 });
  const facts = result.code === 0 ? parseRsyncVersion(result.stdout) : undefined;
  if (facts !== undefined) return { facts };
  await removeProgram(connection, names);
  const said = result.stderr.trim().split('\n').at(-1) ?? '';
  return { why: `it does not run there: ${said === '' ? `exit code ${result.code ?? '?'}` : said.slice(0, 200)}` };
}

/** An end of a transfer and its machine. */
interface End {
  connection: HostConnection;
  probe: EndProbe;
}

export interface Brought {
  source: EndProbe;
  destination: EndProbe;
  brought: ('source' | 'destination')[];
  reasons: string[];
}

/** What is said of a machine that needs the program; undefined where its own rsync will do. */
export function whyLent(rsync: RsyncFacts | undefined, tree: Pick<TreeFacts, 'acls' | 'xattrs'>): string | undefined {
  if (rsync === undefined) return 'has none';
  const why = whyUseless(rsync, tree);
  return why === undefined ? undefined : `has rsync ${rsync.version}, which ${why}`;
}

/**
 * Lends the program to every end whose own rsync is missing or would lose something. One that cannot use it stays without, and the
 * reason says why; a copy that would lose something is refused.
 */
export async function bringProgram(
  program: Program | undefined,
  names: TransferNames,
  ends: { source: End; destination: End },
  sameHost: boolean,
  tree: Pick<TreeFacts, 'acls' | 'xattrs'>,
): Promise<Brought> {
  const result: Brought = {
    source: ends.source.probe,
    destination: ends.destination.probe,
    brought: [],
    reasons: [],
  };
  if (program === undefined) return result;
  for (const end of ['source', 'destination'] as const) {
    const { connection } = ends[end];
    const own = result[end].rsync;
    const lack = whyLent(own, tree);
    if (lack === undefined) continue;
    const laid = await layProgram(connection, names, program);
    if ('why' in laid) {
      const why = `the worker's rsync ${program.facts.version} is of no use on ${connection.host.name}: ${laid.why}`;
      if (own !== undefined) {
        throw new CopyRefused(
          `${connection.host.name} ${lack}, and ${why}`,
          `install a complete rsync ${oldestRsync} or later on ${connection.host.name}`,
        );
      }
      result.reasons.push(why);
      continue;
    }
    for (const each of sameHost ? (['source', 'destination'] as const) : [end]) {
      result[each] = { ...result[each], rsync: laid.facts };
    }
    result.brought.push(end);
    result.reasons.push(
      `rsync ${laid.facts.version} of the worker's machine lent to ${connection.host.name} until the end of the transfer: it ${lack}`,
    );
  }
  return result;
}

async function removeProgram(connection: HostConnection, names: TransferNames): Promise<void> {
  await runScript(connection, 'taking the program away', 'rm -rf -- "$1"', [programDirectory(names)]);
}

/** A transfer that rested may have lost its directory to a sweep, and the program with it: looked at before every pass. */
export async function renewProgram(
  connection: HostConnection,
  request: ReplicateInput,
  names: TransferNames,
): Promise<void> {
  const script = '"$1/rsync" --version >/dev/null 2>&1 && echo runs; :';
  const answer = await runScript(connection, 'looking for the program', script, [programDirectory(names)]);
  if (answer.includes('runs')) return;
  const program = await programOf(request);
  const laid =
    program === undefined ? { why: 'the request allows none any more' } : await layProgram(connection, names, program);
  if ('facts' in laid) return;
  throw needsHuman({
    what: `the rsync that was brought to ${connection.host.name} for ${request.transfer.id} is gone`,
    cause: laid.why,
    untouched: 'the source is untouched; the destination stays marked incomplete',
    next: 'start the copy again; it looks at both machines anew',
  });
}
