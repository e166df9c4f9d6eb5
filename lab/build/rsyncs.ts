import { copyFile, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../workloads/run.ts';

/** Releases of Debian whose rsync is another one than the machines', each without its security updates. */
const releases = [
  { codename: 'bullseye', packages: ['rsync', 'libssl1.1'] },
  { codename: 'bookworm', packages: ['rsync'] },
];

/**
 * rsync of other releases, by version: `3.2.7/rsync`, with the libraries that the machines do not have. From the mirror that this machine
 * uses anyway, through lists of its own. A release that the mirror keeps no longer is left out, and the tests say so.
 */
export async function fetchRsyncs(into: string, work: string): Promise<void> {
  await mkdir(into, { recursive: true });
  const mirror = await debianMirror();
  for (const { codename, packages } of releases) {
    const folder = join(work, codename);
    const apt = await ownLists(folder, `deb ${mirror} ${codename} main`);
    const updated = await run([...apt, 'update'], { allowFailure: true });
    if (updated.code !== 0) continue;
    await run([...apt, 'download', ...packages], { cwd: folder });
    const unpacked = join(folder, 'unpacked');
    for (const name of (await readdir(folder)).filter((file) => file.endsWith('.deb'))) {
      await run(['dpkg-deb', '-x', join(folder, name), unpacked]);
      const version = /^rsync_([0-9.]+)/.exec(name)?.[1];
      if (version === undefined) continue;
      await mkdir(join(into, version), { recursive: true });
      await copyFile(join(unpacked, 'usr', 'bin', 'rsync'), join(into, version, 'rsync'));
      await copyLibraries(unpacked, join(into, version));
    }
  }
  if ((await readdir(into)).length === 0) throw new Error(`${mirror} has no rsync of another release`);
}

/** Where this machine gets its packages. */
async function debianMirror(): Promise<string> {
  const argv = ['apt-get', 'indextargets', '--format', '$(REPO_URI) $(CODENAME)', 'Created-By: Packages'];
  const { stdout } = await run(argv);
  const [uri] = stdout.split('\n').flatMap((line) => /^(\S+) bookworm$/.exec(line)?.[1] ?? []);
  if (uri === undefined) throw new Error('apt of this machine has no list of bookworm');
  return uri;
}

/** apt that knows nothing of what is installed here. */
async function ownLists(folder: string, source: string): Promise<string[]> {
  await mkdir(join(folder, 'lists', 'partial'), { recursive: true });
  await mkdir(join(folder, 'cache', 'archives', 'partial'), { recursive: true });
  await writeFile(join(folder, 'sources.list'), `${source}\n`);
  await writeFile(join(folder, 'status'), '');
  const settings = [
    ['Dir::Etc::sourcelist', join(folder, 'sources.list')],
    ['Dir::Etc::sourceparts', '-'],
    ['Dir::State::lists', join(folder, 'lists')],
    ['Dir::State::status', join(folder, 'status')],
    ['Dir::Cache', join(folder, 'cache')],
    ['APT::Sandbox::User', 'root'],
  ];
  return ['apt-get', '-qq', ...settings.flatMap(([name = '', value = '']) => ['-o', `${name}=${value}`])];
}

async function copyLibraries(unpacked: string, into: string): Promise<void> {
  const { stdout } = await run(['find', unpacked, '-name', 'libcrypto.so.*', '-type', 'f']);
  for (const file of stdout.split('\n').filter(Boolean)) {
    await copyFile(file, join(into, file.slice(file.lastIndexOf('/') + 1)));
  }
}
