import { breadcrumbs, parkedSelector } from '../activities/applications.ts';
import { quote } from '../hosts/quote.ts';
import { componentTable } from '../plan/components.ts';
import type { ComponentKind } from '../plan/plan.ts';
import { quorumOf } from '../plan/quorum.ts';

/*
 * Where a migration stands and how the old cluster comes back, from what was found in the cluster and on its machines. Pure: findings
 * in, lines and commands out. Nothing here runs a command.
 */

/** A workload that carries this migration's breadcrumbs. */
export interface MarkedWorkload {
  kind: 'Deployment' | 'StatefulSet' | 'DaemonSet' | 'CronJob' | 'HorizontalPodAutoscaler' | 'Job';
  namespace: string;
  name: string;
  /** Those of its annotations that begin with `ferry.migration/`. */
  marks: Record<string, string>;
  /** Started again: breadcrumbs are taken away only when all applications are ready. */
  runs: boolean;
}

/** A machine that can be named in a command. */
export interface Machine {
  name: string;
  user: string;
  address: string;
  port: number;
}

export interface FoundBackup {
  directory: string;
  takenAt: string;
  encrypted: boolean;
  files: string[];
  /** Names in `.nodes`, masters and hosts of components when it was taken; absent when it could not be read. */
  nodes?: string[];
  masters?: string[];
  components?: { kind: ComponentKind; hosts: string[] }[];
}

export interface Findings {
  migration: string;
  /** The workflow that the mark in the cluster names; absent where there is no mark. */
  workflowId?: string;
  configNamespace: string;
  resourceNamespace: string;
  marked: MarkedWorkload[];
  /** Why the recorded configuration cannot be read, when it cannot. */
  configTrouble?: string;
  /** Names in `.nodes` of the configuration now. */
  configNodes: string[];
  clusterNodes: { name: string; ready: boolean }[];
  components: FoundComponent[];
  /** Stages whose configuration was prepared: an apply may have followed. */
  prepared: string[];
  control?: Machine;
  packageDirectory?: string;
  home: string;
  protonCli: string;
  backup?: FoundBackup;
  /** Units `ferry-…` that run on machines. */
  running: { machine: Machine; unit: string }[];
  /** Units of the platform that this migration stopped on machines. */
  stopped: { machine: Machine; units: string[] }[];
  /** Machines that could not be asked, with the reason. */
  silent: { name: string; why: string }[];
  /** Members of etcd where it runs on the nodes themselves; absent where it does not, or where they could not be listed. */
  members?: FoundMember[];
  /** Why they could not be listed although etcd runs on the nodes. */
  membersTrouble?: string;
}

export interface FoundMember {
  /** Hexadecimal, as etcdctl takes it. */
  id: string;
  /** Name of its node; empty for a member that was added and has never started. */
  name: string;
  leader: boolean;
  healthy: boolean;
  machine?: Machine;
}

export interface FoundComponent {
  kind: ComponentKind;
  namespace: string;
  replicas: { ordinal: number; host: string; pvc: string; pv: string; volumeHost?: string; node?: string }[];
}

export interface Step {
  title: string;
  why: string;
  commands: string[];
}

export interface Assessment {
  verdict: 'nothing to bring back' | 'the way back is open' | 'no way back' | 'unclear';
  /** Where things stand, one line each. */
  stands: string[];
  /** What to know before the first command. */
  warnings: string[];
  steps: Step[];
}

export function assess(findings: Findings): Assessment {
  const oldNodes = findings.backup?.nodes;
  const gone = oldNodes?.filter((name) => !findings.clusterNodes.some((node) => node.name === name)) ?? [];
  const dropped =
    oldNodes?.filter((name) => findings.configNodes.length > 0 && !findings.configNodes.includes(name)) ?? [];
  const lost = [...new Set([...gone, ...dropped, ...outOfEtcd(findings)])];
  const verdict = verdictOf(findings, lost);
  return {
    verdict,
    stands: standing(findings, lost),
    warnings: warningsOf(findings, verdict),
    steps: stepsOf(findings, verdict, lost),
  };
}

