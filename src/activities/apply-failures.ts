import { guardExit } from './apply-guard.ts';
import type { FailureType } from './contract.ts';

/** How an apply ended, as far as its verdict needs it. */
export interface ApplyOutcome {
  exitCode: number | undefined;
  /** systemd's Result, e.g. success, exit-code, signal, oom-kill. */
  result: string | undefined;
  stdout: string;
  stderr: string;
}

export interface ApplyVerdict {
  type: FailureType;
  cause: string;
  untouched: string;
  next: string;
}

interface Rule extends ApplyVerdict {
  name: string;
  /** Looked for in the tool's error text. */
  pattern: RegExp;
}

const secretKept = 'the Secret proton-cli-config: it is written only at the end of a successful apply';
const retried = 'it is tried again by itself; if it stays so, repair the cause, then: ferry resume';

/**
 * Error texts of the tool and how they heal, most particular first. The same file may be applied again after any of them; what decides
 * is whether another try can end differently without somebody doing something.
 */
const rules: readonly Rule[] = [
  {
    name: 'unknown-flag',
    pattern: /unknown (shorthand )?flag/,
    type: 'Permanent',
    cause: 'this proton-cli does not know a flag it was given',
    untouched: 'everything; the tool stopped before it read the file',
    next: 'compare proton-cli version with the plan, then: ferry abort',
  },
  {
    name: 'master-not-found',
    pattern: /ip of master node ".*" not found/,
    type: 'Permanent',
    cause:
      'the tool runs node removal on the first control-plane node by name, and that one is itself among the nodes to be removed; another try ends the same way',
    untouched: `all nodes; ${secretKept}`,
    next: 'take these nodes out one at a time outside of apply (drain, etcd member remove, kubeadm reset, kubectl delete node), then: ferry resume',
  },
  {
    name: 'fresh-install',
    pattern: /init kubernetes cluster failed|failed to run kubeadm init/,
    type: 'NeedsHuman',
    cause:
      'the tool could not read the recorded configuration and started a fresh install; kubelet is stopped on every node and /tmp/kubeadm-config.yaml is overwritten',
    untouched: `data, etcd and running containers; ${secretKept}`,
    next: 'on every node: systemctl start kubelet; put /tmp/kubeadm-config.yaml back on the first master; then: ferry resume',
  },
  {
    name: 'invalid',
    pattern: /^invalid:/m,
    type: 'Permanent',
    cause: 'the platform rejects this configuration',
    untouched: `everything; validation comes before the first change; ${secretKept}`,
    next: 'compare both Secrets with the plan (ferry check), then: ferry abort',
  },
  {
    name: 'container-runtime',
    pattern: /unsupported container runtime source/,
    type: 'Permanent',
    cause: 'cs.container_runtime is missing in the configuration, so the platform cannot add nodes',
    untouched: `old nodes and data; ${secretKept}`,
    next: 'add cs.container_runtime with proton-cli edit conf, make a new plan, then: ferry abort and start again',
  },
  {
    name: 'component-parameters',
    pattern: /code: 400 Bad Request/,
    type: 'Permanent',
    cause: 'component-manage rejects the parameters of a component: what it has recorded does not agree with the file',
    untouched: `data directories; ${secretKept}`,
    next: 'compare persist-component-manage-components with the plan (ferry check), then: ferry abort',
  },
  {
    name: 'clock-skew',
    pattern: /invalid status: 401 Unauthorized/,
    type: 'NeedsHuman',
    cause: 'a node refused the token of its agent on port 9202: its clock differs by more than a minute',
    untouched: secretKept,
    next: 'bring the clocks together (chronyc tracking on every node), then: ferry resume',
  },
  {
    name: 'join-keys',
    pattern: /failed to get certificate|unable to token and certificate/,
    type: 'NeedsHuman',
    cause:
      'the first master could not make the keys for joining: most likely /tmp/kubeadm-config.yaml is missing there',
    untouched: `old nodes and data; new nodes are prepared, not joined; ${secretKept}`,
    next: 'put /tmp/kubeadm-config.yaml on the first master (kubeadm config from ConfigMap kube-system/kubeadm-config), then: ferry resume',
  },
  {
    name: 'join',
    pattern: /join to cluster \w+ role failed|failed to run kubeadm join/,
    type: 'NeedsHuman',
    cause: 'a new node could not join; leftovers of the try make the next one fail in its preflight',
    untouched: `old nodes and data; ${secretKept}`,
    next: 'on the new node: kubeadm reset --force; see /var/log/ecms/server.log there; then: ferry resume',
  },
  {
    name: 'kubelet-configmap',
    pattern: /unable to update kubelet configmap/,
    type: 'NeedsHuman',
    cause: 'the tool asks for a versioned kubelet ConfigMap, which this Kubernetes does not make any more',
    untouched: `data; nodes are added already; ${secretKept}`,
    next: 'copy ConfigMap kube-system/kubelet-config to the name in the message, then: ferry resume',
  },
  {
    name: 'etcd-directory',
    pattern: /etcd path \[.*\] is not empty/,
    type: 'NeedsHuman',
    cause: 'the directory for etcd on a node is not empty',
    untouched: secretKept,
    next: 'look at that directory; cs.etcd_data_dir must not change in a migration; then: ferry resume',
  },
  {
    name: 'package-directory',
    pattern: /unable to list charts directory/,
    type: 'NeedsHuman',
    cause: 'the package directory has no service-package/charts',
    untouched: 'everything',
    next: 'extract the dependency package into platform.packageDirectory of the plan, then: ferry resume',
  },
  {
    name: 'kubeconfig',
    pattern: /kubernetes client set is nil/,
    type: 'NeedsHuman',
    cause: 'the tool found no kubeconfig in the home directory of its user',
    untouched: secretKept,
    next: 'put the kubeconfig to .kube/config in platform.home of the plan, then: ferry resume',
  },
  {
    name: 'control-plane-node',
    pattern: /control plane node not found/,
    type: 'NeedsHuman',
    cause: 'no Node carries a control-plane label',
    untouched: `all nodes; ${secretKept}`,
    next: 'kubectl get nodes --show-labels, then: ferry resume',
  },
  {
    name: 'kubesuite',
    pattern: /kubesuite|set node \S+ fail: exit status \d+/i,
    type: 'Transient',
    cause: 'the node part of the tool failed on a node, which it is known to do when several nodes leave at once',
    untouched: `components and data; ${secretKept}`,
    next: retried,
  },
  {
    name: 'node-removal',
    pattern: /unable to (drain|cordon|delete) kubernetes node/,
    type: 'Transient',
    cause: 'draining or deleting a node failed; nodes are deleted only after all of them are drained',
    untouched: `data; ${secretKept}`,
    next: `${retried}; a pod without a controller or a PodDisruptionBudget keeps a drain from ending: kubectl get pods -A -o wide, kubectl get pdb -A`,
  },
  {
    name: 'operator-restarting',
    pattern: /code: 5\d\d|failed calling webhook/,
    type: 'Transient',
    cause: 'component-manage or the webhook of an operator did not answer yet',
    untouched: `data; ${secretKept}`,
    next: retried,
  },
  {
    name: 'upload',
    pattern: /unable to upload cluster config to kubernetes/,
    type: 'Transient',
    cause: 'all modules are done, but the API did not take the configuration',
    untouched: secretKept,
    next: retried,
  },
  {
    name: 'network',
    pattern:
      /connection refused|connection reset|no route to host|i\/o timeout|TLS handshake timeout|context deadline exceeded|unable to list kubernetes nodes|etcdserver|\bEOF\b|too many requests/i,
    type: 'Transient',
    cause: 'a node or the API did not answer',
    untouched: secretKept,
    next: `${retried}; agents of the nodes: systemctl status ecms (port 9202), proton_slb_manager (port 9547)`,
  },
];

