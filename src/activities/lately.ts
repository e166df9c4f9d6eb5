/**
 * What was found out lately, by name. Who asks while another one is finding it out waits for that answer, so that nobody measures beside
 * somebody else's measurement. A failure is told to whoever met it and not remembered.
 */
export class Lately<T> {
  private readonly known = new Map<string, { at: number; answer: Promise<T> }>();
  private readonly lasts: (answer: T) => number;

  /** `lasts`: milliseconds for which an answer is good. */
  constructor(lasts: (answer: T) => number) {
    this.lasts = lasts;
  }

  async ask(name: string, find: () => Promise<T>): Promise<T> {
    for (;;) {
      const earlier = this.known.get(name);
      if (earlier === undefined) break;
      const found = await earlier.answer.then(
        (answer) => ({ answer }),
        () => undefined,
      );
      if (found !== undefined && Date.now() - earlier.at < this.lasts(found.answer)) return found.answer;
      // Another one may have begun anew meanwhile.
      if (this.known.get(name) === earlier) this.known.delete(name);
    }
    const answer = find();
    this.known.set(name, { at: Date.now(), answer });
    return answer;
  }
}
