import { connect } from 'node:net';
import type { Host } from '../plan/plan.ts';
import { lastLines, localRunner, type CommandRunner } from './helm.ts';

/* What can be said about a machine that does not answer, from the worker and without its help. */

export interface Reachability {
  /** Sentences without a full stop: ping, port of ssh. */
  facts: string[];
  /** Something of it answers: it is powered on, whatever it is doing. */
  alive: boolean;
}

const patience = 2000;

export async function lookFromOutside(host: Host, local: CommandRunner = localRunner): Promise<Reachability> {
  const [ping, port] = await Promise.all([askPing(host.address, local), askPort(host.address, host.port)]);
  return { facts: [ping.fact, port.fact], alive: ping.alive || port.alive };
}

interface Sign {
  fact: string;
  alive: boolean;
}

async function askPing(address: string, local: CommandRunner): Promise<Sign> {
  const result = await local
    .run(['ping', '-c', '1', '-W', '2', '--', address], { timeout: 5000 })
    .catch((error: unknown) => ({ code: null, stderr: error instanceof Error ? error.message : String(error) }));
  if (result.code === 0) return { fact: `${address} answers ping`, alive: true };
  if (result.code === 1) return { fact: `${address} does not answer ping`, alive: false };
  // No such program, or a worker that may not open the socket for it: that says nothing about the machine.
  const why = result.code === 127 ? 'the worker has no ping' : lastLines(result.stderr, 1);
  return { fact: `ping was not tried${why === '' ? '' : ` (${why})`}`, alive: false };
}

function askPort(address: string, port: number): Promise<Sign> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    const end = (fact: string, alive: boolean): void => {
      socket.destroy();
      resolve({ fact, alive });
    };
    socket.setTimeout(patience, () => end(`its ssh port ${port} does not answer`, false));
    socket.once('connect', () => end(`its ssh port ${port} accepts connections`, true));
    socket.once('error', ({ code }: NodeJS.ErrnoException) => {
      // Only a machine that runs can refuse.
      if (code === 'ECONNREFUSED') end(`its ssh port ${port} refuses connections`, true);
      else end(`its ssh port ${port} cannot be reached (${code ?? 'no code'})`, false);
    });
  });
}

/** ` (console: https://…)`, from the plan. */
export function consoleOf(host: Host): string {
  return host.bmc === undefined ? `the console of ${host.name}` : `the console of ${host.name} (${host.bmc})`;
}
