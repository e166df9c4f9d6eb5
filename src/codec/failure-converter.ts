import { DefaultFailureConverter } from '@temporalio/common';

/**
 * Moves message and stack of failures into a payload, which codecs seal: they name hosts and paths. The SDK loads this file by its
 * path, into the worker and into the workflows' sandbox, and looks for this name.
 */
export const failureConverter = new DefaultFailureConverter({ encodeCommonAttributes: true });
