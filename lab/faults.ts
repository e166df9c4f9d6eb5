import { readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  awaitSsh,
  block,
  crashMachine,
  hostNamed,
  limitRate,
  linkDown,
  linkUp,
  onMachine,
  startMachine,
  stopMachine,
  unblock,
} from './machines/machines.ts';
import { allHosts, files, labState, machineState } from './paths.ts';
import { inLab } from './process.ts';

async function restart(name: string | undefined): Promise<void> {
  const host = hostNamed(name);
  await linkUp(host.name);
  await startMachine(host);
  await awaitSsh(host);
}

/** Merges switches into the file that the stand-in for proton-cli reads on every old machine. */
async function setSwitches(switches: Record<string, unknown>): Promise<void> {
  const script = `mkdir -p /etc/lab; /opt/node/bin/node -e '
    const fs = require("fs"), file = "/etc/lab/proton-cli.json";
    const before = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, "utf8")) : {};
    fs.writeFileSync(file, JSON.stringify({ ...before, ...JSON.parse(fs.readFileSync(0, "utf8")) }));'`;
  for (const host of allHosts) {
    await onMachine(host, script, { input: JSON.stringify(switches) });
  }
}

/** A process of a master's machine, by how its command line begins; the platform's own etcd begins otherwise. */
const memberOfEtcd = '^etcd .*--data-dir=';
const apiServer = '^kube-apiserver ';

async function stallApi(seconds = '3'): Promise<void> {
  if (readFileSync(files.controlPlane, 'utf8') === 'beside') {
    const pid = join(labState, 'control-plane', 'apiserver.pid');
    await inLab(['sh', '-c', 'kill -STOP $(cat "$1"); sleep "$2"; kill -CONT $(cat "$1")', 'sh', pid, seconds]);
    return;
  }
  const script = `pkill -STOP -f '${apiServer}' && { sleep ${Number(seconds)}; pkill -CONT -f '${apiServer}'; }`;
  // machines that are off or no masters have none to stop
  await Promise.all(allHosts.map((host) => onMachine(host, script, { allowFailure: true })));
}

async function signalEtcd(name: string | undefined, signal: 'STOP' | 'CONT' | 'KILL'): Promise<void> {
  const { code } = await onMachine(hostNamed(name), `pkill -${signal} -f '${memberOfEtcd}'`, { allowFailure: true });
  if (code !== 0) throw new Error(`no member of etcd runs on ${name ?? ''}`);
}

const dataDisk = '/sysvol/proton_data';

/** A file system with next to no room takes the place of a directory that holds nothing yet: what it holds would be hidden. */
async function fillDisk(name: string | undefined, directory: string): Promise<void> {
  const host = hostNamed(name);
  const { stdout } = await onMachine(host, `find '${directory}' -type f 2>/dev/null | head -n 1`);
  if (stdout.trim() !== '') throw new Error(`${host.name} holds data already: ${stdout.trim()}`);
  await onMachine(host, `mkdir -p '${directory}' && mount -t tmpfs -o size=1m,mode=700 lab-full '${directory}'`);
}

/** Faults by name; each takes its arguments as words. */
export const faults: Record<string, (args: string[]) => Promise<unknown>> = {
  cut: ([name]) => linkDown(hostNamed(name).name),
  heal: ([name]) => linkUp(hostNamed(name).name),
  block: ([at, from]) => block(hostNamed(at).name, hostNamed(from)),
  unblock: ([at]) => unblock(hostNamed(at).name),
  rate: ([name, megabits]) => limitRate(hostNamed(name).name, megabits ?? '100'),
  norate: ([name]) => limitRate(hostNamed(name).name, undefined),
  crash: ([name]) => crashMachine(hostNamed(name).name),
  stop: ([name]) => stopMachine(hostNamed(name).name),
  start: ([name]) => restart(name),
  hold: ([name]) => writeFile(join(machineState(hostNamed(name).name), 'hold'), ''),
  unhold: ([name]) => rm(join(machineState(hostNamed(name).name), 'hold'), { force: true }),
  'kill-rsync': ([name]) => onMachine(hostNamed(name), 'pkill -KILL -x rsync', { allowFailure: true }),
  fill: ([name, path = '/small']) =>
    onMachine(hostNamed(name), `dd if=/dev/zero of='${path}/.lab-fill' bs=1M status=none`, { allowFailure: true }),
  unfill: ([name, path = '/small']) => onMachine(hostNamed(name), `rm -f '${path}/.lab-fill'`),
  'apply-flake': ([times = '1']) => setSwitches({ flakeFirstRemovals: Number(times) }),
  'apply-switches': ([json = '{}']) => setSwitches(JSON.parse(json) as Record<string, unknown>),
  'api-stall': ([seconds]) => stallApi(seconds),
  'kill-etcd': ([name]) => signalEtcd(name, 'KILL'),
  'freeze-etcd': ([name]) => signalEtcd(name, 'STOP'),
  'thaw-etcd': ([name]) => signalEtcd(name, 'CONT'),
  'fill-disk': ([name, directory = dataDisk]) => fillDisk(name, directory),
  'unfill-disk': ([name, directory = dataDisk]) => onMachine(hostNamed(name), `umount '${directory}'`),
};