/** Old masters without a member: the removal has begun, even where their Nodes are still there. Their kubelet is disabled for good. */
function outOfEtcd({ members, backup }: Findings): string[] {
  if (members === undefined) return [];
  return (backup?.masters ?? []).filter((master) => !members.some(({ name }) => name === master));
}

function verdictOf(findings: Findings, lost: readonly string[]): Assessment['verdict'] {
  if (lost.length > 0) return 'no way back';
  const changed =
    findings.marked.length > 0 ||
    findings.stopped.length > 0 ||
    movedComponents(findings).length > 0 ||
    addedNodes(findings).length > 0 ||
    findings.configTrouble !== undefined;
  if (!changed && findings.running.length === 0) return 'nothing to bring back';
  if (runningApplies(findings).length > 0) return 'unclear';
  // An apply of the old configuration shuts new members out: who is one must be known before.
  if (findings.membersTrouble !== undefined && addedNodes(findings).length > 0) return 'unclear';
  return findings.backup?.nodes === undefined && needsBackup(findings) ? 'unclear' : 'the way back is open';
}

/** While one runs, nodes, members and components are not yet what they will be: a plan made now would be for another cluster. */
function runningApplies({ running }: Findings): Findings['running'] {
  return running.filter(({ unit }) => unit.startsWith('ferry-apply-'));
}

/** Whether more than applications must be brought back. */
function needsBackup(findings: Findings): boolean {
  return findings.prepared.length > 0 || findings.configTrouble !== undefined;
}

function addedNodes({ backup, configNodes, clusterNodes }: Findings): string[] {
  const { nodes } = backup ?? {};
  if (nodes === undefined) return [];
  return [...new Set([...configNodes, ...clusterNodes.map(({ name }) => name)])].filter(
    (name) => !nodes.includes(name),
  );
}

interface Moved {
  kind: ComponentKind;
  /** On other nodes, not installed, or where it was but recorded elsewhere. */
  how: 'moved' | 'away' | 'recorded';
}

/** Components that are not, or are not recorded, where the backup has them. */
function movedComponents({ backup, components }: Findings): Moved[] {
  return (backup?.components ?? []).flatMap(({ kind, hosts }): Moved[] => {
    const replicas = components.find((component) => component.kind === kind)?.replicas ?? [];
    if (replicas.some(({ volumeHost }, index) => volumeHost !== undefined && volumeHost !== hosts[index])) {
      return [{ kind, how: 'moved' }];
    }
    if (replicas.every(({ volumeHost, node }) => volumeHost === undefined && node === undefined)) {
      return [{ kind, how: 'away' }];
    }
    return replicas.some(({ host }, index) => host !== hosts[index]) ? [{ kind, how: 'recorded' }] : [];
  });
}

function standing(findings: Findings, lost: readonly string[]): string[] {
  const { marked, configNodes, backup, prepared, running, stopped, silent } = findings;
  const moved = movedComponents(findings);
  const named = (how: string): string =>
    moved
      .filter((component) => component.how === how)
      .map(({ kind }) => kind)
      .join(', ');
  const added = addedNodes(findings);
  const again = startedAgain(findings);
  const jobs = running.map(({ machine, unit }) => `${unit} on ${machine.name}`);
  return [
    marked.length === 0
      ? 'Applications: none carries breadcrumbs; none is stopped by this migration.'
      : `Applications: ${marked.length} carry breadcrumbs of it: ${countKinds(marked)}${again.length === 0 ? '' : `; ${again.length} run again`}.`,
    findings.configTrouble === undefined
      ? `Configuration: lists ${configNodes.join(', ')}.`
      : `Configuration: cannot be read: ${findings.configTrouble}. proton-cli would install afresh over the live platform: do not run it before the Secret is back.`,
    ...(prepared.length === 0 ? [] : [`Prepared, and perhaps applied: ${prepared.join(', ')}.`]),
    ...(added.length === 0 ? [] : [`New nodes: ${added.join(', ')}.`]),
    ...(lost.length === 0 ? [] : [`Old nodes that have left already: ${lost.join(', ')}.`]),
    ...membersLine(findings),
    ...(named('moved') === '' ? [] : [`Components on new nodes: ${named('moved')}.`]),
    ...(named('away') === '' ? [] : [`Components not installed: ${named('away')}.`]),
    ...(named('recorded') === '' ? [] : [`Components still on old nodes, recorded on others: ${named('recorded')}.`]),
    ...stopped.map(({ machine, units }) => `Host services stopped on ${machine.name}: ${units.join(', ')}.`),
    ...(jobs.length === 0 ? [] : [`Still running: ${jobs.join(', ')}.`]),
    backup === undefined
      ? 'Backup: none was found on the control host.'
      : `Backup: ${backup.files.length} files in ${findings.control?.name ?? ''}:${backup.directory}, taken ${backup.takenAt}${backup.encrypted ? ', encrypted' : ''}.`,
    ...silent.map(({ name, why }) => `Not asked: ${name}: ${why}.`),
  ];
}

