import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { ensureImages, ensureParts } from './build/parts.ts';
import { faults } from './faults.ts';
import { endLab, hostNamed, sshArguments } from './machines/machines.ts';
import { allHosts, controlPlanes, files, isControlPlane, labName, labState } from './paths.ts';
import { enter, readPid, say } from './process.ts';
import { labEnvironment, up } from './up.ts';

const help = `lab: real machines, a real Kubernetes and a real Temporal server on one machine

  npm run -s lab -- build                  what the lab needs, into the cache
  npm run -s lab -- up [--control-plane beside|stacked] [--light] [--hosts old1,new1] [--while PID] [--no-temporal]
                       [--no-platform] [--ui-port N]
  npm run -s lab -- down
  npm run -s lab -- status
  npm run -s lab -- ssh HOST [COMMAND…]
  npm run -s lab -- run COMMAND…           with KUBECONFIG, TEMPORAL_ADDRESS and PATH of the lab
  npm run -s lab -- break FAULT …          ${Object.keys(faults).join(' ')}
  npm run -s lab -- judge CASES.json       the stand-in's verdicts on recorded or new cases

LAB_NAME names one of several labs, LAB_PROFILE=small|full chooses the components, LAB_CACHE the cache.`;

/** Runs a command with this terminal and answers its exit code; what interrupts us interrupts it. */
function attached(argv: readonly string[], env: Record<string, string> = {}): Promise<number> {
  const [file = '', ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: 'inherit', env: { ...process.env, ...env } });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

async function upCommand(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      light: { type: 'boolean', default: false },
      'control-plane': { type: 'string', default: 'beside' },
      hosts: { type: 'string' },
      while: { type: 'string' },
      'no-temporal': { type: 'boolean', default: false },
      'no-platform': { type: 'boolean', default: false },
      'ui-port': { type: 'string' },
    },
  });
  const controlPlane = values['control-plane'];
  if (!isControlPlane(controlPlane))
    throw new Error(`no such control plane: ${controlPlane}; there are ${controlPlanes.join(' and ')}`);
  const uiPort = values['ui-port'] ?? (labName === 'lab' ? '8233' : undefined);
  const ports = uiPort === undefined ? undefined : { ui: Number(uiPort), frontend: Number(uiPort) - 1000 };
  try {
    await up({
      light: values.light,
      controlPlane,
      hosts: values.hosts === undefined ? allHosts : values.hosts.split(',').map(hostNamed),
      ...(values.while === undefined ? {} : { whilePid: Number(values.while) }),
      temporal: !values['no-temporal'],
      platform: !values['no-platform'],
      ports,
    });
    return 0;
  } catch (error) {
    console.error(`lab: ${error instanceof Error ? error.message : String(error)}`);
    if (existsSync(files.ready) || (error as Error).message.includes('already up')) return 1;
    if (process.env['LAB_KEEP'] === '1' && existsSync(labState)) {
      writeFileSync(files.ready, '{"failed":true}');
      console.error(`LAB_KEEP=1: what is there stays, state in ${labState}`);
    } else await endLab();
    return 1;
  }
}

function status(): number {
  const keeper = readPid(files.keeper);
  if (keeper === undefined) {
    console.log(`lab ${labName} is down`);
    return 1;
  }
  const ready = existsSync(files.ready) ? readFileSync(files.ready, 'utf8') : 'coming up';
  console.log(`lab ${labName} is up (keeper ${keeper}), state in ${labState}: ${ready}`);
  return 0;
}

async function main(): Promise<number> {
  const [command, ...args] = process.argv.slice(2);
  switch (command) {
    case 'build':
      await ensureParts();
      await ensureImages(true);
      say('everything is in the cache');
      return 0;
    case 'up':
      return upCommand(args);
    case 'down':
      console.error((await endLab()) ? `lab ${labName} is down` : `lab ${labName} was not up`);
      return 0;
    case 'status':
      return status();
    case 'ssh': {
      const [name, ...rest] = args;
      const { quoteCommand } = await import('../src/hosts/quote.ts');
      // one word is a line for the machine's shell, as with ssh; several are a command with its arguments
      const tail = rest.length === 0 ? [] : ['--', rest.length === 1 ? (rest[0] ?? '') : quoteCommand(rest)];
      return attached(enter([...sshArguments(hostNamed(name)), ...tail]));
    }
    case 'run':
      if (args.length === 0) throw new Error('run what? npm run -s lab -- run COMMAND…');
      return attached(enter(['env', '--', ...args]), labEnvironment());
    case 'break': {
      const [name = '', ...rest] = args;
      const fault = faults[name];
      if (fault === undefined) throw new Error(`no such fault: ${name}; there are ${Object.keys(faults).join(', ')}`);
      await fault(rest);
      return 0;
    }
    case 'judge': {
      const [file] = args;
      if (file === undefined) throw new Error('judge what? npm run -s lab -- judge CASES.json');
      const { judgeFile } = await import('./stand-ins/proton-cli/judge.ts');
      return judgeFile(file);
    }
    case '--help':
    case 'help':
    case undefined:
      console.log(help);
      return command === undefined ? 2 : 0;
    default:
      console.error(`lab: no such command: ${command}\n\n${help}`);
      return 2;
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`lab: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
