import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import type { PlanInput } from '../../../src/plan/plan.ts';
import { parsePlan } from '../../../src/plan/validate.ts';
import { samplePlan } from './samples.ts';

type Draft = PlanInput & Record<string, never>;

const packageTransfer: PlanInput['transfers'][number] = {
  id: 'host-node-1-package',
  subject: { type: 'host-service', service: 'package' },
  source: { host: 'node-1', path: '/opt/proton-package' },
  destination: { host: 'node-4', path: '/opt/proton-package' },
};

/** Errors of the sample plan with three stacked masters, after a change. */
function errorsAfter(change: (plan: Draft) => void): string[] {
  const draft = structuredClone(samplePlan()) as unknown as Draft;
  draft.platform.packageDirectory = '/opt/proton-package';
  draft.controlPlane = { etcd: 'stacked', masters: ['node-1', 'node-2', 'node-3'] } as never;
  draft.transfers.push(structuredClone(packageTransfer));
  change(draft);
  const result = parsePlan(stringify(draft, { aliasDuplicateObjects: false }), 'yaml', { digest: 'ignore' });
  return result.ok ? [] : result.errors.map((error) => `${error.path}: ${error.message}`);
}

describe('a plan for stacked masters', () => {
  it('is valid, and its package travels without any host service being stopped', () => {
    expect(errorsAfter(() => undefined)).toEqual([]);
  });

  it.each<[string, (plan: Draft) => void, RegExp]>([
    [
      'a master twice',
      (p) => (p.controlPlane!.masters[1] = 'node-1'),
      /^controlPlane\.masters\[1\]: node-1 stands already in masters\[0\]/,
    ],
    [
      'an unknown master',
      (p) => (p.controlPlane!.masters[2] = 'node-9'),
      /^controlPlane\.masters\[2\]: unknown node node-9/,
    ],
    [
      'a master that is only added',
      (p) => (p.controlPlane!.masters[2] = 'node-4'),
      /node-4 is only added by this plan/,
    ],
    [
      'a control host that is no master',
      (p) => p.controlPlane!.masters.shift(),
      /^platform\.controlHost: node-1 is none of the masters node-2, node-3/,
    ],
    [
      'no master left',
      (p) => {
        for (const node of p.nodes.add) node.controlPlane = false;
        p.transfers.pop();
      },
      /^nodes\.remove: no master would be left/,
    ],
    [
      'kubelets of more masters stopped than may be lost',
      (p) => (p.hostServices = { hosts: ['node-1', 'node-2', 'node-3'], units: ['kubelet.service'] } as never),
      /^hostServices\.units: stops kubelet or the container runtime on node-1, node-2, node-3 at once: of 6 members of etcd only 2 may be away/,
    ],
    [
      'a package for somebody else',
      (p) => (p.transfers.at(-1)!.destination.host = 'node-5'),
      /destination: must be node-4:\/opt\/proton-package/,
    ],
  ])('refuses %s', (_what, change, expected) => {
    expect(errorsAfter(change)).toEqual(expect.arrayContaining([expect.stringMatching(expected) as string]));
  });

  it('may stop the registry on as many masters as it likes, and kubelet on as many as may be lost', () => {
    const hosts = ['node-1', 'node-2', 'node-3'];
    expect(errorsAfter((p) => (p.hostServices = { hosts, units: ['proton-cr'] } as never))).toEqual([]);
    expect(errorsAfter((p) => (p.hostServices = { hosts: hosts.slice(1), units: ['kubelet'] } as never))).toEqual([]);
  });
});
