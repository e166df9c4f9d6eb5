export { migrateNodes } from '../../src/workflows/migrate-nodes.ts';
export { replicateDirectory } from './copy-in-a-model.ts';
export { tellPeople } from '../../src/workflows/tell-people.ts';
