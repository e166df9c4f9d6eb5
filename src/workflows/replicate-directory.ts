import {
  ActivityFailure,
  allHandlersFinished,
  ApplicationFailure,
  CancellationScope,
  condition,
  ContinueAsNew,
  continueAsNew,
  isCancellation,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  TimeoutFailure,
  workflowInfo,
} from '@temporalio/workflow';
import type { CopyChoice, Difference, PassReport, TransferActivities } from '../activities/transfer-contract.ts';
import type { FailureDetail } from '../activities/contract.ts';
import type { ReplicateInput, ReplicateRequest } from '../plan/replicate.ts';
import { replicateInputSchema } from '../plan/replicate.ts';
import type { Decision, PassFigures } from './convergence.ts';
import { decide, figuresOf, project, restBetweenPasses } from './convergence.ts';
import type { PassSummary } from './messages.ts';
import { pauseSignal, resumeSignal, tuneSignal } from './messages.ts';
import { clip, historyEvents, optionsOf, passesKept } from './policies.ts';
import type { CopyStatus, TransferOutcome } from './replicate-messages.ts';
import { copyQuery, finishHoldSignal } from './replicate-messages.ts';
import { limitAt } from './schedule.ts';

const { prepareTransfer } = proxyActivities<TransferActivities>(optionsOf('prepareTransfer'));
const { runPass } = proxyActivities<TransferActivities>(optionsOf('runPass'));
const { proveQuiet } = proxyActivities<TransferActivities>(optionsOf('proveQuiet'));
const { verifyTransfer } = proxyActivities<TransferActivities>(optionsOf('verifyTransfer'));
const { finishTransfer } = proxyActivities<TransferActivities>(optionsOf('finishTransfer'));

/** What a run hands to the next one: history stays flat however long a copy holds. */
export interface Carried {
  passes: PassSummary[];
  passesSoFar: number;
  limitKiBps: number;
  isPaused?: boolean;
}

interface Copy {
  input: ReplicateInput;
  status: CopyStatus;
  passesSoFar: number;
  content: ReplicateInput['content'];
  /** What the wire carried when it was tried; undefined where it was not. */
  linkBytesPerSecond: number | undefined;
  /** What copies has no deltas: every pass moves everything. */
  isWhole: boolean;
  isPaused: boolean;
  isFinishing: boolean;
  /** Grows with every signal that a pass at work must learn of. */
  interruptions: number;
}

/**
 * Moves one directory; input and result in plan/replicate.ts and replicate-messages.ts. `live` repeats passes until the final delta is
 * projected to fit; `final` proves that nothing writes, copies the last delta and ends only when both sides are the same.
 */
export async function replicateDirectory(request: ReplicateRequest, carried?: Carried): Promise<TransferOutcome> {
  const copy = startCopy(readInput(request), carried);
  const { input } = copy;
  try {
    await standStill(copy);
    copy.status.state = 'preparing';
    const { choice, bytes, contentAll } = await prepareTransfer.executeWithOptions(
      { summary: label(`check both ends of ${input.transfer.id}`) },
      [{ request: input, mode: input.mode }],
    );
    if (contentAll === true) copy.content = 'all';
    copy.linkBytesPerSecond = choice.linkBytesPerSecond;
    copy.isWhole = choice.tool === 'tar';
    const outcome = await (input.mode === 'live' ? copyLive : copyFinal)(copy, choice, bytes);
    await finish(copy, outcome.digest);
    copy.status.state = 'done';
    return outcome;
  } catch (error) {
    // The next run goes on with what stands on the machines, and hears what people say from now on.
    if (error instanceof ContinueAsNew) throw error;
    await CancellationScope.nonCancellable(() => finish(copy)).catch((failure: unknown) => {
      // The first failure is the one that people must see, unless there was none.
      if (isCancellation(error)) throw failure;
    });
    throw error;
  }
}

function startCopy(input: ReplicateInput, carried?: Carried): Copy {
  const copy: Copy = {
    input,
    status: {
      state: 'preparing',
      limitKiBps: carried?.limitKiBps ?? input.limitKiBps,
      passes: carried?.passes ?? [],
    },
    passesSoFar: carried?.passesSoFar ?? 0,
    content: input.content,
    linkBytesPerSecond: undefined,
    isWhole: false,
    isPaused: carried?.isPaused ?? false,
    isFinishing: false,
    interruptions: 0,
  };
  setHandler(copyQuery, () => copy.status);
  setHandler(pauseSignal, () => {
    copy.isPaused = true;
    copy.interruptions += 1;
  });
  setHandler(resumeSignal, () => {
    copy.isPaused = false;
  });
  setHandler(tuneSignal, ({ preCopyKiBps }) => {
    if (preCopyKiBps === copy.status.limitKiBps) return;
    copy.status.limitKiBps = preCopyKiBps;
    if (input.mode === 'live' && !copy.isWhole) copy.interruptions += 1;
  });
  setHandler(finishHoldSignal, () => {
    copy.isFinishing = true;
  });
  return copy;
}

