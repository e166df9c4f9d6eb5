/**
 * The three operators of the lab in one program: `main.ts mariadb | mongodb | nebula`. Runs as the pod of the platform's operator
 * Deployment, so that an operator that is down, restarted or not the leader behaves as such.
 */
import { createServer } from 'node:http';
import { inClusterApi } from './api.ts';
import { Controller, holdLease, type OperatorKind } from './controller.ts';

function log(line: string): void {
  console.log(`${new Date().toISOString()} ${line}`);
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function main(): Promise<void> {
  const kind = process.argv[2];
  if (kind !== 'mariadb' && kind !== 'mongodb' && kind !== 'nebula')
    throw new Error('usage: main.ts mariadb | mongodb | nebula');
  const api = await inClusterApi();
  const environment = (name: string): string => process.env[name] ?? '';
  const controller = new Controller(kind satisfies OperatorKind, api, log, {
    image: environment('IMAGE'),
    sideImage: environment('SIDE_IMAGE'),
    sides: environment('SIDES') === 'true',
    mariadbArguments: environment('MARIADB_ARGUMENTS').split(' ').filter(Boolean),
    reclaim: environment('RECLAIM') === 'true',
  });
  const lease = { namespace: environment('POD_NAMESPACE'), name: `${kind}-operator`, holder: environment('POD_NAME') };
  createServer((_, response) => response.end('ok\n')).listen(8081);
  process.once('SIGTERM', () => process.exit(0));
  log(`${kind} operator started`);
  for (;;) {
    try {
      if (await holdLease(api, lease, Date.now())) await controller.round();
      else controller.stopWatching();
    } catch (error) {
      log(`round failed: ${error instanceof Error ? error.message : String(error)}`);
    }
    await pause(1000);
  }
}

await main();
