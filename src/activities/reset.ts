import type { HostConnection, Hosts } from '../hosts/contract.ts';
import type { Host } from '../plan/plan.ts';
import { isWithin } from '../plan/directories.ts';
import { criSocket, endContainers, findContainer } from './containers.ts';
import type { Evidence } from './contract.ts';
import type { Deadlines } from './deadlines.ts';
import { etcdManifest, EtcdUnavailable, readSetup } from './etcd-command.ts';
import { needsHuman, onHost, transient } from './failures.ts';
import { lastLines } from './helm.ts';
import { runScript, tryScript } from './host-script.ts';
import { connectUnlessAway, kubeletState, listeningPorts, stopKubelet } from './kubelet.ts';
import { parseMountInfo } from './mounts.ts';
import { poll } from './polling.ts';

/* A machine that is no node any more. The platform's tool does nothing on it, and its own `reset` removes the components' data. */

const kubeletDirectory = '/var/lib/kubelet';
/** API server, etcd, kubelet. */
const usualPorts = [6443, 2379, 2380, 10_250];
const untouched = 'the data directories of the components, and all other machines';

interface ResetDeps {
  hosts: Hosts;
  deadlines: Deadlines;
}

export async function resetNode(deps: ResetDeps, { host }: { host: Host }): Promise<Evidence & { reached: boolean }> {
  return onHost(host.name, untouched, async () => {
    const connection = await connectUnlessAway(deps.hosts, host, deps.deadlines.away);
    if (connection === undefined) {
      return {
        changed: false,
        reached: false,
        proof: `${host.name} did not answer and was left as it is; kubeadm reset --force on it before it is used again`,
      };
    }
    const changed = await reset(connection, deps.deadlines);
    return {
      changed,
      reached: true,
      proof: `${host.name}: kubelet stopped and disabled, no static pod, no container, nothing mounted below ${kubeletDirectory}, nothing listens on ${usualPorts.join(', ')}`,
    };
  });
}

async function reset(connection: HostConnection, deadlines: Deadlines): Promise<boolean> {
  const before = await leftovers(connection);
  const state = await kubeletState(connection);
  const ports = await portsOf(connection);
  const isReset = before.length === 0 && !state.active && !state.enabled;
  if (isReset && (await listeningPorts(connection, ports)).length === 0) return false;

  const socket = await criSocket(connection);
  await refuseMember(connection, socket);
  await stopKubelet(connection);
  await endContainers(connection, { deadline: deadlines.containersEnd, untouched });
  await unmountAll(connection);
  // Before the reset takes the manifest, which alone says where it is.
  const setup = await setupOf(connection);
  if (setup !== undefined) await removeMember(connection, setup.hostDataDirectory);
  await kubeadmReset(connection, socket);
  await prove(connection, deadlines, ports);
  return true;
}

/** Files that make a machine a node. */
const leftoverScript = `
for f in /etc/kubernetes/kubelet.conf /etc/kubernetes/bootstrap-kubelet.conf /etc/kubernetes/manifests/*; do
  if [ -e "$f" ]; then echo "$f"; fi
done
return 0`;

async function leftovers(connection: HostConnection): Promise<string[]> {
  const text = await runScript(connection, 'looking for what makes it a node', leftoverScript);
  return text.split('\n').filter((line) => line !== '');
}

async function portsOf(connection: HostConnection): Promise<number[]> {
  return [...new Set([...usualPorts, ...((await setupOf(connection))?.ports ?? [])])];
}

async function setupOf(connection: HostConnection): ReturnType<typeof readSetup> {
  try {
    return await readSetup(connection);
  } catch (error) {
    if (error instanceof EtcdUnavailable) return undefined;
    throw error;
  }
}

/** A running member of etcd has to leave the others first: a reset takes it away from them without asking. */
async function refuseMember(connection: HostConnection, socket: string): Promise<void> {
  if ((await connection.readFile(etcdManifest)) === undefined) return;
  if ((await findContainer(connection, socket, 'etcd')) === undefined) return;
  const { name } = connection.host;
  throw needsHuman({
    what: `${name} must not be reset now`,
    cause: 'its member of etcd runs: it has to leave the others first',
    untouched: `${name}, ${untouched}`,
    next: `etcdctl member list on another master; remove the member of ${name} there and stop kubelet and etcd on ${name}, then: ferry resume`,
  });
}

