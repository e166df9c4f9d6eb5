import type { HostConnection, RunResult } from '../hosts/contract.ts';
import { needsHuman } from './failures.ts';
import { lastLines } from './helm.ts';
import { parseFields, runScript, tryScript } from './host-script.ts';
import { poll } from './polling.ts';

/* Containers of Kubernetes on one machine, through whatever its runtime can be asked with. */

export type Runtime = 'crictl' | 'docker' | 'ctr';

export interface Container {
  runtime: Runtime;
  id: string;
}

const socketScript = `
for f in /var/lib/kubelet/kubeadm-flags.env /var/lib/kubelet/instance-config.yaml /var/lib/kubelet/config.yaml; do
  [ -r "$f" ] || continue
  s=$(sed -n -e 's/.*--container-runtime-endpoint[= ]*\\([^ "]*\\).*/\\1/p' -e 's/^containerRuntimeEndpoint: *"\\{0,1\\}\\([^ "]*\\)"\\{0,1\\} *$/\\1/p' "$f" | head -n 1)
  if [ -n "$s" ]; then echo "socket=$s"; return 0; fi
done
# Docker's runtime is containerd too, so its own sockets come first
for s in /var/run/dockershim.sock /var/run/cri-dockerd.sock /run/containerd/containerd.sock; do
  if [ -S "$s" ]; then echo "socket=unix://$s"; return 0; fi
done
return 0`;

/** The socket that kubelet and kubeadm speak to the runtime through; empty where none is configured and none is there. */
export async function criSocket(connection: HostConnection): Promise<string> {
  const fields = parseFields(await runScript(connection, 'looking for the container runtime', socketScript));
  const socket = fields.get('socket') ?? '';
  return socket.startsWith('/') ? `unix://${socket}` : socket;
}

/**
 * $1 socket, $2 name of the container or empty: all of Kubernetes. Lines `runtime id`, and `ok runtime` for each that answered. The name
 * alone would also find an etcd that is a component of the platform.
 */
const listScript = `
if command -v crictl >/dev/null 2>&1 && [ -n "$1" ]; then
  if [ -n "$2" ]; then
    found=$(crictl --runtime-endpoint "$1" ps --quiet --state Running --label "io.kubernetes.container.name=$2" --label io.kubernetes.pod.namespace=kube-system)
  else found=$(crictl --runtime-endpoint "$1" ps --quiet --state Running); fi && echo "ok crictl" && for id in $found; do echo "crictl $id"; done
fi
if command -v docker >/dev/null 2>&1; then
  if [ -n "$2" ]; then
    found=$(docker ps --quiet --no-trunc --filter status=running --filter "label=io.kubernetes.container.name=$2" --filter label=io.kubernetes.pod.namespace=kube-system)
  else found=$(docker ps --quiet --no-trunc --filter status=running --filter label=io.kubernetes.pod.namespace); fi && echo "ok docker" && for id in $found; do echo "docker $id"; done
fi
if command -v ctr >/dev/null 2>&1 && tasks=$(ctr --namespace k8s.io task ls); then
  running=$(echo "$tasks" | awk 'NR > 1 && $3 != "STOPPED" { print $1 }')
  if [ -z "$2" ]; then
    echo "ok ctr"
    for id in $running; do echo "ctr $id"; done
  elif wanted=$(ctr --namespace k8s.io containers ls --quiet "labels.\\"io.kubernetes.container.name\\"==$2,labels.\\"io.kubernetes.pod.namespace\\"==kube-system"); then
    echo "ok ctr"
    for id in $running; do case " $(echo $wanted) " in *" $id "*) echo "ctr $id" ;; esac; done
  fi
fi
return 0`;

async function listContainers(connection: HostConnection, socket: string, name = ''): Promise<Container[]> {
  const { stdout, stderr } = await tryScript(connection, listScript, [socket, name]);
  const found: Container[] = [];
  const answered = new Set<string>();
  for (const line of stdout.split('\n')) {
    const [first, second] = line.split(' ');
    if (first === 'ok' && second !== undefined) answered.add(second);
    if ((first === 'crictl' || first === 'docker' || first === 'ctr') && second !== undefined) {
      found.push({ runtime: first, id: second });
    }
  }
  // A runtime that does not answer has not said that nothing runs.
  const needed = socket.includes('docker') ? ['docker'] : ['crictl', 'ctr'];
  if (needed.some((runtime) => answered.has(runtime))) return found;
  throw needsHuman({
    what: `The container runtime of ${connection.host.name} does not answer`,
    cause: lastLines(stderr, 2) || `there is no ${needed.join(' and no ')} on the PATH`,
    untouched: 'everything that runs there',
    next: `see that ${needed.join(' or ')} works on ${connection.host.name} (systemctl status containerd docker), then: ferry resume`,
  });
}

/** The running container of a static pod. */
export async function findContainer(
  connection: HostConnection,
  socket: string,
  name: string,
): Promise<Container | undefined> {
  const [found] = await listContainers(connection, socket, name);
  return found;
}

/** Seconds a container gets between TERM and KILL. */
const grace = 10;

/**
 * Ends the running containers of Kubernetes, or those of one static pod, and proves that none is left. Nothing may be there that starts
 * them again. Answers how many were ended.
 */
export async function endContainers(
  connection: HostConnection,
  options: { name?: string; deadline: number; untouched: string },
): Promise<number> {
  const { name, deadline, untouched } = options;
  const socket = await criSocket(connection);
  const ended = new Set<string>();
  const begun = Date.now();
  await poll(
    async () => {
      const left = await listContainers(connection, socket, name);
      if (left.length === 0) return { done: true, value: undefined };
      const forced = Date.now() - begun > (grace + 5) * 1000;
      for (const container of left) ended.add(container.id);
      const problems = await stop(connection, socket, left, forced);
      return { done: false, waiting: [`${left.length} containers still run`, ...problems].join('; ') };
    },
    { deadline },
    (waiting) =>
      needsHuman({
        what: `Containers on ${connection.host.name} cannot be ended`,
        cause: `after ${deadline / 1000} s: ${waiting}`,
        untouched,
        next: `crictl ps, docker ps or ctr -n k8s.io task ls on ${connection.host.name}; end them, then: ferry resume`,
      }),
  );
  return ended.size;
}

async function stop(
  connection: HostConnection,
  socket: string,
  containers: readonly Container[],
  forced: boolean,
): Promise<string[]> {
  const ids = (runtime: Runtime): string[] =>
    containers.filter((container) => container.runtime === runtime).map(({ id }) => id);
  const problems: string[] = [];
  const run = async (argv: readonly string[]): Promise<void> => {
    const result: RunResult = await connection.run(argv, { timeout: 120_000 });
    if (result.code !== 0) problems.push(lastLines(result.stderr, 1));
  };
  const [cri, docker] = [ids('crictl'), ids('docker')];
  if (cri.length > 0) {
    await run(['crictl', '--runtime-endpoint', socket, 'stop', '--timeout', `${forced ? 0 : grace}`, ...cri]);
  }
  if (docker.length > 0) await run(['docker', 'stop', '--time', `${forced ? 0 : grace}`, ...docker]);
  for (const id of ids('ctr')) {
    await run([
      'ctr',
      '--namespace',
      'k8s.io',
      'task',
      'kill',
      '--signal',
      forced ? 'SIGKILL' : 'SIGTERM',
      '--all',
      id,
    ]);
  }
  return problems;
}
