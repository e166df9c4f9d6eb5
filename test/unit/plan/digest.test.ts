import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalJson, digestOf, planDigest, sha256Hex } from '../../../src/plan/digest.ts';
import { planSchema } from '../../../src/plan/plan.ts';
import { samplePlan } from './samples.ts';

describe('digests', () => {
  it('are SHA-256 as Node computes it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => {
        expect(sha256Hex(text)).toBe(createHash('sha256').update(text, 'utf8').digest('hex'));
      }),
    );
  });

  it.each([0, 55, 56, 63, 64, 119, 120, 1000])('of %d letters', (length) => {
    const text = 'a'.repeat(length);
    expect(sha256Hex(text)).toBe(createHash('sha256').update(text).digest('hex'));
  });

  it('do not depend on the order of keys', () => {
    expect(canonicalJson({ b: [1, { d: 'x', c: null }], a: undefined })).toBe('{"b":[1,{"c":null,"d":"x"}]}');
    expect(digestOf({ a: 1, b: 2 })).toBe(digestOf({ b: 2, a: 1 }));
  });

  it('of a plan covers everything but itself', () => {
    const plan = samplePlan();
    expect(planDigest(plan)).toBe(plan.digest);
    expect(planDigest(planSchema.parse(JSON.parse(JSON.stringify(plan))))).toBe(plan.digest);
    expect(planDigest({ ...plan, digest: 'sha256:other' })).toBe(plan.digest);
    expect(planDigest({ ...plan, author: 'someone' })).not.toBe(plan.digest);
  });
});
