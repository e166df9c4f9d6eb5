import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import type { WorkerOptions } from '@temporalio/worker';

/*
 * Workflows run in a sandbox of their own, as one file. The package brings that file along: bundling at every start takes seconds, and
 * half of the memory that a worker ever needs. Sources run as they are, and are bundled when they start.
 */

const bundle = fileURLToPath(new URL('workflow-bundle.generated.cjs', import.meta.url));
/** The sources run as they are, or compiled: the entry file has the extension that this file has. */
const entry = fileURLToPath(
  new URL(`workflows/all${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
);

/** What a worker runs as workflows. */
export function workflowCode(): Pick<WorkerOptions, 'workflowBundle'> | Pick<WorkerOptions, 'workflowsPath'> {
  return existsSync(bundle) ? { workflowBundle: { codePath: bundle } } : { workflowsPath: entry };
}

async function writeBundle(): Promise<void> {
  // Where it was built is nobody's business, and no reason for two builds to differ.
  const root = join(dirname(bundle), '..');
  const nameOf = ({ resourcePath }: { resourcePath: string }): string => resourcePath.replaceAll(root, '.');
  const { code } = await bundleWorkflowCode({
    workflowsPath: entry,
    logger: new DefaultLogger('WARN'),
    webpackConfigHook: (config) => ({
      ...config,
      devtool: 'inline-nosources-source-map',
      output: { ...config.output, devtoolModuleFilenameTemplate: nameOf },
    }),
  });
  await writeFile(bundle, escaped(code));
}

/** In ASCII: one arrow or dash makes V8 keep all of the code at two bytes a letter, in the worker and once more in the workflows' thread. */
function escaped(code: string): string {
  return code.replaceAll(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** `node dist/workflow-bundle.js`, the last step of the build. */
if (import.meta.main) await writeBundle();
