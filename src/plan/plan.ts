import { z } from 'zod';
import { defaultBackupDirectory } from './names.ts';

export { defaultBackupDirectory, gateNames } from './names.ts';
export type { GateName } from './names.ts';

/** A DNS-1035 label, which the platform demands of node names. */
export const dnsLabel = z.string().regex(/^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/, 'must be a DNS-1035 label');

/** An absolute path without `..`, `//`, control characters or a trailing slash; never `/` itself. */
export const absolutePath = z
  .string()
  .regex(/^(\/[^/\u0000-\u001f\u007f]+)+$/, 'must be an absolute path without a trailing slash')
  .refine((path) => !path.split('/').some((part) => part === '..' || part === '.'), 'must not contain "." or ".."');

export const componentKinds = [
  'mariadb',
  'mongodb',
  'redis',
  'kafka',
  'zookeeper',
  'opensearch',
  'etcd',
  'nsq',
  'policy-engine',
  'nebula',
  'prometheus',
  'grafana',
  'package-store',
  'proton-monitor',
] as const;
export type ComponentKind = (typeof componentKinds)[number];

/** How a machine is reached over ssh. */
export const hostSchema = z.strictObject({
  /** The name of its Node. */
  name: dnsLabel,
  /** Where the worker and the other machines reach it. */
  address: z.string().min(1),
  port: z.int().min(1).max(65535).default(22),
  user: z
    .string()
    .regex(/^[a-z_][-a-z0-9_]*$/)
    .default('root'),
  /** Its public keys, e.g. `ssh-ed25519 AAAA…`. A machine that shows another one is refused. */
  hostKeys: z.array(z.string().regex(/^(ssh-|ecdsa-)[-a-z0-9@.]+ [A-Za-z0-9+/=]+$/)).min(1),
  role: z.enum(['old', 'new', 'other']).default('other'),
  /** Where its console is, for people: shown when it does not come back. Never used by the program. */
  bmc: z.string().min(1).max(200).optional(),
});
export type Host = z.infer<typeof hostSchema>;

export const endSchema = z.strictObject({ host: dnsLabel, path: absolutePath });
export type End = z.infer<typeof endSchema>;

/** Allows the worker to lay its own rsync on a machine that has none, for the time of a transfer. */
export const bringRsyncSchema = z.strictObject({
  /** On the worker's machine, static or with its libraries; absent: the one that the worker finds in its PATH. */
  program: absolutePath.optional(),
});

/** One directory to move: the data of one ordinal of one component, or a host service's directory. */
export const transferSchema = z.strictObject({
  /** Unique in the plan; names units, locks, markers and child workflows: `redis-0`, `host-old1-cr-data`. */
  id: z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/),
  subject: z.discriminatedUnion('type', [
    z.strictObject({ type: z.literal('component'), component: z.enum(componentKinds), ordinal: z.int().min(0) }),
    z.strictObject({ type: z.literal('host-service'), service: z.string().min(1) }),
  ]),
  source: endSchema,
  destination: endSchema,
  /** Observed when the plan was made: apparent bytes and number of files of the source, bytes free at the destination. */
  observed: z.strictObject({ bytes: z.int().min(0), files: z.int().min(0), freeBytes: z.int().min(0) }).optional(),
});
export type Transfer = z.infer<typeof transferSchema>;

/** One ordinal of a component: which Kubernetes objects hold its data (snapshot of names, never labels). */
export const replicaSchema = z.strictObject({
  ordinal: z.int().min(0),
  /** Old host. */
  from: dnsLabel,
  /** New host. */
  to: dnsLabel,
  pod: z.string(),
  pvc: z.string(),
  pv: z.string(),
});
export type Replica = z.infer<typeof replicaSchema>;

export const componentSchema = z.strictObject({
  kind: z.enum(componentKinds),
  namespace: dnsLabel,
  /** StatefulSets that run it (nebula has three). */
  statefulSets: z.array(z.string()).min(1),
  /** The directory on the old hosts. */
  dataPath: absolutePath,
  /** The directory on the new hosts. */
  newDataPath: absolutePath,
  replicas: z.array(replicaSchema).min(1),
});
export type PlannedComponent = z.infer<typeof componentSchema>;