function membersLine({ members }: Findings): string[] {
  if (members === undefined) return [];
  const names = members.map(({ id, name, leader, healthy }) => {
    const marks = [leader && 'leader', !healthy && 'not healthy'].filter((mark) => mark !== false);
    return `${name === '' ? `${id} (never started)` : name}${marks.length === 0 ? '' : ` (${marks.join(', ')})`}`;
  });
  const spare = members.filter(({ healthy }) => healthy).length - quorumOf(members.length);
  const left = spare < 0 ? 'too few answer for a write' : `${spare} more may be lost`;
  return [`Members of etcd: ${names.join(', ')}; ${left}.`];
}

function startedAgain({ marked }: Findings): MarkedWorkload[] {
  return marked.filter(({ runs }) => runs);
}

function countKinds(marked: readonly MarkedWorkload[]): string {
  return [...Map.groupBy(marked, ({ kind }) => kind)].map(([kind, group]) => `${group.length} ${kind}`).join(', ');
}

function warningsOf(findings: Findings, verdict: Assessment['verdict']): string[] {
  const moved = movedComponents(findings).some(({ how }) => how === 'moved');
  const again = startedAgain(findings).map(({ kind, namespace, name }) => `${kind} ${namespace}/${name}`);
  return [
    `If Temporal can be brought back, do that instead: the workflow goes on by itself. Two hands on one cluster undo each other, so a workflow that comes back later must be ended first: temporal workflow terminate --workflow-id ${quote(findings.workflowId ?? `migrate-${findings.migration}`)} --reason "brought back by hand"`,
    ...(moved && findings.marked.length === 0
      ? [
          'Applications are not marked as stopped and components run on new nodes: applications may have written there. Going back loses what they wrote.',
        ]
      : []),
    ...(moved && again.length > 0
      ? [
          `Applications were started again and components run on new nodes: ${again.join(', ')} may have written there. Going back loses what they wrote.`,
        ]
      : []),
    ...runningApplies(findings).map(
      ({ machine, unit }) =>
        `${unit} still runs on ${machine.name}: it may yet add nodes, delete old ones or install components. How the old cluster comes back, and whether it does, can only be said when it has ended.`,
    ),
    ...(findings.membersTrouble === undefined
      ? []
      : [
          `The members of etcd could not be listed: ${findings.membersTrouble}. Run no proton-cli apply and switch no master off before they are known; look again when the control host answers.`,
        ]),
    ...(verdict === 'unclear' && needsBackup(findings) && findings.backup?.nodes === undefined
      ? [
          'What the backup holds is not known (none found, or encrypted and no key): name its place (--control-host, --backup-directory) or the key (--backup-key-file), and look again.',
        ]
      : []),
  ];
}