/** Deepest first. A lazy unmount would hide what still holds it. */
const unmountScript = `
for attempt in 1 2 3; do
  awk -v top="$1/" 'index($5, top) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while IFS= read -r escaped; do
    umount -- "$(printf '%b' "$escaped")" || true
  done
  if ! awk -v top="$1/" 'index($5, top) == 1 { found = 1 } END { exit !found }' /proc/self/mountinfo; then return 0; fi
  sleep 1
done
return 0`;

/** What stays mounted below kubelet's directory would be emptied by a reset: local volumes are the components' data. */
async function unmountAll(connection: HostConnection): Promise<void> {
  const result = await tryScript(connection, unmountScript, [kubeletDirectory], { timeout: 120_000 });
  const table = await runScript(connection, 'reading the mounts', 'cat /proc/self/mountinfo', [], {
    maxOutput: 16 * 1024 * 1024,
  });
  const left = parseMountInfo(table)
    .map(({ mountPoint }) => mountPoint)
    .filter((point) => point !== kubeletDirectory && isWithin(point, kubeletDirectory));
  if (left.length === 0 && result.code === 0) return;
  const { name } = connection.host;
  throw needsHuman({
    what: `${name} must not be reset: something is still mounted below ${kubeletDirectory}`,
    cause: `${left.slice(0, 5).join(', ')}${left.length > 5 ? ` and ${left.length - 5} more` : ''}: ${lastLines(result.stderr, 1) || 'it cannot be unmounted'}; a reset would delete through it`,
    untouched: `${untouched}. kubelet of ${name} is stopped and disabled, its containers are ended`,
    next: `end what uses it (fuser -vm ${left[0] ?? kubeletDirectory}) and umount it on ${name}, then: ferry resume`,
  });
}

async function kubeadmReset(connection: HostConnection, socket: string): Promise<void> {
  const { name } = connection.host;
  // The member has left already, so the step that asks etcd to remove one has nothing to do and could only remove the wrong one. Without
  // it nothing is needed from the cluster, where kubeadm would look a minute for a pod that has ended: so it gets no way there.
  const argv = ['kubeadm', 'reset', '--force', '--skip-phases', 'remove-etcd-member', '--kubeconfig', '/dev/null'];
  if (socket !== '') argv.push('--cri-socket', socket);
  const result = await connection.run(argv, { timeout: 300_000 });
  if (result.code === 0) return;
  throw needsHuman({
    what: `kubeadm reset failed on ${name}`,
    cause: lastLines(result.stderr) || lastLines(result.stdout) || `exit code ${result.code ?? '?'}`,
    untouched: `${untouched}. kubelet of ${name} is stopped and disabled`,
    next: `run it by hand on ${name} (${argv.join(' ')}), then: ferry resume`,
  });
}

/** What kubeadm empties itself where it does that step: a machine with a member's directory cannot join again. $1 the data directory. */
const removeScript = `
d=$(readlink -e -- "$1") || return 0
[ -d "$d/member" ] || return 0
if awk -v top="$d/member" '$5 == top || index($5, top "/") == 1 { found = 1 } END { exit !found }' /proc/self/mountinfo; then
  echo "something is mounted in $d/member" >&2
  return 1
fi
rm -rf --one-file-system -- "$d/member"`;

async function removeMember(connection: HostConnection, directory: string): Promise<void> {
  const result = await tryScript(connection, removeScript, [directory], { timeout: 120_000 });
  if (result.code === 0) return;
  throw needsHuman({
    what: `The directory of the former member of etcd on ${connection.host.name} cannot be removed`,
    cause: lastLines(result.stderr, 1),
    untouched,
    next: `look at ${directory}/member on ${connection.host.name}; the cluster has no use for it any more; then: ferry resume`,
  });
}

async function prove(connection: HostConnection, deadlines: Deadlines, ports: readonly number[]): Promise<void> {
  const { name } = connection.host;
  await poll(
    async () => {
      const state = await kubeletState(connection);
      const files = await leftovers(connection);
      const open = await listeningPorts(connection, ports);
      const problems = [
        ...(state.active ? ['kubelet runs'] : []),
        ...(state.enabled ? ['kubelet is enabled'] : []),
        ...(files.length > 0 ? [`there is ${files.join(', ')}`] : []),
        ...(open.length > 0 ? [`something listens on ${open.join(', ')}`] : []),
      ];
      return problems.length === 0 ? { done: true, value: undefined } : { done: false, waiting: problems.join('; ') };
    },
    { deadline: deadlines.containersEnd },
    (waiting) =>
      transient({
        what: `${name} is not reset`,
        cause: waiting,
        untouched,
        next: `it is tried again by itself; if it stays so: kubeadm reset --force on ${name}, and systemctl disable --now kubelet`,
      }),
  );
}
