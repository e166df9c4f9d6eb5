import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GateName } from '../../src/plan/plan.ts';
import { exchangeOf, quorumSequence } from '../../src/plan/quorum.ts';
import { abortSignal, resumeSignal } from '../../src/workflows/messages.ts';
import type { Harness } from './harness.ts';
import { approve, approveAll, startHarness, untilBlocked, untilGate } from './harness.ts';
import { stackedPlanOf } from './plans.ts';
import type { World } from './world.ts';
import { createWorld } from './world.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('development');
});
afterAll(() => harness.stop());

type Activity = Parameters<World['hold']>[0];

function callsOf(world: World, names: readonly string[]): string[] {
  return world.inputs
    .filter(({ name }) => names.includes(name))
    .map(({ name, input }) => {
      const { node, master, host } = input as { node?: string; master?: { name: string }; host?: { name: string } };
      return `${name} ${node ?? master?.name ?? host?.name ?? ''}`.trim();
    });
}

describe.concurrent('an exchange of masters', () => {
  it('lets one join or leave at a time, with the members that the plan foretells', async () => {
    const plan = stackedPlanOf('stacked');
    const world = createWorld(plan);
    const seen: string[] = [];
    world.masters?.leftovers.set('new1', ['10.0.0.11\told1']);
    world.masters?.leftovers.set(
      'new3',
      [1, 2, 3, 4, 5, 6, 7].map((number) => `10.0.0.1${number} old${number}`),
    );
    const handle = await harness.start(plan);
    await approveAll(handle);
    const { outcome, status } = await handle.result();
    for (const { name, input } of world.inputs) {
      if (name !== 'awaitMembers') continue;
      const members = (input as { masters: { name: string }[] }).masters.map((master) => master.name).join();
      if (seen.at(-1) !== members) seen.push(members);
    }

    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
    expect(world.snapshot()).toMatchObject({
      nodes: ['new1', 'new2', 'new3'],
      configNodes: ['new1', 'new2', 'new3'],
      members: ['new1', 'new2', 'new3'],
    });
    expect(seen).toEqual(quorumSequence(exchangeOf(plan)!).map(({ members }) => members.join()));
    expect(callsOf(world, ['drainNode', 'leaveEtcd', 'resetNode', 'deleteNode'])).toEqual(
      ['old1', 'old2', 'old3'].flatMap((name) => [
        `drainNode ${name}`,
        `leaveEtcd ${name}`,
        `resetNode ${name}`,
        `deleteNode ${name}`,
      ]),
    );
    expect(world.masters?.tainted.size).toBe(0);
    const detail = status.phases.find(({ name }) => name === 'remove-nodes')?.detail;
    expect(detail).toContain('masters: new1, new2, new3');
    expect(detail).toContain(
      'lines of /etc/hosts still name removed nodes on new1 (10.0.0.11 old1), on new3 (10.0.0.11 old1 | 10.0.0.12 old2 | 10.0.0.13 old3 | 10.0.0.14 old4 | 10.0.0.15 old5 | 2 more)',
    );
  });

  it.each([
    ['one', ['old3']],
    ['two', ['old2', 'old3']],
  ])('takes members that died before their turn out first: %s', async (how, dead) => {
    const world = createWorld(stackedPlanOf(`stacked-dead-${how}`));
    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await untilGate(handle, 'remove-nodes');
    for (const name of dead) world.masters?.dead.add(name);
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { outcome, status } = await handle.result();

    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
    expect(callsOf(world, ['leaveEtcd']).map((call) => call.split(' ')[1])).toEqual([
      ...dead,
      ...['old1', 'old2', 'old3'].filter((name) => !dead.includes(name)),
    ]);
    expect(world.snapshot().members).toEqual(['new1', 'new2', 'new3']);
    const steps = callsOf(world, ['drainNode', 'leaveEtcd']);
    expect(steps.slice(0, 2 * dead.length)).toEqual(dead.flatMap((name) => [`leaveEtcd ${name}`, `drainNode ${name}`]));
    expect(steps.slice(2 * dead.length, 2 * dead.length + 2)).toEqual(['drainNode old1', 'leaveEtcd old1']);
    const detail = status.phases.find(({ name }) => name === 'remove-nodes')?.detail;
    for (const name of dead) expect(detail).toContain(`${name} left without answering`);
  });

  it('drains a machine that runs before its member leaves, although that one is down', async () => {
    const world = createWorld(stackedPlanOf('stacked-down'));
    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await untilGate(handle, 'remove-nodes');
    world.masters?.down.add('old2');
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { outcome } = await handle.result();

    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
    expect(callsOf(world, ['drainNode', 'leaveEtcd']).slice(0, 2)).toEqual(['drainNode old2', 'leaveEtcd old2']);
  });

  it('finds one that dies while another is about to leave', async () => {
    const world = createWorld(stackedPlanOf('stacked-dies'));
    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    const hold = world.hold('leaveEtcd');
    await approve(handle, 'remove-nodes');
    await hold.reached;
    world.masters?.dead.add('old2');
    hold.release();
    const { blocked } = await untilBlocked(handle);
    await handle.signal(resumeSignal, { by: 'li' });
    await approve(handle, 'close-downtime');
    const { outcome } = await handle.result();

    expect(blocked?.cause).toContain('old2');
    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
    expect(callsOf(world, ['deleteNode'])).toEqual(['deleteNode old2', 'deleteNode old1', 'deleteNode old3']);
  });

  it('goes on where one has left etcd and another died before that was proved', async () => {
    const world = createWorld(stackedPlanOf('stacked-unproved'));
    world.masters?.diesWith.set('old1', 'old2');
    const handle = await harness.start(world.plan);
    await approveAll(handle, ['open-downtime', 'remove-nodes']);
    const { blocked, pointOfNoReturn } = await untilBlocked(handle);
    const members = world.snapshot().members;
    await handle.signal(resumeSignal, { by: 'li' });
    await approve(handle, 'close-downtime');
    const { outcome } = await handle.result();

    expect(blocked).toMatchObject({ phase: 'remove-nodes', cause: 'etcd is not sound without old1' });
    expect(pointOfNoReturn).toBe(true);
    expect(members).toEqual(['new1', 'new2', 'new3', 'old2', 'old3']);
    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
    expect(callsOf(world, ['deleteNode'])).toEqual(['deleteNode old2', 'deleteNode old1', 'deleteNode old3']);
    expect(world.snapshot().members).toEqual(['new1', 'new2', 'new3']);
  });

  it('clears a machine whose join failed before it is tried again', async () => {
    const world = createWorld(stackedPlanOf('stacked-unfit'));
    world.masters?.unfit.add('new2');
    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    const { blocked } = await untilBlocked(handle);
    const members = world.snapshot().members;
    world.masters?.unfit.delete('new2');
    await handle.signal(resumeSignal, { by: 'li' });
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { outcome } = await handle.result();

    expect(blocked).toMatchObject({ phase: 'add-nodes', cause: 'new2: failed to run kubeadm join' });
    expect(members).toEqual(['new1', 'old1', 'old2', 'old3']);
    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
    expect(callsOf(world, ['resetNode']).at(0)).toBe('resetNode new2');
  });

  it.each([
    ['a voter without the mark of a master', 'voter', ['leaveEtcd new2', 'resetNode new2', 'deleteNode new2']],
    ['one without a vote', 'learner', ['leaveEtcd new2', 'resetNode new2', 'deleteNode new2']],
    ['nobody who has become a master', 'master', ['leaveEtcd old1', 'resetNode old1', 'deleteNode old1']],
  ] as const)('takes out whose member ran when its apply failed: %s', async (_who, role, first) => {
    const world = createWorld(stackedPlanOf(`stacked-${role}`));
    world.masters?.failsAs.set('new2', role);
    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    const { blocked } = await untilBlocked(handle);
    await handle.signal(resumeSignal, { by: 'li' });
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { outcome } = await handle.result();

    expect(blocked).toMatchObject({ phase: 'add-nodes', cause: 'new2: failed to run kubeadm join' });
    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
    expect(callsOf(world, ['leaveEtcd', 'resetNode', 'deleteNode']).slice(0, 3)).toEqual(first);
  });

  it('reboots one master at a time, with the others sound and no load balancer leading to it', async () => {
    const hostServices = { hosts: ['old1', 'old2'], units: ['proton-cr'], restart: 'reboot' as const };
    const world = createWorld(stackedPlanOf('stacked-reboot', { hostServices }));
    const handle = await harness.start(world.plan);
    await approveAll(handle);
    const { outcome } = await handle.result();
    const steps = world.calls.filter((name) => ['rebootHost', 'awaitMembers', 'setBalancers'].includes(name));
    const reboots = steps.flatMap((name, index) => (name === 'rebootHost' ? [steps.slice(index - 2, index + 3)] : []));

    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
    expect(reboots).toEqual(
      [1, 2].map(() => ['awaitMembers', 'setBalancers', 'rebootHost', 'awaitMembers', 'setBalancers']),
    );
  });

  it('reboots no master while the member of another is down whose registry alone is stopped', async () => {
    const hostServices = { hosts: ['old1', 'old2', 'old3'], units: ['proton-cr'], restart: 'reboot' as const };
    const world = createWorld(stackedPlanOf('stacked-reboot-down', { hostServices }));
    const hold = world.hold('readBootId');
    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await hold.reached;
    for (const name of ['old2', 'old3']) world.masters?.down.add(name);
    hold.release();
    const { blocked } = await untilBlocked(handle);
    const reboots = world.calls.filter((name) => name === 'rebootHost').length;
    world.masters?.down.clear();
    await handle.signal(resumeSignal, { by: 'li' });
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { outcome } = await handle.result();
    const leads = world.inputs.filter(({ name }) => name === 'handOverLead');

    expect(blocked).toMatchObject({ phase: 'start-host-services', cause: 'old2,old3 does not answer' });
    expect(reboots).toBe(0);
    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
    expect(leads.map(({ input }) => (input as { remaining: unknown[] }).remaining.length)).toEqual([5, 5, 5]);
  });

  it('reboots workers side by side once the masters are back, and asks nothing of etcd or load balancers meanwhile', async () => {
    const hosts = ['old1', 'old2', 'old4', 'old5', 'old6'];
    const hostServices = { hosts, units: ['proton-cr'], restart: 'reboot' as const };
    const world = createWorld(stackedPlanOf('stacked-workers', { hostServices, limits: { parallelReboots: 2 } }, 3));
    for (const number of [4, 5, 6]) world.workers.add(`old${number}`).add(`new${number}`);
    const holds = [world.hold('rebootHost', 'after', 2), world.hold('rebootHost', 'after')];
    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await Promise.all(holds.map(({ reached }) => reached));
    for (const hold of holds) hold.release();
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { outcome } = await handle.result();
    const asked = ['rebootHost', 'awaitMembers', 'setBalancers', 'handOverLead'];
    const steps = callsOf(world, asked);
    const reboots = steps.filter((step) => step.startsWith('rebootHost'));
    const first = steps.indexOf(reboots[2] ?? '');

    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
    expect(world.mostBooting).toBe(2);
    // The two workers that boot at once begin in either order.
    expect(reboots.toSpliced(2, 2, ...reboots.slice(2, 4).toSorted())).toEqual(
      hosts.map((name) => `rebootHost ${name}`),
    );
    expect(steps.slice(first, first + 3)).toEqual(reboots.slice(2));
  });

  it('stands still while a remaining member is down, and goes on after it is back', async () => {
    const world = createWorld(stackedPlanOf('stacked-wait'));
    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    const hold = world.hold('leaveEtcd', 'before', 1);
    await approve(handle, 'remove-nodes');
    await hold.reached;
    world.masters?.dead.add('new2');
    hold.release();
    const { blocked, pointOfNoReturn } = await untilBlocked(handle);
    const members = world.snapshot().members;
    world.masters?.dead.delete('new2');
    await handle.signal(resumeSignal, { by: 'li' });
    await approve(handle, 'close-downtime');
    const { outcome } = await handle.result();

    expect(blocked).toMatchObject({ phase: 'remove-nodes' });
    expect(blocked?.cause).toContain('new2');
    expect(pointOfNoReturn).toBe(true);
    expect(members).toEqual(['new1', 'new2', 'new3', 'old2', 'old3']);
    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
  });
});

