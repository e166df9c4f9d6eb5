import { readFileSync } from 'node:fs';
import { componentNamespace, componentRows } from '../../../src/plan/components.ts';
import { planDigest } from '../../../src/plan/digest.ts';
import { planSchema } from '../../../src/plan/plan.ts';
import type { ComponentKind, Plan, PlanInput, PlannedComponent } from '../../../src/plan/plan.ts';

const fixtures = new URL('../../fixtures/platform-data/', import.meta.url);

/** Reads one of the recorded files. */
export function recorded(name: string): unknown {
  return JSON.parse(readFileSync(new URL(name, fixtures), 'utf8'));
}

interface Verdicts {
  documents: Record<string, string>;
}

let verdicts: Verdicts | undefined;

/** A recorded configuration document by name. */
export function recordedConfig(name: string): string {
  verdicts ??= recorded('config-verdicts.json') as Verdicts;
  const text = verdicts.documents[name];
  if (text === undefined) throw new Error(`no recorded document ${name}`);
  return text;
}

/** Names of all recorded configuration documents. */
export function recordedConfigNames(): string[] {
  verdicts ??= recorded('config-verdicts.json') as Verdicts;
  return Object.keys(verdicts.documents);
}

const paths: Partial<Record<ComponentKind, string>> = {};
const hostCounts: Partial<Record<ComponentKind, number>> = { prometheus: 2, grafana: 1, 'proton-monitor': 1 };

/** The components of the recorded document `base`, moved from node-1..3 to node-4..6. */
export function sampleComponents(): PlannedComponent[] {
  const context = { resourceNamespace: 'resource' };
  return componentRows.map((row) => {
    const path = paths[row.kind] ?? row.defaultDataPath;
    return {
      kind: row.kind,
      namespace: componentNamespace(row, context),
      statefulSets: row.statefulSets(context),
      dataPath: path,
      newDataPath: path,
      replicas: Array.from({ length: hostCounts[row.kind] ?? 3 }, (_, ordinal) => ({
        ordinal,
        from: `node-${ordinal + 1}`,
        to: `node-${ordinal + 4}`,
        pod: row.pod(ordinal, context),
        pvc: row.pvc(ordinal, context),
        pv: row.pv(ordinal, context),
      })),
    };
  });
}

/** A valid plan for the recorded document `base`; `change` may alter it before its digest is made. */
export function samplePlan(change: (plan: PlanInput) => void = () => undefined): Plan {
  const hosts = ['node-1', 'node-2', 'node-3', 'node-4', 'node-5', 'node-6'];
  const components = sampleComponents();
  const input: PlanInput = {
    apiVersion: 'ferry.migration/v1',
    kind: 'MigrationPlan',
    cluster: 'sample',
    author: 'ops',
    createdAt: '2026-11-23T08:00:00Z',
    platform: { controlHost: 'node-1', packageDirectory: '/opt/proton-package', containerRuntime: 'docker' },
    hosts: hosts.map((name, index) => ({
      name,
      address: `10.0.0.${index + 11}`,
      hostKeys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGludmVudGVkIGhvc3Qga2V5IG9mIGEgc2FtcGxl'],
      role: index < 3 ? 'old' : 'new',
    })),
    mapping: [
      { from: 'node-1', to: 'node-4' },
      { from: 'node-2', to: 'node-5' },
      { from: 'node-3', to: 'node-6' },
    ],
    nodes: {
      add: [
        { name: 'node-4', ip4: '10.0.0.14', controlPlane: true },
        { name: 'node-5', ip4: '10.0.0.15', controlPlane: true },
        { name: 'node-6', ip4: '10.0.0.16', controlPlane: true },
      ],
      remove: ['node-1', 'node-2', 'node-3'],
    },
    components,
    transfers: components.flatMap((component) =>
      component.replicas.map((replica) => ({
        id: `${component.kind}-${replica.ordinal}`,
        subject: { type: 'component' as const, component: component.kind, ordinal: replica.ordinal },
        source: { host: replica.from, path: component.dataPath },
        destination: { host: replica.to, path: component.newDataPath },
        observed: { bytes: 1_000_000, files: 10, freeBytes: 100_000_000_000 },
      })),
    ),
    containerRegistry: 're-push',
    applications: { namespaces: ['anyshare'] },
    digest: `sha256:${'0'.repeat(64)}`,
  };
  change(input);
  const plan = planSchema.parse(input);
  return { ...plan, digest: planDigest(plan) };
}
