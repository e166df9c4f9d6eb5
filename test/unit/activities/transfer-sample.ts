import { replicateInputSchema } from '../../../src/plan/replicate.ts';

const host = {
  address: '10.0.0.1',
  hostKeys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGludmVudGVkIGhvc3Qga2V5IG9mIGEgc2FtcGxl'],
};

/** A live copy of one directory between two machines that are not there. */
export const request = replicateInputSchema.parse({
  migration: 'lab',
  transfer: {
    id: 'redis-0',
    subject: { type: 'host-service', service: 'redis' },
    source: { host: 'old1', path: '/sysvol/redis' },
    destination: { host: 'new1', path: '/sysvol/redis' },
  },
  source: { ...host, name: 'old1' },
  destination: { ...host, name: 'new1', address: '10.0.0.2' },
  mode: 'live',
});
