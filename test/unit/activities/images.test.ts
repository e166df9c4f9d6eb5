import { describe, expect, it } from 'vitest';
import { fullReference } from '../../../src/activities/images.ts';

describe('image references', () => {
  it.each([
    ['redis', 'docker.io/library/redis:latest'],
    ['redis:7', 'docker.io/library/redis:7'],
    ['lab/bb:1', 'docker.io/lab/bb:1'],
    ['docker.io/lab/bb:1', 'docker.io/lab/bb:1'],
    ['localhost/x', 'localhost/x:latest'],
    ['registry.example:15000/proton/mariadb:2.2.0', 'registry.example:15000/proton/mariadb:2.2.0'],
    ['registry:5000/x', 'registry:5000/x:latest'],
    ['x@sha256:abc', 'docker.io/library/x@sha256:abc'],
  ])('%s is stored as %s', (image, stored) => {
    expect(fullReference(image)).toBe(stored);
  });
});
