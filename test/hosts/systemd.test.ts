import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { faults } from '../../lab/faults.ts';
import type { SystemdActivities } from '../../src/activities/contract.ts';
import { defaultDeadlines } from '../../src/activities/deadlines.ts';
import { createSystemdActivities } from '../../src/activities/systemd.ts';
import type { HostConnection, Hosts } from '../../src/hosts/contract.ts';
import type { Host } from '../../src/plan/plan.ts';
import { alone, freshName, labHosts, machine, script } from './machines.ts';
import { once } from './transfer-setup.ts';

describe('host services of a machine', () => {
  let hosts: Hosts;
  let host: Host;
  let connection: HostConnection;
  let activities: SystemdActivities;
  const migration = freshName('services');
  const idle = `${migration}-idle`;
  const units = ['cron', idle, 'no-such-service', 'no-such.socket'];

  let release: () => Promise<void>;

  beforeAll(async () => {
    release = await alone('old3');
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
    await release();
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

  it('parks when a machine stays away, with what can be seen from outside, and goes on when it is let go', async () => {
    const bmc = 'https://bmc.example/old3';
    const bootId = await once(() => activities.readBootId({ host }));
    const patient = createSystemdActivities({ hosts, deadlines: { ...defaultDeadlines, reboot: 20_000 } });
    await faults['hold']?.(['old3']);
    try {
      const error = await once(() => patient.rebootHost({ host: { ...host, bmc }, bootId })).catch(
        (thrown: unknown) => thrown,
      );

      expect(error).toMatchObject({ type: 'NeedsHuman' });
      const [{ cause, next } = { cause: '', next: '' }] = (error as { details: { cause: string; next: string }[] })
        .details;
      expect(cause).toMatch(/after 20 s: old3 does not answer yet/);
      // A machine that is held back refuses, as one does whose start hangs before sshd.
      expect(cause).toMatch(/its ssh port 22 refuses connections/);
      expect(cause).toMatch(/does not answer ping|ping was not tried/);
      expect(next).toContain(`it has power: look at the console of old3 (${bmc})`);
      expect(next).toMatch(/ferry resume, which does not reboot it again; .* ferry abort$/);

      // Resumed too early, and now as silent as one that is off: what is known is said again, and it is worth another try.
      await faults['cut']?.(['old3']);
      await expect(once(() => patient.rebootHost({ host: { ...host, bmc }, bootId }))).rejects.toMatchObject({
        type: 'Transient',
        message: expect.stringMatching(
          /its ssh port 22 (does not answer|cannot be reached).* \(https:\/\/bmc\.example\/old3\), power it on/,
        ) as string,
      });
    } finally {
      await faults['heal']?.(['old3']);
      await faults['unhold']?.(['old3']);
    }
    await expect
      .poll(() => once(() => activities.rebootHost({ host, bootId })).catch(String), { timeout: 120_000 })
      .toMatchObject({ changed: false, proof: expect.stringMatching(/already came back/) as string });
  });
});
