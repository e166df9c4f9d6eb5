import { describe, expect, it } from 'vitest';
import { classifyApply, errorPart, hasSuccessMarker } from '../../../src/activities/apply-failures.ts';

function failed(text: string): { exitCode: number; result: string; stdout: string; stderr: string } {
  return {
    exitCode: 1,
    result: 'exit-code',
    stdout: '\u001b[1;37;42mstart apply cluster conf\u001b[0m\n',
    stderr: `time=10:20:30.123 level=info msg=version info file=        apply.go:41   gitVersion=v3\nError: ${text}\n`,
  };
}

describe('the verdict over a failed apply', () => {
  it.each([
    { text: `unknown shorthand flag: 'p' in -p`, rule: 'unknown-flag', type: 'Permanent' },
    {
      text: 'apply module cs fail: unable to delete nodes: ip of master node "node-1" not found',
      rule: 'master-not-found',
      type: 'Permanent',
    },
    {
      text: 'apply module cs fail: 10.0.0.11: init kubernetes cluster failed: 10.0.0.11: failed to run kubeadm init: exit status 1',
      rule: 'fresh-install',
      type: 'NeedsHuman',
    },
    {
      text: 'invalid: proton_mariadb.hosts: Invalid value: []string{"node-4"}: old hosts must be in front of the slice',
      rule: 'invalid',
      type: 'Permanent',
    },
    {
      text: 'invalid:\n  nodes[0].name: Duplicate value: "a"\n  cs.hosts: undefined\n',
      rule: 'invalid',
      type: 'Permanent',
    },
    {
      text: 'apply module cs fail: unable to add nodes: initial 10.0.0.14 node container runtime failed: unsupported container runtime source: &{<nil> <nil>}',
      rule: 'container-runtime',
      type: 'Permanent',
    },
    {
      text: 'apply module component_manage fail: apply component-manage error: upgrade kafka error: upgrade kafka failed: code: 400 Bad Request, resp: {"code":400024001,"message":"check kafka params error","cause":"hosts can not be change to node-4 from node-1"}',
      rule: 'component-parameters',
      type: 'Permanent',
    },
    {
      text: 'apply module component_manage fail: apply component-manage error: upgrade mariadb error: code: 500 Internal Server Error, resp: {}',
      rule: 'operator-restarting',
      type: 'Transient',
    },
    {
      text: 'apply module nodes fail: set node node-4 fail: invalid status: 401 Unauthorized',
      rule: 'clock-skew',
      type: 'NeedsHuman',
    },
    {
      text: 'apply module cs fail: unable to add nodes: unable to token and certificate: 10.0.0.11: failed to get certificate: exit status 1',
      rule: 'join-keys',
      type: 'NeedsHuman',
    },
    {
      text: 'apply module cs fail: unable to add nodes: node-4: join to cluster master role failed: 10.0.0.14: failed to run kubeadm join: exit status 1',
      rule: 'join',
      type: 'NeedsHuman',
    },
    {
      text: 'apply module cs fail: unable to update kubelet configmap: configmaps "kubelet-config-1.34" not found',
      rule: 'kubelet-configmap',
      type: 'NeedsHuman',
    },
    { text: 'apply module nodes fail: etcd path [/sysvol/x] is not empty', rule: 'etcd-directory', type: 'NeedsHuman' },
    {
      text: 'unable to list charts directory: open service-package/charts: no such file or directory',
      rule: 'package-directory',
      type: 'NeedsHuman',
    },
    { text: 'kubernetes client set is nil', rule: 'kubeconfig', type: 'NeedsHuman' },
    { text: 'apply module nodes fail: set node node-2 fail: exit status 1', rule: 'kubesuite', type: 'Transient' },
    { text: 'apply module cs fail: kubesuite node remove failed: exit status 1', rule: 'kubesuite', type: 'Transient' },
    {
      text: 'apply module cs fail: unable to delete nodes: unable to drain kubernetes node node-1: exit status 1',
      rule: 'node-removal',
      type: 'Transient',
    },
    {
      text: 'unable to upload cluster config to kubernetes: etcdserver: request timed out',
      rule: 'upload',
      type: 'Transient',
    },
    {
      text: 'apply module nodes fail: set node node-4 fail: Post "http://10.0.0.14:9202/api/ecms": dial tcp 10.0.0.14:9202: connect: connection refused',
      rule: 'network',
      type: 'Transient',
    },
    { text: 'apply module cs fail: unable to list kubernetes nodes', rule: 'network', type: 'Transient' },
    { text: 'something nobody has seen before', rule: 'unknown', type: 'NeedsHuman' },
  ])('$rule: $type', ({ text, rule, type }) => {
    const verdict = classifyApply(failed(text));

    expect({ rule: verdict.rule, type: verdict.type }).toEqual({ rule, type });
    expect([verdict.cause, verdict.untouched, verdict.next].every((part) => part.length > 0)).toBe(true);
  });

  it.each([
    { exitCode: 86, rule: 'unreadable-config', type: 'Transient' },
    { exitCode: 87, rule: 'fresh-install-announced', type: 'NeedsHuman' },
    { exitCode: 85, rule: 'guard', type: 'NeedsHuman' },
  ])('the guard said $exitCode: $type', ({ exitCode, rule, type }) => {
    const verdict = classifyApply({ ...failed('connection refused'), exitCode });

    expect(verdict).toMatchObject({ rule, type });
  });

  it.each([
    { result: 'signal', rule: 'killed', type: 'NeedsHuman' },
    { result: 'oom-kill', rule: 'killed', type: 'NeedsHuman' },
    { result: 'lost', rule: 'lost', type: 'Transient' },
  ])('ended without an exit code by $result: $type', ({ result, rule, type }) => {
    const verdict = classifyApply({ exitCode: undefined, result, stdout: '', stderr: 'level=info msg=x\n' });

    expect(verdict).toMatchObject({ rule, type });
  });

  it('knows a crash, which has no error line', () => {
    const stderr =
      'level=info msg=version info\npanic: runtime error: invalid memory address\n\ngoroutine 1 [running]:\n';

    const verdict = classifyApply({ exitCode: 2, result: 'exit-code', stdout: '', stderr });

    expect(verdict).toMatchObject({ rule: 'crash', type: 'NeedsHuman' });
    expect(errorPart(stderr)).toBe('panic: runtime error: invalid memory address');
  });

  it('does not take a word of the log for the error', () => {
    const stderr = 'level=info msg=connection refused, trying again\nError: invalid: nodes: Required value\n';

    expect(classifyApply({ exitCode: 1, result: 'exit-code', stdout: '', stderr }).rule).toBe('invalid');
  });

  it.each([
    {
      stdout: '\u001b[1;37;42mstart apply cluster conf\u001b[0m\n\u001b[1;37;42mApply conf success\u001b[0m\n',
      marker: true,
    },
    { stdout: '\u001b[1;37;42mstart apply cluster conf\u001b[0m\n', marker: false },
  ])('success marker: $marker', ({ stdout, marker }) => {
    expect(hasSuccessMarker(stdout)).toBe(marker);
  });
});
