import { describe, expect, it } from 'vitest';
import { differingPlaces, redactBy } from '../../../src/activities/proton-cli.ts';

const config = `nodes:
- {ip4: 10.0.0.11, name: old1}
- {ip4: 10.0.0.21, name: new1}
cs:
  master: [old1]
kafka:
  data_path: /sysvol/kafka/kafka_data
  hosts: [new1]
package-store:
  hosts: [new1]
  storage: {path: /sysvol/package-store}
proton_redis:
  admin_passwd: "correct-horse"
  hosts: [new1]
`;

describe('the applied file and the recorded document', () => {
  it('agree when only completed fields differ', () => {
    const recorded = `${config}chrony: {mode: usermanaged}\n`.replace(
      'ip4: 10.0.0.11, name: old1',
      "name: 'old1', ip4: 10.0.0.11",
    );

    expect(differingPlaces(config, recorded)).toEqual([]);
  });

  it.each([
    { from: '- {ip4: 10.0.0.21, name: new1}\n', to: '', places: ['nodes'] },
    { from: 'master: [old1]', to: 'master: [new1]', places: ['cs.master'] },
    { from: '  hosts: [new1]\npackage-store', to: '  hosts: [old1]\npackage-store', places: ['kafka.hosts'] },
    { from: 'kafka_data', to: 'kafak_data', places: ['kafka.data_path'] },
    { from: '{path: /sysvol/package-store}', to: '{path: /x}', places: ['package-store.storage.path'] },
  ])('differ at $places', ({ from, to, places }) => {
    expect(differingPlaces(config, config.replace(from, to))).toEqual(places);
  });
});

describe('what the tool said', () => {
  it('is shown without the secrets of its file', () => {
    const said = 'proton_redis.admin_passwd: Invalid value: "correct-horse": field is immutable; password=other';

    const shown = redactBy(said, config);

    expect(shown).not.toContain('correct-horse');
    expect(shown).not.toContain('other');
    expect(shown).toContain('field is immutable');
  });
});
