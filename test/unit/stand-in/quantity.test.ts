import { describe, expect, it } from 'vitest';
import { isQuantity, parseQuantity } from '../../../lab/stand-ins/proton-cli/rules/quantity.ts';

describe('quantities', () => {
  it.each([
    ['4', '4'],
    ['0.5', '500m'],
    ['1000m', '1'],
    ['1.5', '1500m'],
    ['2000', '2k'],
    ['10Gi', '10Gi'],
    ['1024Mi', '1Gi'],
    ['0.5Gi', '512Mi'],
    ['1536Mi', '1536Mi'],
    ['24G', '24G'],
    ['1e3', '1e3'],
    [' 1 ', '1'],
  ])('%j is written as %s', (given, written) => {
    expect(parseQuantity(given)).toBe(written);
  });

  it.each(['', '24 GB', '1GB', 'x', '.', '1ki'])('%j is none', (given) => {
    expect(isQuantity(given)).toBe(false);
    expect(() => parseQuantity(given)).toThrow('quantities must match the regular expression');
  });
});