export const gateSchema = z.strictObject({
  /** Who may decide; empty: anybody but the author (unless `selfApproval`). */
  approvers: z.array(z.string().min(1)).default([]),
  /** How many different approvers are needed. */
  required: z.int().min(1).default(1),
  /** Whether the author of the plan may approve. */
  selfApproval: z.boolean().default(false),
});

const clockSchema = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'not a time of the day such as 22:00');

/** Bandwidth limits for hours of the day. */
export const limitScheduleSchema = z.array(
  z
    .strictObject({ from: clockSchema, to: clockSchema, limitKiBps: z.int().min(0) })
    .refine(({ from, to }) => from !== to, {
      path: ['to'],
      message: 'the same as `from`: no time at all, or all day, for which preCopyKiBps is there',
    }),
);

export const limitsSchema = z.strictObject({
  /** KiB/s per source host while applications run; 0 = unlimited. Shared fairly by the transfers of a host. */
  preCopyKiBps: z.int().min(0).default(50_000),
  /** Other such limits for hours of the day, UTC, e.g. 22:00 to 06:00; the first that holds counts, and `tune` changes only the limit outside of them. */
  preCopySchedule: limitScheduleSchema.optional(),
  /** Transfers at the same time per host pair. */
  transfersPerHost: z.int().min(1).max(16).default(4),
  /** Pre-copy passes before a transfer that does not converge is reported as such. */
  maxPasses: z.int().min(1).default(10),
  /** Seconds between freshening rounds while the gate is parked. */
  refreshSeconds: z.int().min(10).default(300),
  /** Worker nodes that may reboot at the same time; control-plane nodes always go one at a time. */
  parallelReboots: z.int().min(1).default(1),
  /** How often a flaky apply that removes nodes is tried. */
  applyAttempts: z.int().min(1).max(10).default(4),
  /** Seconds between tries of a flaky apply. */
  applyBackoffSeconds: z.int().min(1).default(60),
});

/** Phases of the window that take about as long every time. `final-copy` is not among them: it is projected from what the copies measure. */
export const windowPhases = [
  'stop-apps',
  'add-nodes',
  'edit-secrets',
  'uninstall',
  'stop-host-services',
  'start-host-services',
  'reinstall',
  'remove-nodes',
  'start-apps',
] as const;

