import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SystemdActivities } from '../../src/activities/contract.ts';
import { defaultDeadlines } from '../../src/activities/deadlines.ts';
import { createSystemdActivities } from '../../src/activities/systemd.ts';
import type { HostConnection, Hosts } from '../../src/hosts/contract.ts';
import type { Host } from '../../src/plan/plan.ts';
import { freshName, labHosts, machine, script } from './machines.ts';
import { once } from './transfer-setup.ts';

describe('host services of a machine', () => {
  let hosts: Hosts;
  let host: Host;
  let connection: HostConnection;
  let activities: SystemdActivities;
  const migration = freshName('services');
  const idle = `${migration}-idle`;
  const units = ['cron', idle, 'no-such-service', 'no-such.socket'];

  beforeAll(async () => {
    hosts = await labHosts();
    host = (await machine('old3')) as Host;
    connection = await hosts.connect(host);
    activities = createSystemdActivities({ hosts, deadlines: { ...defaultDeadlines, reboot: 90_000 } });
    await script(
      connection,
      `printf '[Service]\\nExecStart=/bin/sleep infinity\\n' >/etc/systemd/system/${idle}.service; systemctl daemon-reload; systemctl start cron`,
    );
  });
  afterAll(async () => {
    // The machine was rebooted meanwhile: this is another connection than the first one.
    const again = await hosts.connect(host);
    await script(again, `rm -f /etc/systemd/system/${idle}.service; systemctl daemon-reload; systemctl start cron`);
    await hosts.close();
  });

  const active = async (): Promise<string> =>
    script(await hosts.connect(host), `for unit in cron ${idle}; do systemctl is-active "$unit" || :; done`);

  it('stops those that exist and run, whatever else is listed, and finds nothing to do the second time', async () => {
    const first = await once(() => activities.stopHostServices({ migration, host, units }));
    const stopped = await active();
    const second = await once(() => activities.stopHostServices({ migration, host, units }));

    expect(first).toMatchObject({ changed: true, stopped: ['cron'] });
    expect(stopped).toBe('inactive\ninactive\n');
    expect(second).toMatchObject({ changed: false, stopped: ['cron'] });
  });

  it('starts what ran before and nothing else', async () => {
    const first = await once(() => activities.startHostServices({ migration, host, units }));
    const started = await active();
    const second = await once(() => activities.startHostServices({ migration, host, units }));

    expect(first.changed).toBe(true);
    expect(started).toBe('active\ninactive\n');
    expect(second.changed).toBe(false);
  });

  it('reboots once, proved by another boot id, however often it is asked', async () => {
    const bootId = await once(() => activities.readBootId({ host }));
    const first = await once(() => activities.rebootHost({ host, bootId }));
    const after = await once(() => activities.readBootId({ host }));
    const second = await once(() => activities.rebootHost({ host, bootId }));

    expect(after).not.toBe(bootId);
    expect(first).toMatchObject({ changed: true, proof: expect.stringContaining(after) as string });
    expect(second).toMatchObject({ changed: false });
    expect(await once(() => activities.readBootId({ host }))).toBe(after);
  });

  it('parks when a machine does not come back, saying what it knows', async () => {
    const bootId = await once(() => activities.readBootId({ host }));
    const impatient = createSystemdActivities({ hosts, deadlines: { ...defaultDeadlines, reboot: 1 } });

    await expect(once(() => impatient.rebootHost({ host, bootId }))).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringMatching(/old3 does not come back from its reboot/) as string,
    });
    // The same call again, as Temporal repeats what heals by itself: it goes on without another reboot.
    await expect
      .poll(() => once(() => activities.rebootHost({ host, bootId })).catch(String), { timeout: 60_000 })
      .toMatchObject({ proof: expect.stringMatching(/came back/) as string });
  });
});
