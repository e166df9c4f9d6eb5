import type { ReplicateInput } from '../plan/replicate.ts';
import type { Evidence } from './contract.ts';

/*
 * Shapes of the mover's activities. Small references in, small evidence out: no file list and no log travels. Failures are those of
 * contract.ts.
 */

/** How one round copies; decided from what both machines can do, and explained. */
export interface CopyChoice {
  tool: 'rsync' | 'tar';
  /** Times are compared and set to the nanosecond; else to the second, and content decides. */
  nanoseconds: boolean;
  inplace: boolean;
  sparse: boolean;
  /** Delta block size in bytes; 0 leaves it to rsync. */
  blockSize: number;
  compress: 'none' | 'zstd' | 'lz4' | 'zlib';
  /** Of zstd; absent: 1. */
  compressLevel?: number;
  /** rsync knows `--info` (3.1 or later). */
  info: boolean;
  cipher: string;
  /** Bytes per second that the wire carried when it was tried; absent where there is none or it gave no answer. */
  linkBytesPerSecond?: number;
  /** Streams that share the first copy of a large tree. */
  streams: number;
  /** tar carries the first copy into an empty place, and rsync looks it over; absent: rsync does all. */
  tarFirst?: boolean;
  /** Machines to which rsync was brought for this transfer. */
  brought?: ('source' | 'destination')[];
  digest: 'sha256' | 'blake2b';
  /** Why each choice was made; one line per surprising choice. */
  reasons: string[];
}

export interface Prepared {
  choice: CopyChoice;
  /** The source's file system leaves no trace of mapped writes in a file's times: only content decides, in every pass. */
  contentAll?: boolean;
  /** Size and number of entries of the source as counted now. */
  bytes: number;
  files: number;
  /** Bytes that the destination held already. */
  bytesThere: number;
  /** One line for people: what was checked. */
  proof: string;
}

export interface PassInput {
  request: ReplicateInput;
  choice: CopyChoice;
  /** From 1; unique in one run of the workflow together with `attempt`. */
  pass: number;
  mode: 'live' | 'final';
  /** KiB/s on the wire, 0 = unlimited. */
  limitKiBps: number;
  /** `all`: compare the content of every file. */
  content: 'changed' | 'all';
  /** Names at the destination share a file that do not at the source: rsync makes links and breaks none, so all are parted first. */
  partLinks?: boolean;
  /** Bytes this pass is expected to read at most; for progress. */
  expectedBytes: number;
}

export interface PassReport {
  startedAt: string;
  seconds: number;
  /** Seconds of it that were spent on looking before and beside moving bytes. */
  scanSeconds: number;
  files: number;
  filesTransferred: number;
  deleted: number;
  totalBytes: number;
  /** Size of the files that had to be looked into. */
  transferredSize: number;
  literalBytes: number;
  matchedBytes: number;
  wireBytes: number;
  /** Files whose content was compared because they may have changed since the last pass. */
  doubtful: number;
  vanished: boolean;
  explanation: string;
}

/** Heartbeat of a pass, and of the comparison after it. `bytes` never goes back, whichever try reports. */
export interface CopyProgress {
  pass: number;
  step: 'starting' | 'flushing' | 'comparing' | 'copying' | 'ending' | 'verifying';
  bytes: number;
  /** Of them those that an earlier job of the pass had done. */
  before?: number;
  total: number;
  files: number;
  bytesPerSecond: number;
  etaSeconds?: number;
  currentFile?: string;
  /** Offset of the running job that an observer who takes over needs. */
  job: string;
}

export interface Difference {
  /** Name in the tree; odd bytes are shown as `\xHH`. */
  path: string;
  /** `missing at destination`, `extra at destination`, or what differs: `content`, `owner`, `mode`, … with both values. */
  what: string;
}

export interface Verification {
  equal: boolean;
  kind: 'metadata' | 'sampled' | 'full';
  /** Root digest, `sha256:…`; present when equal. */
  digest?: string;
  entries: number;
  bytes: number;
  seconds: number;
  /** At most 20. */
  differences: Difference[];
  /** Number of entries that differ in all. */
  differing: number;
  proof: string;
}

export interface TransferActivities {
  /** Looks at both machines, applies all guards, marks the destination, admits the source with a key of this transfer only. */
  prepareTransfer(input: { request: ReplicateInput; mode: 'live' | 'final' }): Promise<Prepared>;
  /** One pass; re-attaches to one that runs already. Heartbeats CopyProgress. */
  runPass(input: PassInput): Promise<PassReport>;
  /** Refuses while anything has the source open or mapped for writing, mounts it into a container or touches it by cron. */
  proveQuiet(input: { request: ReplicateInput }): Promise<Evidence>;
  /** Compares both sides and answers what differs; a difference is no failure of the activity. `pass`: the last one, for progress. */
  verifyTransfer(input: { request: ReplicateInput; choice: CopyChoice; pass?: number }): Promise<Verification>;
  /** Takes the key away, ends what still runs, and notes the state of the destination. */
  finishTransfer(input: { request: ReplicateInput; verified?: string }): Promise<Evidence>;
}