/** The verdict over an apply that did not succeed. What no rule knows is left to a person: an apply is nothing to try at random. */
export function classifyApply(outcome: ApplyOutcome): ApplyVerdict & { rule: string } {
  if (outcome.exitCode === guardExit.pause) {
    return {
      rule: 'unreadable-config',
      type: 'Transient',
      cause:
        'proton-cli did not read the recorded configuration at once, and would have installed a new cluster over this one; it was ended before its first change',
      untouched: 'everything: the tool was ended before its first module',
      next: retried,
    };
  }
  if (outcome.exitCode === guardExit.freshInstall) {
    return {
      rule: 'fresh-install-announced',
      type: 'NeedsHuman',
      cause:
        'proton-cli announced a fresh install of Kubernetes on this cluster and was killed at that line; kubelets may have been stopped',
      untouched: `data and running containers; ${secretKept}`,
      next: 'on every node: systemctl is-active kubelet containerd, start what is stopped; check /tmp/kubeadm-config.yaml on the first master; then: ferry resume',
    };
  }
  if (outcome.exitCode === guardExit.broken) {
    return {
      rule: 'guard',
      type: 'NeedsHuman',
      cause: 'the guard around proton-cli could not work (mktemp or mkfifo failed)',
      untouched: 'everything: proton-cli was not started',
      next: 'see to space and rights in /tmp on the control host, then: ferry resume',
    };
  }
  const text = errorPart(outcome.stderr);
  const rule = rules.find(({ pattern }) => pattern.test(text));
  if (rule !== undefined) {
    const { name, pattern: _pattern, ...verdict } = rule;
    return { rule: name, ...verdict };
  }
  if (outcome.exitCode === 2 || /^panic: |^goroutine \d+ \[/m.test(outcome.stderr)) {
    return {
      rule: 'crash',
      type: 'NeedsHuman',
      cause:
        'proton-cli crashed; known causes: no chart component-manage in the package, a configuration without cs or cr',
      untouched: secretKept,
      next: 'see the log of the apply on the control host, repair package or configuration, then: ferry resume',
    };
  }
  if (outcome.exitCode === undefined && outcome.result === 'lost') {
    return {
      rule: 'lost',
      type: 'Transient',
      cause: 'the apply ended without an exit code: the control host went down under it, or it was killed',
      untouched: secretKept,
      next: retried,
    };
  }
  if (
    outcome.exitCode === undefined ||
    (outcome.result !== undefined && /signal|oom|core|timeout/.test(outcome.result))
  ) {
    return {
      rule: 'killed',
      type: 'NeedsHuman',
      cause: `proton-cli was ended from outside (${outcome.result ?? 'no exit code'})`,
      untouched: secretKept,
      next: 'find out who ended it (journalctl on the control host); applying the same file again is safe: ferry resume',
    };
  }
  return {
    rule: 'unknown',
    type: 'NeedsHuman',
    cause: 'proton-cli failed in a way that is not known',
    untouched: secretKept,
    next: 'read the message and the log of the apply; applying the same file again is safe: ferry resume',
  };
}

/** The tool's own error: from `Error: ` to the end of stderr, else the first line of a crash, else the last line. */
export function errorPart(stderr: string): string {
  const start = stderr.lastIndexOf('\nError: ');
  if (stderr.startsWith('Error: ') && start < 0) return stderr.slice('Error: '.length).trim();
  if (start >= 0) return stderr.slice(start + '\nError: '.length).trim();
  const crash = /^panic: .*$/m.exec(stderr);
  return (crash?.[0] ?? stderr.trimEnd().split('\n').at(-1) ?? '').trim();
}

/** What stdout of a successful apply holds. */
export function hasSuccessMarker(stdout: string): boolean {
  return stdout.includes('Apply conf success');
}
