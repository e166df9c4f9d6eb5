/** Whether a version like `20.11.1` is below a range of the form `>=22.19`. */
export function isBelowFloor(running: string, range: string): boolean {
  const floor = numbers(range.replace(/^>=/, ''));
  const have = numbers(running);
  for (const [index, wanted] of floor.entries()) {
    const part = have[index] ?? 0;
    if (part !== wanted) return part < wanted;
  }
  return false;
}

function numbers(version: string): number[] {
  return version.split('.').map((part) => Number.parseInt(part, 10));
}