function stepsOf(findings: Findings, verdict: Assessment['verdict'], lost: readonly string[]): Step[] {
  if (verdict === 'nothing to bring back') return [];
  const settle = settleStep(findings);
  if (runningApplies(findings).length > 0) return [...settle, lookAgainStep(findings)];
  const applications = applicationSteps(findings);
  if (verdict === 'no way back') {
    const departed = (findings.members ?? []).filter(({ name }) => lost.includes(name));
    return [
      ...settle,
      ...serviceSteps(findings),
      ...forwardStep(findings, lost),
      ...membersStep(findings, departed, 'Take members of old masters out of etcd'),
      ...applications,
    ];
  }
  if (verdict === 'unclear') return [...settle, ...serviceSteps(findings)];
  const platform =
    movedComponents(findings).length > 0 || findings.configTrouble !== undefined || addedNodes(findings).length > 0;
  return [
    ...settle,
    ...serviceSteps(findings),
    ...(platform
      ? [
          ...uninstallStep(findings),
          ...restoreStep(findings),
          ...membersStep(findings, newMembers(findings), 'New masters leave etcd, one after the other'),
          ...applyStep(findings),
          ...newNodesStep(findings),
        ]
      : []),
    ...applications,
  ];
}

function on({ user, address, port }: Machine, command: string): string {
  const at = `${user}@${address}`;
  return `ssh ${port === 22 ? '' : `-p ${port} `}${quote(at)} ${quote(command)}`;
}

function settleStep(findings: Findings): Step[] {
  const { running } = findings;
  if (running.length === 0) return [];
  const applies = runningApplies(findings);
  const others = running.filter((job) => !applies.includes(job));
  return [
    {
      title: 'Let nothing of the migration run any more',
      why: 'Half an apply is worse than a long one: wait for its end. Copies can be ended; they only read the old machines.',
      commands: [
        ...applies.map(({ machine, unit }) =>
          on(machine, `while systemctl is-active --quiet ${quote(unit)}; do sleep 5; done`),
        ),
        ...others.map(({ machine, unit }) => on(machine, `systemctl stop ${quote(unit)}`)),
      ],
    },
  ];
}

function lookAgainStep({ migration, backup }: Findings): Step {
  const key = backup?.encrypted === true ? ' --backup-key-file KEYFILE' : '';
  return {
    title: 'Look again',
    why: 'What that apply does is not known yet, so there are no further steps. Use the same options as this time.',
    commands: [`ferry break-glass --cluster ${quote(migration)}${key}`],
  };
}

function serviceSteps({ stopped }: Findings): Step[] {
  if (stopped.length === 0) return [];
  return [
    {
      title: 'Start what was stopped on machines',
      why: 'One machine after the other; go on when its node is Ready.',
      commands: stopped.flatMap(({ machine, units }) => [
        on(machine, `systemctl start ${units.map((unit) => quote(unit)).join(' ')}`),
        `kubectl wait --for=condition=Ready node/${quote(machine.name)} --timeout=10m`,
      ]),
    },
  ];
}

function uninstallStep(findings: Findings): Step[] {
  const moved = movedComponents(findings).filter(({ how }) => how === 'moved');
  if (moved.length === 0) return [];
  return [
    {
      title: 'Take the components off the new nodes',
      why: 'Their volumes have the names that the old ones need. Reclaim policy is Retain: data stays on both sides.',
      commands: moved.flatMap(({ kind }) => {
        const component = findings.components.find((candidate) => candidate.kind === kind);
        const { workload } = componentTable[kind];
        const namespace = component?.namespace ?? findings.resourceNamespace;
        const replicas = component?.replicas ?? [];
        return [
          workload.type === 'helm'
            ? `helm3 -n ${quote(namespace)} uninstall ${quote(workload.release)} --wait`
            : `kubectl -n ${quote(namespace)} delete ${quote(`${workload.plural}.${workload.group}`)} ${quote(workload.name)} --wait`,
          `kubectl -n ${quote(namespace)} delete pvc ${replicas.map(({ pvc }) => quote(pvc)).join(' ')} --ignore-not-found`,
          `kubectl delete pv ${replicas.map(({ pv }) => quote(pv)).join(' ')} --ignore-not-found`,
        ];
      }),
    },
  ];
}

const configFile = '/root/ferry-old-config.yaml';

