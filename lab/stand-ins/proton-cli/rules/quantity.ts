/** Kubernetes quantities: what is one, and the form in which it is written again. */

export const quantityRule =
  "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

export class QuantityError extends Error {}

const shape =
  /^(?<sign>[-+]?)(?<whole>[0-9]*)(?:\.(?<fraction>[0-9]*))?(?<suffix>|n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][-+]?[0-9]+)$/;

const decimal = ['n', 'u', 'm', '', 'k', 'M', 'G', 'T', 'P', 'E'];
const binary = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];

export function isQuantity(text: string): boolean {
  const found = shape.exec(text)?.groups;
  return found !== undefined && `${found['whole'] ?? ''}${found['fraction'] ?? ''}` !== '';
}

/** Nano units of the number, rounded away from zero, as the platform rounds. */
function nanos(sign: string, whole: string, fraction: string, multiply: bigint, power: number): bigint {
  const digits = BigInt(`${whole}${fraction}` === '' ? '0' : `${whole}${fraction}`) * multiply;
  const exponent = 9 + power - fraction.length;
  let value: bigint;
  if (exponent >= 0) value = digits * 10n ** BigInt(exponent);
  else {
    const divisor = 10n ** BigInt(-exponent);
    value = digits / divisor + (digits % divisor === 0n ? 0n : 1n);
  }
  return sign === '-' ? -value : value;
}

/** Canonical form; throws QuantityError. */
export function parseQuantity(given: string): string {
  const text = given.trim();
  const found = isQuantity(text) ? shape.exec(text)?.groups : undefined;
  if (found === undefined) throw new QuantityError(quantityRule);
  const { sign = '', whole = '', fraction = '', suffix = '' } = found;
  const isBinary = suffix.endsWith('i');
  const isExponent = /^[eE][-+]?[0-9]/.test(suffix);
  const power = isExponent ? Number(suffix.slice(1)) : isBinary ? 0 : (decimal.indexOf(suffix) - 3) * 3;
  const multiply = isBinary ? 1024n ** BigInt(binary.indexOf(suffix)) : 1n;
  const value = nanos(sign, whole, fraction, multiply, power);
  const unit = 10n ** 9n;
  if (value === 0n) return '0';
  if (isBinary && value % unit === 0n) {
    let [number, step] = [value / unit, 0];
    if (number > -1024n && number < 1024n) return number.toString();
    while (number % 1024n === 0n && step < binary.length - 1) [number, step] = [number / 1024n, step + 1];
    return `${number}${binary[step] ?? ''}`;
  }
  let [number, step] = [value, 0];
  while (number % 1000n === 0n && step < decimal.length - 1) [number, step] = [number / 1000n, step + 1];
  if (!isExponent) return `${number}${decimal[step] ?? ''}`;
  return step === 3 ? number.toString() : `${number}e${(step - 3) * 3}`;
}
