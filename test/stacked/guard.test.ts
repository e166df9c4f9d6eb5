/* An apply that does not see the API, on masters that would lose their kubelets by it. Inside a lab with a stacked control plane. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { faults } from '../../lab/faults.ts';
import { hostNamed, onMachine } from '../../lab/machines/machines.ts';
import { allHosts } from '../../lab/paths.ts';
import { pause, poll } from '../../lab/process.ts';
import { run } from '../../lab/workloads/run.ts';
import { guardExit, guardPauseSeconds, guardScript } from '../../src/activities/apply-guard.ts';
import type { HostConnection, Hosts, JobState } from '../../src/hosts/contract.ts';
import { createJobs } from '../../src/hosts/jobs.ts';
import { labHosts, machine, script } from '../hosts/machines.ts';

const old1 = hostNamed('old1');
/** A home of its own, so that whatever comes after this file finds that of root as it was. */
const home = '/root/mute';
const port = 18443;
const jobs = createJobs();
const kubeletSince = 'systemctl is-active kubelet; systemctl show -P ActiveEnterTimestampMonotonic kubelet';
let hosts: Hosts;
let connection: HostConnection;

beforeAll(async () => {
  if (process.env['LAB_CONTROL_PLANE'] !== 'stacked')
    throw new Error('this needs a stacked lab: npm run -s lab -- up --control-plane stacked');
  hosts = await labHosts();
  connection = await hosts.connect(await machine('old1'));
  await script(
    connection,
    `install -d -m 0700 ${home} ${home}/.kube
    printf 'resource_namespace: resource\\nproton_cli_config_namespace: proton\\n' > ${home}/.proton-cli.yaml
    (umask 077; proton-cli get conf > ${home}/apply.yaml
      sed -E 's#(server: https://[^:]+):[0-9]+#\\1:${port}#' /root/.kube/config > ${home}/.kube/config)
    grep -q ':${port}$' ${home}/.kube/config
    systemd-run --quiet --unit=mute-api /opt/node/bin/node -e 'require("net").createServer().listen(${port})'`,
  );
  await connection.writeFile(`${home}/guard.sh`, guardScript, 0o700);
});
afterAll(async () => {
  await onMachine(old1, `systemctl stop mute-api; rm -rf ${home}`, { allowFailure: true });
  await hosts.close();
});

/** Of every machine that is a node: whether its kubelet runs, and since when. */
async function kubelets(): Promise<string[]> {
  const { stdout } = await run(['kubectl', 'get', 'nodes', '-o', 'name']);
  const names = stdout
    .trim()
    .split('\n')
    .map((name) => name.replace('node/', ''));
  return Promise.all(
    allHosts
      .filter(({ name }) => names.includes(name))
      .map(
        async (host) => `${host.name} ${(await onMachine(host, kubeletSince)).stdout.trim().replace('\n', ' since ')}`,
      ),
  );
}

async function start(name: string): Promise<void> {
  const guard = ['/bin/sh', `${home}/guard.sh`, String(guardPauseSeconds * 100), String(guardPauseSeconds)];
  const path = (await onMachine(old1, 'printenv PATH')).stdout.trim();
  await jobs.start(connection, {
    name,
    token: name,
    cwd: '/opt/proton-package',
    env: { HOME: home, PATH: path },
    argv: [...guard, 'proton-cli', 'apply', '-f', `${home}/apply.yaml`],
  });
}

function ended(name: string): Promise<JobState> {
  return poll(`the end of ${name}`, 60, async () => {
    const job = await jobs.state(connection, name);
    return job.state === 'exited' && job;
  });
}

async function said(name: string): Promise<string> {
  const [out, err] = [await jobs.read(connection, name, 'stdout', 0), await jobs.read(connection, name, 'stderr', 0)];
  return `${out.toString()}${err.toString()}`;
}

/** Nothing but its first line, no machine asked, no file written. */
async function expectNothingDone(name: string, before: string[]): Promise<void> {
  const text = await said(name);
  expect(text).toContain('msg=version info');
  expect(text).not.toMatch(/start apply cluster conf|update node|init kubernetes cluster begin/);
  expect(await kubelets()).toEqual(before);
  expect(before.every((line) => line.includes(' active since '))).toBe(true);
  expect((await onMachine(old1, `cat ${home}/.proton-cli.yaml`)).stdout).toBe(
    'resource_namespace: resource\nproton_cli_config_namespace: proton\n',
  );
  await jobs.clear(connection, name);
}

describe('an apply against an API that takes connections and never answers', () => {
  it('is ended before it does anything, and every kubelet runs on', async () => {
    const before = await kubelets();
    await start('mute-apply');

    expect(await ended('mute-apply')).toMatchObject({ exitCode: guardExit.pause });
    await expectNothingDone('mute-apply', before);
  });

  it('is ended by its own machine when nobody can reach that any more', async () => {
    const before = await kubelets();
    await start('cut-apply');
    await faults['cut']?.(['old1']);
    // Longer than the tool would need for its fresh install to begin.
    await pause(12_000);
    await faults['heal']?.(['old1']);
    connection = await poll('old1', 60, async () => {
      const again = await hosts.connect(await machine('old1'));
      return (await again.run(['true'], { timeout: 5000 })).code === 0 && again;
    });
    await poll('the member on old1', 120, async () => {
      const argv = ['kubectl', '--request-timeout=5s', '--server', `https://${old1.address}:6443`, 'get', '--raw'];
      return (await run([...argv, '/readyz'], { allowFailure: true })).code === 0;
    });

    expect(await ended('cut-apply')).toMatchObject({ exitCode: guardExit.pause });
    const times = await onMachine(old1, 'cd /var/lib/ferry/jobs/cut-apply && stat -c %Y started exit');
    const [began = 0, end = Infinity] = times.stdout.trim().split('\n').map(Number);
    expect(end - began, 'seconds, all of them without a way in').toBeLessThan(8);
    await expectNothingDone('cut-apply', before);
  });
});
