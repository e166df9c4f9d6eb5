import { describe, expect, it } from 'vitest';
import { describe as componentNamed, managed, paramsOf } from '../../../lab/stand-ins/proton-cli/components.ts';
import { judgeComponent } from '../../../lab/stand-ins/proton-cli/rules/components.ts';
import { judgeConfig } from '../../../lab/stand-ins/proton-cli/rules/config.ts';
import { clusterConfiguration } from '../../../lab/workloads/cluster-config.ts';
import { componentsOf } from '../../../lab/workloads/components.ts';

const namespaces = { resource: 'resource', config: 'proton' };

function machines(names: readonly string[]): { name: string; address: string }[] {
  return names.map((name, index) => ({ name, address: `10.77.0.1${index}` }));
}

function scopeOf(names: readonly string[], profile: 'small' | 'full'): Parameters<typeof paramsOf>[0] {
  const { completed } = judgeConfig({ old: undefined, new: clusterConfiguration(machines(names), profile) });
  if (completed === undefined) throw new Error("the lab's configuration is not accepted");
  return { config: completed, namespaces };
}

describe.each(['small', 'full'] as const)("the lab's components of profile %s", (profile) => {
  const installed = managed.filter(({ name }) => componentsOf(profile).some((component) => component.name === name));
  const keys = installed.map(({ name }) => componentNamed(name).key ?? name);

  it.each(installed)('$name is installed, applied again, and refuses other hosts', ({ name, type, dependencies }) => {
    const component = componentNamed(name);
    const key = component.key ?? name;
    const request = {
      type,
      component: key,
      dependencies,
      other_components: keys.filter((other) => other !== key),
    };
    const params = paramsOf(scopeOf(['old1', 'old2', 'old3'], profile), component);
    const created = judgeComponent({ ...request, method: 'POST', old: null, new: params });
    expect(created).toMatchObject({ verdict: 'accepted', completed_params: { hosts: params['hosts'] } });
    const old = created.completed_params ?? null;
    expect(judgeComponent({ ...request, method: 'PUT', old, new: params })).toMatchObject({ verdict: 'accepted' });
    const moved = paramsOf(scopeOf(['new1', 'new2', 'new3'], profile), component);
    expect(judgeComponent({ ...request, method: 'PUT', old, new: moved })).toMatchObject({
      verdict: 'rejected',
      http_status: 400,
    });
  });
});
