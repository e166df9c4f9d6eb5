import type { Locator, Page } from 'playwright-core';

/* What people do in Temporal's Web UI, by what they see there. */

const namespace = '/namespaces/default/workflows';

/** The list of workflows under a query, as somebody types it. */
export async function openList(page: Page, ui: string, query: string): Promise<string[]> {
  await page.goto(`${ui}${namespace}?query=${encodeURIComponent(query)}`);
  const links = page.getByTestId('workflows-summary-configurable-table-row').locator('a[href*="/workflows/"]');
  await links.first().waitFor();
  return links.allInnerTexts();
}

/** The page of one workflow, on its timeline; only the rows that are in sight are drawn, so that the window has to be a tall one. */
export async function openWorkflow(page: Page, ui: string, workflowId: string): Promise<void> {
  await page.goto(`${ui}${namespace}/${workflowId}`);
  await page.getByRole('heading', { name: 'Timeline' }).waitFor();
}

/** Labels of bars on the timeline, as they are read there. */
export async function waitForBars(page: Page, labels: readonly string[]): Promise<void> {
  for (const label of labels) await page.getByText(label, { exact: true }).first().waitFor();
}

/** The Markdown that the workflow says of itself; it is drawn in a frame of its own. */
export async function openDetails(page: Page): Promise<Locator> {
  await page.locator('a:visible, [role=tab]:visible').filter({ hasText: 'User Metadata' }).first().click();
  const body = page.locator('iframe[src*="/render"]').last().contentFrame().locator('body');
  await body.locator('table').first().waitFor();
  return body;
}

/** Opens the form of a signal or an update, chooses its name, fills in the input and sends it. */
export async function send(page: Page, form: 'Signal' | 'Update', name: string, input: object): Promise<Locator> {
  await page.locator('button:visible').filter({ hasText: 'More Actions' }).click();
  await page
    .locator('[role=menuitem]:visible')
    .filter({ hasText: `Send a${form === 'Update' ? 'n' : ''} ${form}` })
    .click();
  const dialog = page.locator('dialog[open]');
  await dialog.getByTestId(`${form.toLowerCase()}-select-button`).click();
  await dialog.locator('[role=option]:visible').filter({ hasText: name }).click();
  const editor = dialog.locator('[role=textbox][aria-label=Data]');
  await editor.click();
  // As the editor itself would lay it out: a form that grows when it is left moves its button away under the click.
  await page.keyboard.insertText(JSON.stringify(input, null, 2));
  await editor.blur();
  await dialog.getByTestId('confirm-modal-button').click();
  return dialog;
}
