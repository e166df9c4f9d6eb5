import type { Balanced, Listed, RegistryPorts } from '../slb/haproxy.ts';

type Section = Record<string, unknown>;

function section(value: unknown): Section | undefined {
  return typeof value === 'object' && value !== null ? (value as Section) : undefined;
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

function ports(value: unknown): RegistryPorts {
  const of = (name: string): number => Number(section(value)?.[name] ?? 0);
  return { chartmuseum: of('chartmuseum'), registry: of('registry'), rpm: of('rpm') };
}

/** What stands behind the balancer of every machine, by the cluster's configuration. A name that is no node is left out, without a word. */
export function balancedOf(config: Section): Balanced {
  const known = new Map(
    (Array.isArray(config['nodes']) ? config['nodes'] : []).map((node: unknown) => {
      const { name, ip4, ip6 } = section(node) ?? {};
      return [text(name), text(ip4) || text(ip6)];
    }),
  );
  const listed = (names: unknown): Listed[] =>
    strings(names).flatMap((name) => {
      const address = known.get(name);
      return address === undefined ? [] : [{ name, address }];
    });
  const cs = section(config['cs']);
  const local = section(section(config['cr'])?.['local']);
  return {
    masters: listed(cs?.['master']),
    port: Number(cs?.['ha_port'] ?? 8443),
    ...(local === undefined
      ? {}
      : {
          registry: { hosts: listed(local['hosts']), ports: ports(local['ports']), balanced: ports(local['ha_ports']) },
        }),
  };
}
