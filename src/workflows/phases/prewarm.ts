import { counted } from '../../plan/counted.ts';
import { isStacked } from '../masters.ts';
import type { Migration, Phase } from '../migration.ts';
import { hostNamed } from '../migration.ts';
import { act } from '../parking.ts';
import { prewarmsAtOnce } from '../policies.ts';
import { forEachBounded } from '../slots.ts';

/** The images of every component and application on every new node, so that nothing is pulled inside the downtime. */
export const prewarm: Phase = {
  name: 'prewarm',
  section: 5,
  run: loadImages,
  skip: (plan) => (plan.images.prewarm ? undefined : 'the plan leaves prewarming out'),
};

async function loadImages(migration: Migration): Promise<string> {
  const { plan } = migration;
  const componentNamespaces = plan.components.map((component) => component.namespace);
  // A joining master starts API server and etcd from images as well.
  const system = isStacked(plan) ? ['kube-system'] : [];
  const listed = await act(migration, 'prewarm', 'listImages', 'images in use', {
    namespaces: [...new Set([...componentNamespaces, ...plan.applications.namespaces, ...system])],
    references: plan.images.references,
  });
  const images = listed.map(({ image, host }) => ({ image, from: hostNamed(plan, host) }));
  const targets = [...new Set(plan.mapping.map((pair) => pair.to))];
  const results = await forEachBounded(targets, prewarmsAtOnce, (target) =>
    act(migration, 'prewarm', 'prewarmHost', `${counted(images.length, 'image')} onto ${target}`, {
      target: hostNamed(plan, target),
      images,
    }),
  );
  const loaded = results.reduce((sum, result) => sum + result.loaded, 0);
  return `${counted(images.length, 'image')} on ${counted(targets.length, 'new host')}, ${loaded} loaded`;
}
