/**
 * keeper.ts UP_PID [WHILE_PID] [UI_PORT FRONTEND_PORT]: holds a lab's namespaces. Ends with them when it is told to (TERM), when `lab up`
 * dies before the lab is ready, or when the process that the lab was made for ends. Whatever ends it, even SIGKILL, takes every machine
 * with it: the kernel kills the first process of the namespaces. What the kernel leaves (cgroups, state) a sweeper of its own removes.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, rmdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { files, labState, repository } from './paths.ts';
import { isAlive, pause, poll } from './process.ts';

function cgroupsOf(lab: string): string[] {
  const roots = ['/sys/fs/cgroup', ...readdirSync('/sys/fs/cgroup').map((name) => join('/sys/fs/cgroup', name))];
  return roots.flatMap((root) => {
    try {
      return readdirSync(root)
        .filter((name) => name.startsWith(`ferry-${lab}-`))
        .map((name) => join(root, name));
    } catch {
      return [];
    }
  });
}

function removeTree(directory: string): void {
  try {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.isDirectory()) removeTree(join(directory, entry.name));
    }
    rmdirSync(directory);
  } catch {
    // a process of it is still on its way out, or it is gone: the caller looks again
  }
}

/** Waits for the keeper's end, then removes what the kernel leaves behind. */
async function sweep(lab: number): Promise<void> {
  while (isAlive(lab)) await pause(250);
  for (let round = 0; round < 200 && cgroupsOf(String(lab)).length > 0; round++) {
    for (const directory of cgroupsOf(String(lab))) removeTree(directory);
    await pause(100);
  }
  rmSync(labState, { recursive: true, force: true });
}

/** Reaches a port of the lab from outside: sockets in the file system do not mind network namespaces. */
function relay(port: number, socket: string): void {
  createServer((outside) => {
    const inside = connect(socket);
    outside.pipe(inside).pipe(outside);
    const end = (): void => {
      outside.destroy();
      inside.destroy();
    };
    outside.on('error', end);
    inside.on('error', end);
  })
    .on('error', (error) => console.error(`port ${port} is not forwarded: ${error.message}`))
    .listen(port, '127.0.0.1');
}

async function keep(up: number, whilePid: number | undefined, ports: number[]): Promise<void> {
  mkdirSync(labState, { recursive: true });
  const started = join(labState, 'started');
  spawn(process.execPath, [import.meta.filename, 'sweep', String(process.pid)], {
    detached: true,
    stdio: 'ignore',
  }).unref();
  const script = join(repository, 'lab', 'machines', 'init.sh');
  const namespaces = [
    '--net',
    '--mount',
    '--pid',
    '--uts',
    '--fork',
    '--kill-child=KILL',
    '--mount-proc',
    '--propagation',
    'private',
  ];
  const argv = ['--pdeathsig', 'KILL', 'unshare', ...namespaces, 'bash', script, files.hosts, started];
  const child = spawn('setpriv', argv, { stdio: 'inherit' });
  child.once('exit', () => process.exit(0));
  process.once('SIGTERM', () => child.kill('SIGKILL'));
  process.once('SIGINT', () => child.kill('SIGKILL'));
  await poll('the namespaces', 10, () => Promise.resolve(existsSync(started)));
  const children = await readFile(`/proc/${child.pid ?? 0}/task/${child.pid ?? 0}/children`, 'utf8');
  writeFileSync(files.init, children.trim());
  const [ui, frontend] = ports;
  if (ui !== undefined) relay(ui, join(labState, 'ui.sock'));
  if (frontend !== undefined) relay(frontend, join(labState, 'frontend.sock'));
  for (;;) {
    await pause(250);
    const isOrphan = (whilePid !== undefined && !isAlive(whilePid)) || (!existsSync(files.ready) && !isAlive(up));
    if (isOrphan) child.kill('SIGKILL');
  }
}

const [first, ...rest] = process.argv.slice(2);
if (first === 'sweep') await sweep(Number(rest[0]));
else await keep(Number(first), rest[0] === '-' ? undefined : Number(rest[0]), rest.slice(1).map(Number));
