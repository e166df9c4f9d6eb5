/** A payload or a key ring that cannot be used: what is wrong, and what to do. Never holds a key or what a payload says. */
export class CodecError extends Error {
  override readonly name = 'CodecError';
  readonly problem: string;
  readonly next: string;
  constructor(message: string, next: string, cause?: unknown) {
    // Whoever sees only the message, in a log or in the Web UI, needs the way out as well.
    super(`${message}; next: ${next}`, { cause });
    this.problem = message;
    this.next = next;
  }
}