describe.concurrent('a master leaves while one that stays dies', () => {
  const steps: { activity: Activity; passes?: number; before: number; after: number }[] = [
    { activity: 'awaitMembers', before: 6, after: 6 },
    { activity: 'moveControl', before: 6, after: 6 },
    { activity: 'setBalancers', before: 6, after: 6 },
    { activity: 'drainNode', before: 6, after: 6 },
    { activity: 'leaveEtcd', before: 6, after: 5 },
    { activity: 'resetNode', before: 5, after: 5 },
    { activity: 'deleteNode', before: 5, after: 5 },
    { activity: 'awaitMembers', passes: 1, before: 5, after: 5 },
    { activity: 'applyConfig', before: 3, after: 3 },
  ];
  const rows = steps.flatMap(({ activity, passes = 0, before, after }) => [
    { activity, passes, when: 'before' as const, members: before },
    { activity, passes, when: 'after' as const, members: after },
  ]);

  it.each(rows)('$when $activity number $passes', async ({ activity, passes, when, members }) => {
    const world = createWorld(stackedPlanOf(`dies-${activity.toLowerCase()}-${passes}-${when}`));
    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await untilGate(handle, 'remove-nodes');
    const hold = world.hold(activity, when, passes);
    await approve(handle, 'remove-nodes');
    await hold.reached;
    world.masters?.dead.add('new2');
    hold.release();
    const { blocked } = await untilBlocked(handle);
    const left = world.snapshot().members;
    world.masters?.dead.delete('new2');
    await handle.signal(resumeSignal, { by: 'li' });
    await approve(handle, 'close-downtime');
    const { outcome } = await handle.result();

    expect(blocked).toMatchObject({ phase: 'remove-nodes' });
    expect(left).toHaveLength(members);
    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
    expect(world.snapshot()).toMatchObject({
      nodes: ['new1', 'new2', 'new3'],
      members: ['new1', 'new2', 'new3'],
    });
  });
});

