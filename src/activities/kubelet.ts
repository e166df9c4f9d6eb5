import type { HostConnection, Hosts } from '../hosts/contract.ts';
import { CommandTimedOut, HostUnreachable } from '../hosts/errors.ts';
import type { Host } from '../plan/plan.ts';
import { needsHuman, networkCode } from './failures.ts';
import { lastLines } from './helm.ts';
import { runScript, tryScript } from './host-script.ts';
import { poll } from './polling.ts';

/* What a machine does for Kubernetes by itself, and how it ends. */

/** `disabled` counts for units that nothing enables at all. */
const kubeletScript = `
load=$(systemctl show --property=LoadState --value kubelet.service) || return 1
echo "load=$load"
echo "active=$(systemctl show --property=ActiveState --value kubelet.service)"
echo "file=$(systemctl show --property=UnitFileState --value kubelet.service)"`;

interface KubeletState {
  exists: boolean;
  active: boolean;
  /** Starts by itself at the next boot. */
  enabled: boolean;
}

export async function kubeletState(connection: HostConnection): Promise<KubeletState> {
  const text = await runScript(connection, 'looking at kubelet', kubeletScript);
  const field = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1] ?? '';
  return {
    exists: field('load') !== 'not-found',
    active: !['inactive', 'failed'].includes(field('active')),
    enabled: ['enabled', 'enabled-runtime', 'linked', 'linked-runtime', 'alias'].includes(field('file')),
  };
}

/** Stops kubelet and keeps it from starting at the next boot; answers whether there was anything to do. Its containers run on. */
export async function stopKubelet(connection: HostConnection): Promise<boolean> {
  const before = await kubeletState(connection);
  if (!before.active && !before.enabled) return false;
  // Disabled first: a machine that loses its power in between must not come back as a node.
  const script = 'systemctl disable kubelet.service && systemctl stop kubelet.service';
  const result = await tryScript(connection, script, [], { timeout: 180_000 });
  const after = await kubeletState(connection);
  if (!after.active && !after.enabled) return true;
  const { name } = connection.host;
  throw needsHuman({
    what: `kubelet on ${name} does not stay stopped and disabled`,
    cause: lastLines(result.stderr) || `it is ${after.active ? 'active' : 'enabled'} still`,
    untouched: 'the data directories, and the other masters',
    next: `systemctl disable --now kubelet on ${name}, find out what enables it, then: ferry resume`,
  });
}

/** Local TCP ports on which something listens, of /proc/net/tcp and /proc/net/tcp6. */
export function parseListening(text: string): Set<number> {
  const ports = new Set<number>();
  for (const line of text.split('\n')) {
    // sl local_address rem_address st …; 0A is LISTEN
    const match = /^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} 0A /.exec(line);
    if (match?.[1] !== undefined) ports.add(Number.parseInt(match[1], 16));
  }
  return ports;
}

/** Which of these ports something on the machine listens on. */
export async function listeningPorts(connection: HostConnection, ports: readonly number[]): Promise<number[]> {
  // Not every kernel has IPv6.
  const script = 'cat /proc/net/tcp || return 1; if [ -e /proc/net/tcp6 ]; then cat /proc/net/tcp6; fi';
  const found = parseListening(
    await runScript(connection, 'looking at listening ports', script, [], { maxOutput: 64 * 1024 * 1024 }),
  );
  return ports.filter((port) => found.has(port));
}

/**
 * The connection, or undefined when the machine stays silent for a while. One that answers and refuses the key is no silent one: that
 * is thrown.
 */
export async function connectUnlessAway(
  hosts: Hosts,
  host: Host,
  deadline: number,
): Promise<HostConnection | undefined> {
  try {
    return await poll(
      async () => {
        try {
          const connection = await hosts.connect(host);
          await connection.run(['true'], { timeout: 15_000 });
          return { done: true, value: connection };
        } catch (error) {
          if (!isAway(error)) throw error;
          return { done: false, waiting: `${host.name} does not answer` };
        }
      },
      { deadline, interval: 3000 },
      (waiting) => new Away(waiting),
    );
  } catch (error) {
    if (error instanceof Away) return undefined;
    throw error;
  }
}

class Away extends Error {}

export function isAway(error: unknown): boolean {
  return error instanceof HostUnreachable || error instanceof CommandTimedOut || networkCode(error) !== undefined;
}
