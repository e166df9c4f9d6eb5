import { createHash } from 'node:crypto';

/** Seconds by which the clocks of controller and node may differ. */
export const window = 60;
export const user = 'proton-cli';

/** The password of a minute: made from the user and the time, as the platform's agent does. */
export function tokenAt(milliseconds: number): string {
  const minute = Math.floor(milliseconds / 60_000);
  return createHash('sha256').update(`${user}:${minute}`).digest('hex');
}

export function isValidToken(token: string, now: number): boolean {
  return [-window, 0, window].some((shift) => token === tokenAt(now + shift * 1000));
}

export function basicAuthorization(now: number): string {
  return `Basic ${Buffer.from(`${user}:${tokenAt(now)}`).toString('base64')}`;
}
