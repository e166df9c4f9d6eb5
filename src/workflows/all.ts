/* Entry of the workflow bundle: what a worker can run. */
export { migrateNodes } from './migrate-nodes.ts';
export { replicateDirectory } from './replicate-directory.ts';
export { tellPeople } from './tell-people.ts';
