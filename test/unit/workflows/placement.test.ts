import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { Migration } from '../../../src/workflows/migration.ts';
import { provePlaces } from '../../../src/workflows/placement.ts';
import { planOf } from '../../workflow/plans.ts';

const act = vi.hoisted(() => vi.fn());
vi.mock(import('../../../src/workflows/parking.ts'), () => ({ act }));

/** All that the phase asks of a migration here is its plan. */
function migrationOf(kinds: Parameters<typeof planOf>[2]): Migration {
  return { plan: planOf('places', {}, kinds) } as Migration;
}

beforeEach(() => {
  act.mockReset();
  act.mockImplementation((_migration, _phase, name) =>
    Promise.resolve(name === 'provePlacement' ? { proof: '4 in place', rows: [] } : {}),
  );
});

describe('provePlaces', () => {
  it('sees to the master of mariadb first, and answers the proof', async () => {
    const migration = migrationOf(['redis', 'mariadb']);

    const proof = await provePlaces(migration, 'reinstall', 'to');

    expect(proof).toBe('4 in place');
    expect(act.mock.calls.map(([, phase, name, label]) => [phase, name, label] as unknown[])).toEqual([
      ['reinstall', 'repairMariadbMaster', 'master service of mariadb'],
      ['reinstall', 'provePlacement', 'components on the new nodes'],
    ]);
    expect(act.mock.calls[0]?.[4]).toEqual({ resourceNamespace: 'resource' });
    expect(act.mock.calls[1]?.[4]).toEqual({ components: migration.plan.components, side: 'to' });
  });

  it('leaves the operator of mariadb alone where there is none, and says which side it means', async () => {
    await provePlaces(migrationOf(['redis']), 'verify', 'from');

    expect(act.mock.calls.map(([, , name, label]) => [name, label] as unknown[])).toEqual([
      ['provePlacement', 'components on the old nodes'],
    ]);
  });

  it('does not prove anything when the master cannot be repaired', async () => {
    act.mockRejectedValueOnce(new Error('no endpoint'));

    await expect(provePlaces(migrationOf(['mariadb']), 'reinstall', 'to')).rejects.toThrow('no endpoint');
    expect(act).toHaveBeenCalledTimes(1);
  });
});
