/** Seeded choices, so that a failed run can be repeated: FERRY_TEST_SEED=… */
export interface Random {
  seed: number;
  /** From 0 up to, but not including, `below`. */
  below(below: number): number;
  pick<T>(from: readonly T[]): T;
  shuffled<T>(from: readonly T[]): T[];
}

export function seeded(seed = Number(process.env['FERRY_TEST_SEED'] ?? Date.now() % 2 ** 31)): Random {
  let state = seed;

  // mulberry32
  function next(): number {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  function below(limit: number): number {
    return Math.floor(next() * limit);
  }

  function pick<T>(from: readonly T[]): T {
    const found = from[below(from.length)];
    if (found === undefined) throw new RangeError('nothing to pick from');
    return found;
  }

  return {
    seed,
    below,
    pick,
    shuffled: (from) =>
      from
        .map((value) => ({ value, key: next() }))
        .toSorted((a, b) => a.key - b.key)
        .map(({ value }) => value),
  };
}
