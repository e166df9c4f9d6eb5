/** No answer from a machine: it may be away, or the network between. Heals by itself when the machine comes back. */
export class HostUnreachable extends Error {
  override readonly name = 'HostUnreachable';
  readonly host: string;

  constructor(host: string, why: string, options?: ErrorOptions) {
    super(`${host} cannot be reached: ${why}`, options);
    this.host = host;
  }
}

/** A machine showed another host key than the pinned ones. Never heals by itself: somebody must look. */
export class HostKeyMismatch extends Error {
  override readonly name = 'HostKeyMismatch';
  readonly host: string;

  constructor(host: string, address: string, shown: string, pinned: readonly string[]) {
    super(
      `${host} (${address}) showed the host key ${shown}, but pinned are ${pinned.join(', ') || 'none'}; nothing was sent to it`,
    );
    this.host = host;
  }
}

/** A machine refused the key of this worker. */
export class HostRefused extends Error {
  override readonly name = 'HostRefused';
  readonly host: string;

  constructor(host: string, user: string, options?: ErrorOptions) {
    super(`${host} does not let user ${user} in with this worker's key`, options);
    this.host = host;
  }
}

/** A command took longer than it may; its process group on the machine was ended. */
export class CommandTimedOut extends Error {
  override readonly name = 'CommandTimedOut';
  readonly host: string;

  constructor(host: string, program: string, milliseconds: number) {
    super(`${program} on ${host} did not finish within ${milliseconds / 1000} s and was ended`);
    this.host = host;
  }
}

/** A command that must succeed did not. The message holds the end of its stderr. */
export class CommandFailed extends Error {
  override readonly name = 'CommandFailed';
  readonly host: string;
  readonly code: number | null;

  constructor(host: string, what: string, result: { code: number | null; signal: string | null; stderr: string }) {
    const end = result.signal === null ? `exit code ${result.code ?? '?'}` : `signal ${result.signal}`;
    super(`${what} on ${host} failed (${end}): ${result.stderr.trim().slice(-600) || 'no message'}`);
    this.host = host;
    this.code = result.code;
  }
}
