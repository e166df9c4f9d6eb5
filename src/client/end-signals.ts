/** What ends a program in good order; node resets even what nohup has ignored. */
export const endSignals = ['SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGHUP'] as const;

/** A signal and its twin arrive within this, in milliseconds. */
const twinsWithin = 1000;

/**
 * Lets a signal that comes twice at once count once: npm and timeout pass on to their child what the terminal or they themselves have
 * sent to all, and the second would kill who is ending in good order after the first. A second Ctrl-C by a person comes later, and ends
 * the program at once. Whoever calls this listens to all of them.
 */
export function ignoreTwins(): void {
  const bear = () => {
    setTimeout(() => {
      for (const signal of endSignals) process.off(signal, bear);
    }, twinsWithin).unref();
  };
  for (const signal of endSignals) process.on(signal, bear);
}

/** Until the first of them comes. */
export function endSignal(): Promise<void> {
  ignoreTwins();
  return new Promise((resolve) => {
    for (const signal of endSignals) process.once(signal, () => resolve());
  });
}