export const planSchema = z.strictObject({
  apiVersion: z.literal('ferry.migration/v1'),
  kind: z.literal('MigrationPlan'),
  /** Names the migration: workflow id `migrate-<cluster>`. */
  cluster: dnsLabel,
  /** Who made the plan; may not approve it, unless a gate has `selfApproval`. */
  author: z.string().min(1),
  createdAt: z.iso.datetime(),
  platform: z.strictObject({
    /** Namespace of the Secret `proton-cli-config`. */
    configNamespace: dnsLabel.default('proton'),
    /** Namespace of the components and of what the platform recorded of them. */
    resourceNamespace: dnsLabel.default('resource'),
    /** The host where proton-cli runs: an original master. */
    controlHost: dnsLabel,
    /** Extracted dependency package on the control host; proton-cli runs inside it. */
    packageDirectory: absolutePath,
    /** Home directory of the user that runs proton-cli (proton-cli ignores KUBECONFIG). */
    home: absolutePath.default('/root'),
    /** Its name or path on the control host. */
    protonCli: z.string().min(1).default('proton-cli'),
    containerRuntime: z.enum(['containerd', 'docker']),
    /** What was seen when the plan was made; evidence only. */
    versions: z.record(z.string(), z.string()).default({}),
  }),
  /** Every machine that takes part: the control host, the old ones, the new ones. */
  hosts: z.array(hostSchema).min(1),
  /** Which new machine replaces which old one: a bijection. */
  mapping: z.array(z.strictObject({ from: dnsLabel, to: dnsLabel })).min(1),
  nodes: z.strictObject({
    /** New machines that are no Nodes yet. */
    add: z.array(z.strictObject({ name: dnsLabel, ip4: z.ipv4(), controlPlane: z.boolean() })),
    /** Nodes that leave at the end. */
    remove: z.array(dnsLabel),
  }),
  /**
   * Present when API server and etcd run as static pods on the platform's own masters (kubeadm's stacked topology): then masters join and
   * leave one at a time, and etcd members with them. Absent: the control plane runs elsewhere and nodes come and go by the tool alone.
   */
  controlPlane: z
    .strictObject({
      etcd: z.literal('stacked'),
      /** Masters when the plan was made, in the order of `cs.master`. */
      masters: z.array(dnsLabel).min(1),
      /** Whether the migration may pass through moments in which the loss of one more member stops the API. */
      withoutSpare: z.enum(['refuse', 'accept']).default('refuse'),
    })
    .optional(),
  /** The databases, brokers and stores that move. */
  components: z.array(componentSchema),
  /** The directories that are copied. */
  transfers: z.array(transferSchema),
  hostServices: z
    .strictObject({
      /** Only hosts whose host directories move (or whose runtime must be restarted) are stopped. */
      hosts: z.array(dnsLabel).default([]),
      /** Units of systemd that are stopped and started there, where they exist. */
      units: z
        .array(z.string().regex(/^[A-Za-z0-9@._-]+$/))
        .default([
          'docker.socket',
          'docker',
          'kubelet',
          'containerd',
          'proton-cr',
          'proton-cr-registry',
          'proton-cr-chartmuseum',
        ]),
      /** `reboot`: the machine is rebooted before its units are started. */
      restart: z.enum(['start', 'reboot']).default('start'),
    })
    .prefault({}),
  /**
   * The registry on the nodes of `cr.local.hosts`, where images and charts of applications live: none of them leaves, its data is copied to
   * their successors, or people push the application packages again.
   */
  containerRegistry: z.enum(['not-moved', 'copy-data', 're-push']).default('not-moved'),
  applications: z.strictObject({
    /** Namespaces whose workloads are stopped for the window. */
    namespaces: z.array(dnsLabel),
  }),
  images: z
    .strictObject({
      /** Whether the images in use are loaded onto the new machines before the window. */
      prewarm: z.boolean().default(true),
      /** Images to load besides those. */
      references: z.array(z.string()).default([]),
    })
    .prefault({}),
  backup: z
    .strictObject({
      /** Directory on the control host that receives the Secrets (0600, in a directory of their own, 0700); one that exists keeps its mode. */
      directory: absolutePath.default(defaultBackupDirectory),
      /** File with a 32-byte AES-256-GCM key on the worker; absent: stored as they are, mode 0600. */
      keyFile: absolutePath.optional(),
    })
    .prefault({}),
  gates: z
    .strictObject({
      'open-downtime': gateSchema.prefault({}),
      'remove-nodes': gateSchema.prefault({}),
      'close-downtime': gateSchema.prefault({}),
      /** When old nodes are removed: right after reinstall, or only after applications run again. */
      removeNodesAfter: z.enum(['reinstall', 'start-apps']).default('reinstall'),
    })
    .prefault({}),
  /** How both sides of a copy are compared at its end: names, sizes, times and rights; also short files and samples of long ones; or every byte. */
  verify: z.enum(['metadata', 'sampled', 'full']).default('full'),
  /** Present: a machine without rsync is lent the worker's for each transfer. Absent: its copies go through tar, whole in every pass. */
  bringRsync: bringRsyncSchema.optional(),
  limits: limitsSchema.prefault({}),
  downtime: z
    .strictObject({
      /** Going beyond it tells people; nothing is stopped for it. */
      budgetSeconds: z.int().min(1).default(3600),
      /** Seconds per phase where you know better than the defaults, e.g. from the report of a rehearsal: `reinstall: 420`. */
      expectedSeconds: z.partialRecord(z.enum(windowPhases), z.number().min(0)).default({}),
    })
    .prefault({}),
  /** Names of webhook targets configured on the worker; the addresses themselves are secrets and never stand in a plan. */
  notify: z.array(z.string()).default([]),
  /** sha256 of the canonical JSON of everything above; approvals bind to it. */
  digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
});
export type Plan = z.infer<typeof planSchema>;
/** What may be written by hand: fields with defaults may be left out. */
export type PlanInput = z.input<typeof planSchema>;