async function copyLive(copy: Copy, choice: CopyChoice, bytes: number): Promise<TransferOutcome> {
  const { input } = copy;
  let expected = bytes;
  let decision: Decision;
  do {
    expected = (await onePass(copy, choice, expected)).totalBytes;
    decision = decide(figures(copy), { finalSeconds: input.targetFinalSeconds, maxPasses: input.maxPasses });
    tell(copy, decision.why);
  } while (decision.next === 'pass');
  const holds = (): boolean => input.hold && !copy.isFinishing;
  while (holds()) {
    copy.status.state = 'holding';
    const rest = restBetweenPasses(figures(copy), input.holdSeconds);
    await condition(() => copy.isFinishing, rest * 1000, { summary: 'rest before the next pass' });
    if (!holds()) break;
    expected = (await onePass(copy, choice, expected)).totalBytes;
    decision = decide(figures(copy), { finalSeconds: input.targetFinalSeconds, maxPasses: 1 });
    tell(copy, decision.why);
    const { continueAsNewSuggested, historyLength } = workflowInfo();
    if (holds() && (continueAsNewSuggested || historyLength > historyEvents)) await goOnAnew(copy);
  }
  return {
    ...outcomeOf(copy),
    ready: decision.next === 'ready',
    notConverging: decision.next !== 'ready',
    advice: decision.why,
  };
}

async function copyFinal(copy: Copy, choice: CopyChoice, bytes: number): Promise<TransferOutcome> {
  const { input } = copy;
  await proveQuiet.executeWithOptions({ summary: label(`prove that nothing uses ${input.transfer.id}`) }, [
    { request: input },
  ]);
  await onePass(copy, choice, bytes);
  let verification = await verify(copy, choice);
  if (!verification.equal) {
    // Whatever a comparison by time and size can miss, a comparison of content cannot.
    await onePass(copy, choice, bytes, 'all', verification.differences.some(isAboutLinks));
    verification = await verify(copy, choice);
  }
  if (!verification.equal || verification.digest === undefined) {
    throw notTheSame(input, verification.differing, verification.differences);
  }
  return {
    ...outcomeOf(copy),
    ready: true,
    notConverging: false,
    advice: '',
    digest: verification.digest,
    proof: verification.proof,
    destinationState: 'verified',
  };
}

async function verify(copy: Copy, choice: CopyChoice): ReturnType<typeof verifyTransfer> {
  await standStill(copy);
  copy.status.state = 'verifying';
  return verifyTransfer.executeWithOptions(
    { summary: label(`compare both sides of ${copy.input.transfer.id}: ${copy.input.verify}`) },
    [{ request: copy.input, choice, pass: copy.passesSoFar }],
  );
}

/**
 * One pass. Pause, a new limit, and an hour with another limit end the one at work; what it moved stays, and it begins again. Where tar
 * copies it would begin at zero: there only a pause ends it.
 */
async function onePass(
  copy: Copy,
  choice: CopyChoice,
  expectedBytes: number,
  content: ReplicateInput['content'] = copy.content,
  partLinks = false,
): Promise<PassSummary> {
  const { input } = copy;
  for (;;) {
    await standStill(copy);
    copy.status.state = 'copying';
    copy.passesSoFar += 1;
    const pass = copy.passesSoFar;
    const limit = limitOf(copy);
    const report = await interruptible(copy, copy.isWhole ? undefined : limit.changesInMs, () =>
      runPass.executeWithOptions({ summary: label(`pass ${pass} of ${input.transfer.id}, ${input.mode}`) }, [
        {
          request: input,
          choice,
          pass,
          mode: input.mode,
          limitKiBps: limit.kiBps,
          content,
          expectedBytes,
          ...(partLinks && { partLinks }),
        },
      ]),
    );
    if (report === undefined) {
      // A try that waited for the next one is gone without a word to the machines, where the copy may go on.
      if (copy.isPaused) await finish(copy);
      continue;
    }
    const summary = summarize(pass, input.mode, limit.kiBps, report);
    copy.status.passes = [...copy.status.passes, summary].slice(-passesKept);
    copy.status.projection = project(figures(copy));
    return summary;
  }
}

/** Result of `act`, or undefined when it was ended because it must begin again under other conditions. */
async function interruptible<T>(
  copy: Copy,
  changesInMs: number | undefined,
  act: () => Promise<T>,
): Promise<T | undefined> {
  const before = copy.interruptions;
  const scope = new CancellationScope({ cancellable: true });
  const watch = new CancellationScope({ cancellable: true });
  const watching = watch
    .run(async () => {
      const interrupted = (): boolean => copy.interruptions !== before;
      if (changesInMs === undefined) await condition(interrupted);
      else await condition(interrupted, changesInMs, { summary: 'until the hour with another limit' });
      scope.cancel();
    })
    .catch(ignoreCancellation);
  try {
    return await scope.run(act);
  } catch (error) {
    const isInterrupted = scope.consideredCancelled && !CancellationScope.current().consideredCancelled;
    if (isInterrupted && (isCancellation(error) || isHealedByTrying(error))) return undefined;
    throw error;
  } finally {
    watch.cancel();
    await watching;
  }
}

