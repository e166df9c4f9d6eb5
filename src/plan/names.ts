/* Names that the command line needs before it needs a schema: nothing is imported here. */

export const gateNames = ['open-downtime', 'remove-nodes', 'close-downtime'] as const;
export type GateName = (typeof gateNames)[number];

/** Where the Secrets are saved on the control host when nobody says otherwise. */
export const defaultBackupDirectory = '/var/lib/ferry/backup';