function restoreStep(findings: Findings): Step[] {
  const { backup, control } = findings;
  if (backup === undefined || control === undefined) return [];
  const plain = (name: string): string => name.replace(/\.aes$/, '');
  const secrets = backup.files.filter((name) => plain(name).startsWith('secret-'));
  const local = `./ferry-backup-${findings.migration}`;
  const fetch = backup.encrypted
    ? [`ferry break-glass --cluster ${quote(findings.migration)} --backup-key-file KEYFILE --fetch ${quote(local)}`]
    : [];
  const show = (name: string): string =>
    backup.encrypted
      ? `cat ${quote(`${local}/${plain(name)}`)}`
      : on(control, `cat ${quote(`${backup.directory}/${name}`)}`);
  const dot = backup.files.find((name) => plain(name) === 'dot-proton-cli.yaml');
  return [
    {
      title: 'Restore the Secrets',
      why: 'They say where every component is; the platform refuses an apply that disagrees with them. They are secret: do not print them.',
      commands: [
        ...fetch,
        ...secrets.map((name) => `${show(name)} | kubectl replace -f - || ${show(name)} | kubectl create -f -`),
        ...(dot === undefined
          ? []
          : [
              backup.encrypted
                ? `${show(dot)} | ${on(control, `umask 077; cat > ${quote(`${findings.home}/.proton-cli.yaml`)}`)}`
                : on(
                    control,
                    `cp ${quote(`${backup.directory}/${dot}`)} ${quote(`${findings.home}/.proton-cli.yaml`)}`,
                  ),
            ]),
      ],
    },
  ];
}

function applyStep(findings: Findings): Step[] {
  const { control, configNamespace } = findings;
  if (control === undefined) return [];
  const namespace = quote(configNamespace);
  const template = `'{{index .data "ClusterConfiguration" | base64decode}}'`;
  const directory = findings.packageDirectory ?? 'PACKAGE-DIRECTORY';
  return [
    {
      title: 'Install the components on the old nodes, over their own data',
      why: 'First look three times how fast the Secret answers: above 3 seconds proton-cli would take the platform for not installed.',
      commands: [
        `for i in 1 2 3; do time kubectl -n ${namespace} get secret proton-cli-config >/dev/null; done`,
        `kubectl -n ${namespace} get secret proton-cli-config -o go-template=${template} | ${on(control, `umask 077; cat > ${configFile}`)}`,
        on(control, `cd ${quote(directory)} && ${quote(findings.protonCli)} apply -f ${configFile}`),
        on(control, `rm -f ${configFile}`),
        `kubectl -n ${quote(findings.resourceNamespace)} get pods -o wide`,
      ],
    },
  ];
}

function newMembers(findings: Findings): FoundMember[] {
  const added = addedNodes(findings);
  return (findings.members ?? []).filter(({ name }) => name === '' || added.includes(name));
}

const etcdctl = [
  ...['etcdctl', '--endpoints=https://127.0.0.1:2379', '--cacert=/etc/kubernetes/pki/etcd/ca.crt'],
  ...[
    '--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt',
    '--key=/etc/kubernetes/pki/etcd/healthcheck-client.key',
  ],
].join(' ');

/** Before the apply: the tool never takes a member out, and its firewall shuts out the masters that are no longer listed. */
function membersStep({ members = [], clusterNodes }: Findings, leaving: readonly FoundMember[], title: string): Step[] {
  if (leaving.length === 0) return [];
  const staying = members.filter((member) => !leaving.includes(member));
  const keeper = staying.find(({ healthy }) => healthy) ?? staying[0];
  if (keeper === undefined) return [];
  const ask = (words: string): string =>
    `kubectl -n kube-system exec ${quote(`etcd-${keeper.name}`)} -- ${etcdctl} ${words}`;
  // Dead ones first: until they are out they count against those that are left.
  const inTurn = leaving.toSorted((one, other) => Number(one.healthy) - Number(other.healthy));
  return [
    {
      title,
      why: 'One at a time, and the next only when all that stay are healthy. A master that is switched off or shut out by the firewall stays a member and counts against the others: three of six, and the API is gone for good.',
      commands: [
        ...inTurn.flatMap(({ id, name, machine }) => [
          ask(`member remove ${id}`),
          ...(machine === undefined ? [] : [on(machine, 'systemctl disable --now kubelet; kubeadm reset --force')]),
          ...(clusterNodes.some((node) => node.name === name) ? [`kubectl delete node ${quote(name)}`] : []),
          ask('endpoint health --cluster'),
        ]),
        ask('member list'),
      ],
    },
  ];
}