describe.concurrent('a worker beside the masters that leaves', () => {
  it.each([
    ['is reached again', false, 'old4 left;'],
    ['is off', true, 'old4 left without answering'],
  ])('counts as gone not before it %s, while its kubelet reports', async (_when, off, said) => {
    const world = createWorld(stackedPlanOf(`stacked-mute-${off ? 'off' : 'back'}`, {}, 1));
    world.workers.add('old4').add('new4');
    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await untilGate(handle, 'remove-nodes');
    world.mute.add('old4');
    await approve(handle, 'remove-nodes');
    const { blocked } = await untilBlocked(handle);
    const { nodes, members } = world.snapshot();
    world.mute.clear();
    if (off) world.lost.add('old4');
    await handle.signal(resumeSignal, { by: 'li' });
    await approve(handle, 'close-downtime');
    const { outcome, status } = await handle.result();

    expect(blocked).toMatchObject({
      phase: 'remove-nodes',
      cause: expect.stringContaining('old4 did not answer ssh, and its kubelet reports') as string,
    });
    expect(nodes).toContain('old4');
    expect(members).toHaveLength(6);
    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
    expect(status.phases.find(({ name }) => name === 'remove-nodes')?.detail).toContain(said);
  });
});

describe.concurrent('going back takes new masters out the same way', () => {
  const rows: { activity: Activity; passes: number; when: 'before' | 'after'; gates: GateName[] }[] = [
    { activity: 'applyConfig', passes: 0, when: 'before', gates: ['open-downtime'] },
    { activity: 'applyConfig', passes: 0, when: 'after', gates: ['open-downtime'] },
    { activity: 'matchTaints', passes: 1, when: 'before', gates: ['open-downtime'] },
    { activity: 'applyConfig', passes: 2, when: 'after', gates: ['open-downtime'] },
    { activity: 'applyConfig', passes: 3, when: 'after', gates: ['open-downtime'] },
    { activity: 'moveControl', passes: 0, when: 'after', gates: ['open-downtime', 'remove-nodes'] },
  ];

  it.each(rows)('$when $activity number $passes', async ({ activity, passes, when, gates }) => {
    const world = createWorld(stackedPlanOf(`back-${activity.toLowerCase()}-${passes}-${when}`));
    const initial = world.snapshot();
    const hold = world.hold(activity, when, passes);
    const handle = await harness.start(world.plan);
    await approveAll(handle, gates);
    await hold.reached;
    await handle.signal(abortSignal, { by: 'li', reason: 'not tonight' });
    const { outcome } = await handle.result();

    expect(outcome).toBe('rolled-back');
    expect(world.violations).toEqual([]);
    expect(world.snapshot()).toEqual(initial);
  });

  it.each([
    ['no member yet', [], ['new1', 'new2']],
    ['one that has never started', ['new2'], ['new2', 'new1']],
  ])('with one of them dead and the next %s', async (_how, unfit, leaving) => {
    const world = createWorld(stackedPlanOf(`back-half-${unfit.length}`));
    const initial = world.snapshot();
    for (const name of unfit) world.masters?.unfit.add(name);
    world.masters?.diesWith.set('new2', 'new1');
    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    const { blocked } = await untilBlocked(handle);
    await handle.signal(abortSignal, { by: 'li', reason: 'new1 is dead' });
    const { outcome } = await handle.result();

    expect(blocked).toMatchObject({ phase: 'add-nodes', cause: 'apply module firewall fail: no answer' });
    expect(outcome).toBe('rolled-back');
    expect(world.violations).toEqual([]);
    expect(world.snapshot()).toEqual(initial);
    expect(callsOf(world, ['leaveEtcd'])).toEqual(leaving.map((name) => `leaveEtcd ${name}`));
  });
});