/** No try follows a cancellation: one that could not end the pass, because a machine was out of reach, would end the whole copy. */
function isHealedByTrying(error: unknown): boolean {
  const cause = error instanceof ActivityFailure ? error.cause : undefined;
  return cause instanceof TimeoutFailure || (cause instanceof ApplicationFailure && cause.nonRetryable !== true);
}

async function standStill(copy: Copy): Promise<void> {
  if (!copy.isPaused) return;
  copy.status.state = 'paused';
  await condition(() => !copy.isPaused);
}

async function finish(copy: Copy, verified?: string): Promise<void> {
  await finishTransfer.executeWithOptions({ summary: label(`take the key of ${copy.input.transfer.id} away`) }, [
    { request: copy.input, ...(verified !== undefined && { verified }) },
  ]);
}

async function goOnAnew(copy: Copy): Promise<never> {
  await condition(allHandlersFinished);
  return continueAsNew<typeof replicateDirectory>(copy.input, {
    passes: copy.status.passes,
    passesSoFar: copy.passesSoFar,
    limitKiBps: copy.status.limitKiBps,
    isPaused: copy.isPaused,
  });
}

function outcomeOf(copy: Copy): Omit<TransferOutcome, 'ready' | 'notConverging' | 'advice'> {
  const projection = project(figures(copy));
  return {
    id: copy.input.transfer.id,
    mode: copy.input.mode,
    passes: copy.status.passes,
    projectedFinalSeconds: projection.finalSeconds,
    projectedErrorSeconds: projection.errorSeconds,
    ...(copy.linkBytesPerSecond !== undefined && { linkBytesPerSecond: copy.linkBytesPerSecond }),
    ...(copy.isWhole && { isWhole: true as const }),
    destinationState: 'incomplete',
  };
}

function limitOf(copy: Copy): { kiBps: number; changesInMs?: number } {
  if (copy.input.mode === 'final') return { kiBps: 0 };
  return limitAt(copy.input.schedule, copy.status.limitKiBps, new Date());
}

function figures(copy: Copy): PassFigures[] {
  return figuresOf(copy.status.passes, copy);
}

function summarize(
  pass: number,
  mode: 'live' | 'final',
  limitKiBps: number,
  report: PassReport,
): PassSummary & { scanSeconds: number; limitKiBps: number } {
  return {
    pass,
    mode,
    startedAt: report.startedAt,
    seconds: report.seconds,
    scanSeconds: report.scanSeconds,
    limitKiBps,
    files: report.files,
    filesTransferred: report.filesTransferred,
    deleted: report.deleted,
    totalBytes: report.totalBytes,
    literalBytes: report.literalBytes,
    matchedBytes: report.matchedBytes,
    bytesPerSecond: report.seconds > 0 ? Math.round(report.wireBytes / report.seconds) : 0,
    vanished: report.vanished,
    explanation: report.explanation,
  };
}

function tell(copy: Copy, why: string): void {
  setCurrentDetails(`${copy.input.transfer.id}: pass ${copy.passesSoFar}; ${why}`);
}

function readInput(request: ReplicateRequest): ReplicateInput {
  const parsed = replicateInputSchema.safeParse(request);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'input'}: ${issue.message}`);
  throw fail('Permanent', 'the input is not one of replicateDirectory', {
    cause: problems.join('; '),
    untouched: 'nothing was touched',
    next: 'ferry schema copy',
  });
}

function notTheSame(input: ReplicateInput, differing: number, differences: readonly Difference[]): ApplicationFailure {
  const { id, source, destination } = input.transfer;
  const named = differences.slice(0, 5).map(({ path, what }) => `${path} (${what})`);
  const links = differences.some(isAboutLinks)
    ? `; where nothing but hard links differs, remove these names on ${destination.host}`
    : '';
  return fail('NeedsHuman', `${id} is not the same on both sides`, {
    cause: `after the last delta and one comparison of all content ${differing} entries differ: ${named.join(', ')}`,
    untouched: 'the source is untouched; the destination stays marked incomplete',
    next: `find what writes to ${source.host}:${source.path} or ${destination.host}:${destination.path}, stop it${links}, then resume`,
  });
}

function isAboutLinks({ what }: Difference): boolean {
  return /(?:^|, )hard links /.test(what);
}

function fail(type: 'NeedsHuman' | 'Permanent', what: string, detail: FailureDetail): ApplicationFailure {
  return ApplicationFailure.create({
    type,
    nonRetryable: true,
    message: `${what}: ${detail.cause}. Untouched: ${detail.untouched}. Next: ${detail.next}`,
    details: [detail],
  });
}

function label(text: string): string {
  return clip(text, 200);
}

function ignoreCancellation(error: unknown): void {
  if (!isCancellation(error)) throw error;
}
