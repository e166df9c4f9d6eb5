import type { Hosts } from '../hosts/contract.ts';
import type { Host } from '../plan/plan.ts';
import { setBalancers } from './balancers.ts';
import type { Master, MasterActivities } from './contract.ts';
import { giveJoinFile, moveControl } from './control-host.ts';
import type { Deadlines } from './deadlines.ts';
import { onHost } from './failures.ts';
import { isAway } from './kubelet.ts';
import type { KubernetesApi } from './kubernetes-api.ts';
import { deleteNode, drainNode, matchTaints } from './node-objects.ts';
import { whileBeating } from './polling.ts';
import { resetNode } from './reset.ts';

export interface MasterDeps {
  api: KubernetesApi;
  hosts: Hosts;
  deadlines: Deadlines;
}

/** Nodes that come and go where the control plane runs on them. */
export function createMasterActivities(
  deps: MasterDeps,
): Omit<MasterActivities, 'listMembers' | 'awaitMembers' | 'snapshotEtcd' | 'handOverLead' | 'leaveEtcd'> {
  const { api, hosts, deadlines } = deps;
  return {
    matchTaints: (input) => matchTaints(api, input),
    setBalancers: (input) => whileBeating({ waiting: 'load balancers' }, () => setBalancers(hosts, input)),
    drainNode: (input) => whileBeating({ waiting: `${input.node} is drained` }, () => drainNode(api, deadlines, input)),
    resetNode: (input) =>
      whileBeating({ waiting: `${input.host.name} is reset` }, () => resetNode({ hosts, deadlines }, input)),
    deleteNode: (input) =>
      whileBeating({ waiting: `Node ${input.node} is deleted` }, () => deleteNode(api, deadlines, input)),
    moveControl: (input) =>
      whileBeating({ waiting: `proton-cli moves to ${input.to.name}` }, () => moveControl(deps, input)),
    giveJoinFile: (input) =>
      whileBeating({ waiting: `${input.to.name} gets what nodes join with` }, () => giveJoinFile(deps, input)),
    listLeftovers: (input) => listLeftovers(hosts, input),
  };
}

/** Lines of a hosts file that name one of these machines, by name or address. */
export function linesNaming(text: string, removed: readonly Master[]): string[] {
  const words = new Set(removed.flatMap(({ name, address }) => [name, address]));
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => (line.split('#')[0] ?? '').split(/\s+/).some((word) => words.has(word)));
}

async function listLeftovers(
  hosts: Hosts,
  { hosts: asked, removed }: { hosts: Host[]; removed: Master[] },
): Promise<{ host: string; lines: string[] }[]> {
  return Promise.all(
    asked.map((host) =>
      onHost(host.name, 'everything; this step only looks', async () => {
        try {
          const content = await (await hosts.connect(host)).readFile('/etc/hosts');
          return { host: host.name, lines: linesNaming(content?.toString('utf8') ?? '', removed) };
        } catch (error) {
          // A report is no reason to wait for a machine.
          if (!isAway(error)) throw error;
          return { host: host.name, lines: [`(${host.name} did not answer)`] };
        }
      }),
    ),
  );
}
