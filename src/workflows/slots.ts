/** Lets so many run at the same time, in order of arrival. */
export interface Slots {
  run<T>(work: () => Promise<T>): Promise<T>;
}

/** Slots handed on directly from the one who leaves to the one who waits longest: the order is the same on every replay. */
export function createSlots(limit: number): Slots {
  let free = limit;
  const waiting: (() => void)[] = [];

  async function run<T>(work: () => Promise<T>): Promise<T> {
    if (free > 0) {
      free -= 1;
    } else {
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) {
        free += 1;
      } else {
        next();
      }
    }
  }

  return { run };
}

/**
 * Runs work for every item, at most `limit` at a time, and answers the results in the order of the items. When some fail the others
 * are still waited for, then the first failure is thrown: nobody goes on while a sibling is still at work.
 */
export async function forEachBounded<T, R>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const slots = createSlots(limit);
  return allOrFirstFailure(items.map((item) => slots.run(() => work(item))));
}

/** Like `Promise.all`, but waits until every promise has come to its end before it throws the first failure. */
export async function allOrFirstFailure<R>(promises: readonly Promise<R>[]): Promise<R[]> {
  const settled = await Promise.allSettled(promises);
  return settled.map((result) => {
    if (result.status === 'rejected') {
      throw result.reason;
    }
    return result.value;
  });
}
