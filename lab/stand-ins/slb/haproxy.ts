/** The document that the platform keeps per machine for its load balancer, and the configuration that haproxy gets from it. */

/** Keywords of a section of haproxy's configuration with their arguments; several lines of the same keyword as an array. */
export type Section = Readonly<Record<string, string | readonly string[]>>;

export interface HaproxyDocument {
  conf: {
    global: Section;
    defaults: Section;
    frontend: Readonly<Record<string, Section>>;
    backend: Readonly<Record<string, Section>>;
  };
}

export interface Listed {
  name: string;
  address: string;
}

export interface RegistryPorts {
  chartmuseum: number;
  registry: number;
  rpm: number;
}

export interface Balanced {
  /** In the order of the configuration: the first one that answers takes all connections. */
  masters: readonly Listed[];
  port: number;
  registry?: { hosts: readonly Listed[]; ports: RegistryPorts; balanced: RegistryPorts };
}

const defaultPorts: RegistryPorts = { chartmuseum: 15001, registry: 15000, rpm: 15003 };

function server({ name, address }: Listed, port: number): string {
  return `${name} ${address.includes(':') ? `[${address}]` : address}:${port} check`;
}

function backend(check: string, servers: readonly string[], defaults: string): Section {
  return {
    option: [` httpchk GET ${check} HTTP/1.0`, ' log-health-checks'],
    'default-server': defaults,
    'http-check': 'expect status 200',
    balance: 'first',
    server: servers,
    mode: 'tcp',
  };
}

/** As the platform's tool builds it: whole, every time. */
export function haproxyDocument({ masters, port, registry }: Balanced): HaproxyDocument {
  const balanced = registry?.balanced ?? defaultPorts;
  const frontend = (name: string, number: number): Section => ({
    bind: `:::${number} v4v6`,
    mode: 'tcp',
    default_backend: name,
  });
  const of = (kind: keyof RegistryPorts): string[] =>
    (registry?.hosts ?? []).map((host) => server(host, registry?.ports[kind] ?? 0));
  const checked =
    'verify none check-ssl inter 3s downinter 5s rise 2 fall 2 slowstart 60s maxconn 5000 maxqueue 5000 weight 100';
  return {
    conf: {
      global: { log: '/dev/log local0', maxconn: '50000' },
      defaults: { maxconn: '5000', mode: '   tcp', timeout: 'tunnel       86400s', option: ' dontlognull' },
      frontend: {
        cs: frontend('cs', port),
        'cr-chartmuseum': frontend('cr-chartmuseum', balanced.chartmuseum),
        'cr-rpm': frontend('cr-rpm', balanced.rpm),
        'cr-registry': frontend('cr-registry', balanced.registry),
      },
      backend: {
        cs: backend(
          '/readyz',
          masters.map((master) => server(master, 6443)),
          checked,
        ),
        'cr-rpm': backend('/', of('rpm'), ''),
        'cr-registry': backend('/', of('registry'), ''),
        'cr-chartmuseum': backend('/health', of('chartmuseum'), ''),
      },
    },
  };
}

function lines(section: Section): string[] {
  return Object.entries(section).flatMap(([keyword, value]) =>
    [value]
      .flat()
      .filter((line) => line !== '')
      .map((line) => `  ${keyword} ${line}`),
  );
}

export function renderHaproxy({ conf }: HaproxyDocument): string {
  const named = (kind: string, sections: Readonly<Record<string, Section>>): string[] =>
    Object.entries(sections).flatMap(([name, section]) => [`${kind} ${name}`, ...lines(section)]);
  return [
    ...['global', ...lines(conf.global), 'defaults', ...lines(conf.defaults)],
    ...[...named('frontend', conf.frontend), ...named('backend', conf.backend), ''],
  ].join('\n');
}