function newNodesStep(findings: Findings): Step[] {
  const left = newMembers(findings).map(({ name }) => name);
  const live = addedNodes(findings).filter(
    (name) => !left.includes(name) && findings.clusterNodes.some((node) => node.name === name),
  );
  if (live.length === 0) return [];
  return [
    {
      title: 'Keep the new nodes empty',
      why: 'They are still nodes of Kubernetes, and control-plane members if they were added as such. Taking them out for good (kubeadm reset on each, kubectl delete node) can wait until the platform works.',
      commands: live.map((name) => `kubectl cordon ${quote(name)}`),
    },
  ];
}

function forwardStep(findings: Findings, lost: readonly string[]): Step[] {
  return [
    {
      title: 'Go forward: there is no way back',
      why: `${lost.join(', ')} ${lost.length === 1 ? 'has' : 'have'} left the cluster, its configuration or its etcd, and the components live on the new nodes. Their data is complete there; the old machines still hold theirs, untouched.`,
      commands: [
        `kubectl -n ${quote(findings.resourceNamespace)} get pods -o wide`,
        'kubectl get nodes',
        `kubectl -n ${quote(findings.configNamespace)} get secret -l ${quote(`${breadcrumbs.migration}=${findings.migration}`)}`,
      ],
    },
  ];
}

const restored: MarkedWorkload['kind'][] = ['StatefulSet', 'Deployment', 'DaemonSet'];

function applicationSteps({ marked }: Findings): Step[] {
  if (marked.length === 0) return [];
  const rank = ({ kind }: MarkedWorkload): number => (restored.includes(kind) ? restored.indexOf(kind) : 9);
  const workloads = marked.filter(({ kind }) => restored.includes(kind)).toSorted((a, b) => rank(a) - rank(b));
  const starters = marked.filter(({ kind }) => !restored.includes(kind));
  const marks = Object.values(breadcrumbs).map((key) => `${key}-`);
  return [
    {
      title: 'Start the applications as they were',
      why: 'Only when the components are ready. The numbers are those that the breadcrumbs carry.',
      commands: workloads.flatMap(restoreCommand),
    },
    {
      title: 'Resume what starts things by itself',
      why: 'Last, when the applications are ready.',
      commands: starters.flatMap(restoreCommand),
    },
    {
      title: 'Take the breadcrumbs away',
      why: 'Only after everything above: they are the only record of how the applications ran.',
      commands: marked.map(
        ({ kind, namespace, name }) =>
          `kubectl -n ${quote(namespace)} annotate ${kind.toLowerCase()} ${quote(name)} ${marks.join(' ')}`,
      ),
    },
  ].filter(({ commands }) => commands.length > 0);
}

function restoreCommand({ kind, namespace, name, marks }: MarkedWorkload): string[] {
  const target = `kubectl -n ${quote(namespace)}`;
  const patch = (body: unknown, type = 'merge'): string =>
    `${target} patch ${kind.toLowerCase()} ${quote(name)} --type=${type} -p ${quote(JSON.stringify(body))}`;
  switch (kind) {
    case 'Deployment':
    case 'StatefulSet': {
      const replicas = marks[breadcrumbs.replicas];
      return replicas !== undefined && /^\d+$/.test(replicas)
        ? [`${target} scale ${kind.toLowerCase()} ${quote(name)} --replicas=${replicas}`]
        : [];
    }
    case 'DaemonSet':
      return [patch({ spec: { template: { spec: { nodeSelector: { [parkedSelector]: null } } } } })];
    case 'CronJob':
      return marks[breadcrumbs.suspend] === 'true' ? [] : [patch({ spec: { suspend: false } })];
    case 'Job':
      return [patch({ spec: { suspend: false } })];
    case 'HorizontalPodAutoscaler': {
      const previous = marks[breadcrumbs.minReplicas];
      return previous !== undefined && /^\d+$/.test(previous)
        ? [patch({ spec: { minReplicas: Number(previous) } })]
        : [];
    }
  }
}
